// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title Who may vouch for a provider's signing key
/// @notice A signer charges nobody before it is approved. The service contract obeys governance, an AccessManager: that
/// gives the right to call `approveSigner` to a contract that judges attestations, such as {SignerQuorum}, and keeps
/// `acknowledgeTEESignerByOwner` as its own fallback. Approval ends when the service's identity changes.
interface ISignerApproval {
    /// @notice The signer of a provider was approved or is no longer.
    event ProviderTEESignerAcknowledged(
        address indexed provider,
        address indexed teeSignerAddress,
        bool acknowledged
    );

    /// @notice The provider has no service.
    error ServiceNotExist(address provider);
    /// @notice The service is not what the approval was meant for.
    error ServiceChanged(address provider, address signer, bytes32 identity);
    /// @notice The service names no signer.
    error SignerMissing(address provider);

    /// @notice Approves exactly this signer of exactly this service. Who may call is governance's to say.
    function approveSigner(address provider, address signer, bytes32 identity) external;

    /// @notice Approves whatever signer the service names now. Governance only; approveSigner is safer.
    function acknowledgeTEESignerByOwner(address provider) external;

    /// @notice Ends the approval. Governance only.
    function revokeTEESignerAcknowledgement(address provider) external;

    /// @notice Hash of everything about the service that an approval rests on.
    function serviceIdentity(address provider) external view returns (bytes32);
}
