// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import { IRewardPools } from "./IRewardPools.sol";

/// @title Reward pools released evenly over the lifetime that the data was paid for
/// @notice `released = total * min(1, elapsed / releaseSeconds)` since the pool started, with `total` all it received.
/// The base reward is paid until then. `releaseSeconds = lifetimeMonths * 31 days`.
interface IStorageReward is IRewardPools {
    /// @notice What nobody claimed of a pool became base rewards.
    event Recycled(uint256 indexed pricingIndex, uint256 amount);

    /// @notice A pool may be recycled after `from`, that is one release time after its deadline; 0 if it never started.
    error NotExpired(uint256 pricingIndex, uint256 from);
    /// @notice A release over no time.
    error ZeroReleaseSeconds();

    /// @notice Turns what nobody claimed of a pool long past its deadline into base rewards, so that no fee is stuck.
    /// Anyone may call.
    function recycle(uint256 pricingIndex) external;

    /// @notice How long a started pool takes to be released.
    function releaseSeconds() external view returns (uint256);

    /// @notice When a pool is fully released; 0 if it was not started.
    function rewardDeadline(uint256 pricingIndex) external view returns (uint256);

    /// @notice The first pool that is not past its deadline, and the time of this block. Nodes need no data below it.
    function firstRewardableChunk() external view returns (uint64 pricingIndex, uint256 timestamp);
}
