// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @notice Epochs and the two newest signer tables, in one word of storage.
/// @param anchorEpoch An epoch and its first block, from which the others follow. It may be the next one.
/// @param latestFrom The epoch from which the newest table holds, and the page of that table.
/// @param previousFrom The same of the table before it.
struct Clock {
    uint40 anchorEpoch;
    uint40 anchorBlock;
    uint24 epochBlocks;
    uint40 latestFrom;
    uint32 latestTable;
    uint40 previousFrom;
    uint32 previousTable;
}

/// @title EpochClock
/// @notice Epochs from the block number.
library EpochClock {
    /// @notice The epoch of this block.
    function epoch(Clock memory clock) internal view returns (uint256) {
        // Only right after the length of epochs changed does the anchor lie ahead, one epoch at most.
        if (block.number < clock.anchorBlock) return clock.anchorEpoch - 1;
        return clock.anchorEpoch + (block.number - clock.anchorBlock) / clock.epochBlocks;
    }

    /// @notice First block of the next epoch.
    function nextStart(Clock memory clock) internal view returns (uint256) {
        if (block.number < clock.anchorBlock) return clock.anchorBlock;
        uint256 blocks = clock.epochBlocks;
        return block.number + blocks - (block.number - clock.anchorBlock) % blocks;
    }
}
