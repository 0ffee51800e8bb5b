// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import { IStorageReward } from "../interfaces/IStorageReward.sol";
import { RewardPools } from "./RewardPools.sol";

/// @title StorageReward
/// @notice See {IStorageReward}.
contract StorageReward is IStorageReward, RewardPools {
    /* IMMUTABLES */

    /// @inheritdoc IStorageReward
    uint256 public immutable releaseSeconds;

    constructor(
        address authority_,
        address flow_,
        address market_,
        address mine_,
        uint256 poolSectors_,
        uint256 releaseSeconds_
    ) RewardPools(authority_, flow_, market_, mine_, poolSectors_) {
        if (releaseSeconds_ == 0) revert ZeroReleaseSeconds();
        releaseSeconds = releaseSeconds_;
    }

    /* RECYCLING */

    /// @inheritdoc IStorageReward
    function recycle(uint256 pricingIndex) external {
        uint256 deadline = rewardDeadline(pricingIndex);
        uint256 from = deadline == 0 ? 0 : deadline + releaseSeconds;
        if (from == 0 || block.timestamp <= from) revert NotExpired(pricingIndex, from);
        Pool storage pool = _pools[pricingIndex];
        uint256 amount = uint256(pool.locked) + pool.claimable;
        pool.locked = 0;
        pool.claimable = 0;
        totalBaseReward += amount;
        emit Recycled(pricingIndex, amount);
    }

    /* VIEWS */

    /// @inheritdoc IStorageReward
    function rewardDeadline(uint256 pricingIndex) public view returns (uint256) {
        uint256 startTime = _pools[pricingIndex].startTime;
        return startTime == 0 ? 0 : startTime + releaseSeconds;
    }

    /// @inheritdoc IStorageReward
    /// @dev Deadlines rise with the index, because pools start in order: double past the end, then halve.
    function firstRewardableChunk() external view returns (uint64 pricingIndex, uint256 timestamp) {
        uint256 high = 1024;
        while (_expired(high)) high *= 2;
        uint256 low = 0;
        while (low < high) {
            uint256 middle = (low + high) / 2;
            if (_expired(middle)) low = middle + 1;
            else high = middle;
        }
        // A flow of 2^63 sectors has 2^38 pools.
        return (uint64(low), block.timestamp);
    }

    /* RULES OF RELEASE */

    /// @inheritdoc RewardPools
    function _released(Pool memory pool) internal view override returns (uint256) {
        uint256 done = uint256(pool.claimable) + pool.distributed;
        uint256 total = pool.locked + done;
        uint256 elapsed = block.timestamp - pool.startTime;
        uint256 expected = elapsed >= releaseSeconds ? total : (total * elapsed) / releaseSeconds;
        return expected > done ? expected - done : 0;
    }

    /// @inheritdoc RewardPools
    function _basePaid(Pool memory pool) internal view override returns (bool) {
        return pool.startTime != 0 && pool.startTime + releaseSeconds > block.timestamp;
    }

    function _expired(uint256 pricingIndex) private view returns (bool) {
        uint256 deadline = rewardDeadline(pricingIndex);
        return deadline != 0 && deadline < block.timestamp;
    }
}
