// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title A service contract whose providers put something at stake
/// @notice The stakes themselves lie in {IProviderStakes}. Amounts in wei.
interface IStakedService {
    /// @notice The provider bonded so much with a new service.
    event ProviderStaked(address indexed provider, uint256 amount);
    /// @notice Part of the known surface; {IProviderStakes} says it when a stake is claimed.
    event ProviderStakeReturned(address indexed provider, uint256 amount);

    /// @notice A new service, or the approval of a signer, needs a stake of at least `required`.
    error InsufficientStake(uint256 provided, uint256 required);
    /// @notice An update of a service takes no value: see {IProviderStakes}.
    error CannotAddStakeWhenUpdating();
    /// @notice Only the contract that holds the stakes may say so.
    error CallerNotStakes(address caller);

    /// @notice A provider's stake was slashed below the minimum: its signer is no longer approved.
    function onStakeShort(address provider) external;

    /// @notice The least stake of a service.
    function MIN_PROVIDER_STAKE() external view returns (uint256);

    /// @notice The contract that holds the stakes.
    function stakes() external view returns (address);
}
