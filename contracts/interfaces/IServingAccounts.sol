// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import { IServing } from "./IServing.sol";
import { ISubAccounts } from "./ISubAccounts.sol";

/// @notice What a service contract is deployed with. Stakes in wei, times in seconds.
struct ServingParameters {
    /// Who governs; see {Governance}.
    address authority;
    /// {LedgerManager}, may be deployed later at this address.
    address ledger;
    uint256 minProviderStake;
    /// {ProviderStakes}, may be deployed later at this address.
    address stakes;
    /// How long refunds are locked at first.
    uint256 lockTime;
    /// The shortest lock time that governance can set.
    uint256 minLockTime;
}

/// @title Sub-accounts: money of one user set aside for one provider
/// @notice Money comes from the ledger and leaves in two ways: to the provider by a settlement, back to the ledger by a
/// refund after the lock time. Nobody else can move it. The lock time gives the provider the time to charge what it
/// has served; a change of it touches no refund asked for before.
interface IServingAccounts is IServing, ISubAccounts {
    /* EVENTS */

    /// @notice A sub-account was removed.
    event AccountDeleted(address indexed user, address indexed provider, uint256 refundedAmount);
    /// @notice A sub-account's balance is `amount` now, `pendingRefund` of it on its way back.
    event BalanceUpdated(address indexed user, address indexed provider, uint256 amount, uint256 pendingRefund);
    /// @notice A refund is pending in slot `index`.
    event RefundRequested(address indexed user, address indexed provider, uint256 indexed index, uint256 timestamp);
    /// @notice Refunds asked for from now on are locked for so long.
    event LockTimeUpdated(uint256 oldLockTime, uint256 newLockTime);
    /// @notice From `from` on (seconds; 0: never) the provider may charge the user only what the user signed.
    event SignedChargesOnly(address indexed user, address indexed provider, uint256 from);
    /// @notice The contract was set up by its constructor.
    event Initialized(uint8 version);
    /// @notice Who governs; said once, at deployment.
    event OwnershipTransferred(address indexed previousOwner, address indexed newOwner);

    /* ERRORS */

    /// @notice The sub-account is there already.
    error AccountExists(address user, address provider);
    /// @notice There is no such sub-account.
    error AccountNotExists(address user, address provider);
    /// @notice A sub-account that holds money is not removed.
    error AccountNotEmpty(address user, address provider, uint256 balance);
    /// @notice Additional info is limited to 4096 bytes.
    error AdditionalInfoTooLong();
    /// @notice Part of the known surface: everything is set up by the constructor, there is nothing to initialise.
    error AlreadyInitialized();
    /// @notice A balance beyond 2^96 - 1 wei.
    error BalanceTooLarge(uint256 balance);
    /// @notice A provider's signer stays acknowledged while there is money to be charged.
    error CannotRevokeWithNonZeroBalance(address user, address provider, uint256 balance);
    /// @notice Money enters through the ledger alone.
    error DirectDepositsDisabled();
    /// @notice Kept for clients that decode it: a sixth refund joins the newest one instead.
    error TooManyRefunds(address user, address provider);
    /// @notice A user has sub-accounts with 50 providers at most in one service contract.
    error TooManyProvidersForService(uint256 current, uint256 maximum);

    /* USERS */

    /// @notice Says whether the caller trusts the provider's signer to charge it. Funding a sub-account says yes.
    /// @dev No only with an empty sub-account.
    function acknowledgeTEESigner(address provider, bool acknowledged) external;

    /// @notice Lets the provider charge the caller only what the caller signed, whatever the provider's signer signs.
    /// In force at once while the sub-account is empty or absent, else after the lock time, so that what was served
    /// before can be charged. Ends at once.
    function setSignedChargesOnly(address provider, bool enabled) external;

    /// @notice From when on the provider may charge the user only what the user signed; 0: no such time.
    function signedChargesOnlyFrom(address user, address provider) external view returns (uint256);

    /* VIEWS */

    /// @notice The shortest lock time that governance can set, in seconds.
    function MIN_LOCKTIME() external view returns (uint256);

    /// @notice The longest lock time that governance can set: seven days.
    function MAX_LOCKTIME() external view returns (uint256);

    /// @notice How long a refund asked for now is locked, in seconds.
    function lockTime() external view returns (uint256);

    /// @notice The ledger that money comes from and goes back to.
    function ledgerAddress() external view returns (address);

    /// @notice The governance contract.
    function owner() external view returns (address);

    /// @notice Always true.
    function initialized() external view returns (bool);

    /* GOVERNANCE */

    /// @notice Sets the lock time of refunds asked for from now on.
    function updateLockTime(uint256 lockTime_) external;
}
