// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title What providers put at stake
/// @notice Registering a service bonds a stake with the service contract. Taking it back means waiting: bonded →
/// unbonding → claimed. A slasher, a contract that judges evidence of misconduct, can take part of what is bonded or
/// unbonding: at most a quarter per provider and day, half of it burnt. Governance can announce a new slasher; it has
/// no power before twice the unbonding time has passed, so that a provider who does not trust it can leave with
/// everything. Amounts in wei, times in seconds.
/// @dev Stakes are kept by the service contract they were bonded from, so any contract may keep stakes here: none can
/// reach another's.
interface IProviderStakes {
    /* EVENTS */

    /// @notice The provider bonded so much for its service.
    event StakeBonded(address indexed service, address indexed provider, uint256 amount);
    /// @notice The provider may claim `amount` more from `releaseAt` on.
    event StakeUnbonding(address indexed service, address indexed provider, uint256 amount, uint256 releaseAt);
    /// @notice The provider was paid so much of its stake.
    event ProviderStakeReturned(address indexed provider, uint256 amount);
    /// @notice The provider lost `amount`: `reward` went to the slasher, the rest was burnt.
    event StakeSlashed(address indexed service, address indexed provider, uint256 amount, uint256 reward);
    /// @notice `slasher` decides about stakes from `from` on.
    event SlasherAnnounced(address indexed slasher, uint256 from);

    /* ERRORS */

    /// @notice What is left must reach the minimum of the service.
    error InsufficientStake(uint256 provided, uint256 required);
    /// @notice Nothing is unbonding, or not until `releaseAt`.
    error StakeNotReleased(uint256 amount, uint256 releaseAt);
    /// @notice The provider has no stake in the service.
    error NotStaked(address service, address provider);
    /// @notice Only the slasher may slash.
    error CallerNotSlasher(address caller);
    /// @notice At most `max` may be taken, and not before `from`.
    error SlashNotAllowed(uint256 amount, uint256 max, uint256 from);
    /// @notice The payee refused its money.
    error TransferFailed();

    /* SERVICE CONTRACTS */

    /// @notice Bonds the value sent for a provider of the calling service contract.
    function bond(address provider) external payable;

    /// @notice Begins to unbond all that is bonded for a provider of the calling service contract.
    function unbondAll(address provider) external;

    /* PROVIDERS */

    /// @notice Adds the value to the caller's stake in the service.
    function addStake(address service) external payable;

    /// @notice Begins to unbond part of the caller's stake; the rest must reach the minimum. To take all, end the
    /// service. What is unbonding already waits as long as the new part.
    function requestUnstake(address service, uint256 amount) external;

    /// @notice Pays the caller what has finished unbonding.
    function claimStake(address service) external;

    /// @notice A provider's stake in a service: bonded, unbonding, and when the latter may be claimed.
    function stakeOf(
        address service,
        address provider
    ) external view returns (uint256 bonded, uint256 unbonding, uint256 releaseAt);

    /// @notice How long a stake takes to unbond.
    function unbondingSeconds() external view returns (uint256);

    /* SLASHING */

    /// @notice Takes `amount` of the provider's stake: half is burnt, the slasher receives the other half to pass on.
    /// Slasher only. A service whose stake falls below the minimum is told.
    function slash(address service, address provider, uint256 amount) external;

    /// @notice Who may slash now; the zero address: nobody.
    function slasher() external view returns (address);

    /// @notice The last announced slasher, and from when on it may slash.
    function announcedSlasher() external view returns (address slasher_, uint256 from);

    /* GOVERNANCE */

    /// @notice Announces the next slasher. Governance only.
    function announceSlasher(address slasher_) external;
}
