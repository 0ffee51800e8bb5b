// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title What storage fees become: rewards for those who prove that they hold the data
/// @notice The flow is cut into pricing chunks of `poolSectors` sectors, one pool each. A fee goes to the pools its
/// sectors lie in. A pool starts when the flow has passed its end; from then on it is released over time, and each
/// accepted proof of its data pays half of what is released and unpaid. Amounts in wei, times in seconds.
///
/// Service fee: `fee * serviceFeeRateBps / 10000`, kept apart for the treasury, which draws it itself.
///
/// Base reward: while the rule of release allows, each proof also pays `baseReward`, out of donations alone.
///
/// Every wei received is always part of exactly one of: a pool, the donations, the service fees, a payee's balance.
interface IRewardPools {
    /* EVENTS */

    /// @notice A proof was rewarded.
    event DistributeReward(
        uint256 indexed pricingIndex,
        address indexed beneficiary,
        bytes32 indexed minerId,
        uint256 amount
    );
    /// @notice A payee's balance was paid out.
    event Withdrawn(address indexed payee, uint256 weiAmount);
    /// @notice Somebody added to the base rewards.
    event Donated(address indexed donor, uint256 amount);
    /// @notice The base reward changed.
    event BaseRewardChanged(uint256 before, uint256 amount);
    /// @notice The treasury changed. Fees kept so far were credited to the one before.
    event TreasuryChanged(address indexed before, address indexed treasury);

    /* ERRORS */

    /// @notice A pool covers a power of two of sectors, from `min` to `max`.
    error PoolSectorsOutOfBounds(uint256 poolSectors, uint256 min, uint256 max);
    /// @notice Only the flow may fill pools.
    error CallerIsNotFlow(address caller);
    /// @notice Only the mine may claim rewards.
    error CallerIsNotMine(address caller);
    /// @notice The base reward is bounded.
    error BaseRewardTooHigh(uint256 amount, uint256 max);
    /// @notice A pool that was started takes no more fees.
    error PoolStarted(uint256 pricingIndex);
    /// @notice Nothing is due to this account.
    error NothingDue(address payee);
    /// @notice The payee refused its money.
    error PaymentRefused(address payee, uint256 amount);
    /// @notice There is no treasury to pay.
    error TreasuryMissing();

    /* FILLING */

    /// @notice Takes the fee of one submission. Flow only.
    /// @dev The value is split between padding and upload by their sectors, floored in favour of the upload.
    /// @param beforeLength Length of the flow before the submission.
    /// @param paddingSectors Empty sectors in front of it.
    /// @param uploadSectors Sectors it covers, at least 1.
    /// @param serviceFeeRateBps Part of the value, in hundredths of a per cent, that is kept for the treasury.
    function fillReward(
        uint256 beforeLength,
        uint256 paddingSectors,
        uint256 uploadSectors,
        uint256 serviceFeeRateBps
    ) external payable;

    /// @notice Adds the value to what base rewards are paid from. Anyone.
    function donate() external payable;

    /* CLAIMING */

    /// @notice Credits the reward of one accepted proof in a pricing chunk to the beneficiary. Mine only.
    function claimMineReward(uint256 pricingIndex, address beneficiary, bytes32 minerId) external;

    /// @notice What an account may draw.
    function payments(address payee) external view returns (uint256);

    /// @notice Pays an account all it may draw. Anyone may call; the money goes to the payee alone.
    function withdrawPayments(address payable payee) external;

    /// @notice Credits the service fees kept so far to the treasury, to be drawn with {withdrawPayments}. Anyone.
    function collectServiceFees() external;

    /* VIEWS */

    /// @notice A pool: what is not released, what is released and unpaid, what was paid, when it was started and last
    /// updated (0: never).
    function rewards(
        uint256 pricingIndex
    )
        external
        view
        returns (
            uint128 lockedReward,
            uint128 claimableReward,
            uint128 distributedReward,
            uint40 startTime,
            uint40 lastUpdate
        );

    /// @notice The flow that pays fees in.
    function flow() external view returns (address);

    /// @notice The market that sets the fees.
    function market() external view returns (address);

    /// @notice The mine that claims rewards.
    function mine() external view returns (address);

    /// @notice Sectors whose fees share a pool: 2^25 (8 GiB) on the public networks, less where little data must earn.
    function poolSectors() external view returns (uint256);

    /// @notice Paid on top of each rewarded proof while donations last.
    function baseReward() external view returns (uint256);

    /// @notice Donations not yet paid out.
    function totalBaseReward() external view returns (uint256);

    /// @notice Service fees kept for the treasury and not yet credited to it.
    function serviceFees() external view returns (uint256);

    /// @notice Who receives the service fees.
    function treasury() external view returns (address);

    /* GOVERNANCE */

    /// @notice Sets what each proof from now on is paid out of donations: at most 1000 tokens.
    function setBaseReward(uint256 amount) external;

    /// @notice Sets who receives service fees from now on.
    function setTreasury(address treasury_) external;
}
