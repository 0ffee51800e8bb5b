// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import { IFlow, SubmissionNode } from "../interfaces/IFlow.sol";

/// @title What makes a submission valid, where it goes, and what identifies it
library SubmissionRules {
    /// @notice Bytes in a sector.
    uint256 internal constant SECTOR_BYTES = 256;
    /// @notice log2 of the sectors in a segment.
    uint256 internal constant SEGMENT_HEIGHT = 10;
    /// @notice Node heights stay below this.
    uint256 internal constant MAX_HEIGHT = 64;
    /// @notice First and last node height differ by less than this; so there are at most 4 nodes.
    uint256 internal constant MAX_SPAN = 4;

    /// @notice Checks the nodes of a submission against its length in bytes.
    /// @return sectors What the nodes cover.
    /// @return first Height of the first node.
    function check(
        SubmissionNode[] calldata nodes,
        uint256 length
    ) internal pure returns (uint256 sectors, uint256 first) {
        uint256 count = nodes.length;
        if (count == 0) revert IFlow.NodesMissing();

        first = nodes[0].height;
        if (first >= MAX_HEIGHT) revert IFlow.NodeTooHigh(first);
        sectors = 1 << first;
        uint256 last = first;
        for (uint256 i = 1; i < count; ++i) {
            uint256 height = nodes[i].height;
            if (height >= last) revert IFlow.NodesNotDescending(i, last, height);
            if (first - height >= MAX_SPAN) revert IFlow.NodesTooFarApart(first, height);
            sectors += 1 << height;
            last = height;
        }

        unchecked {
            // Fewer than 2^64 sectors of 256 bytes.
            uint256 above = _mostSectorsOfSmaller(sectors, count, first) * SECTOR_BYTES;
            uint256 atMost = sectors * SECTOR_BYTES;
            if (length <= above || length > atMost) revert IFlow.LengthMismatch(length, above, atMost);
        }
    }

    /// @notice `keccak256` of the node roots one after the other.
    function identity(SubmissionNode[] calldata nodes) internal pure returns (bytes32 digest) {
        assembly ("memory-safe") {
            // Gathers the first word of each 64-byte node behind the free memory pointer, which stays where it is.
            let target := mload(0x40)
            let size := shl(5, nodes.length)
            let source := nodes.offset
            for { let i := 0 } lt(i, size) { i := add(i, 0x20) } {
                mstore(add(target, i), calldataload(source))
                source := add(source, 0x40)
            }
            digest := keccak256(target, size)
        }
    }

    /// @notice The power of two (as a height) that the submission's start is aligned to.
    /// @param length Length of the flow before.
    /// @param first Height of the first node.
    /// @param sectors What the nodes cover.
    function alignment(uint256 length, uint256 first, uint256 sectors) internal pure returns (uint256 height) {
        uint256 start = alignUp(length, first);
        bool insideSegment = start & ((1 << SEGMENT_HEIGHT) - 1) != 0;
        unchecked {
            // A start inside a segment means 2^first < 1024, so the next segment is aligned for the first node as well.
            return
                insideSegment && start >> SEGMENT_HEIGHT != (start + sectors - 1) >> SEGMENT_HEIGHT
                    ? SEGMENT_HEIGHT
                    : first;
        }
    }

    /// @notice The smallest multiple of 2^height that is `length` or more, for a `length` of 1 .. 2^63.
    function alignUp(uint256 length, uint256 height) internal pure returns (uint256) {
        unchecked {
            return (((length - 1) >> height) + 1) << height;
        }
    }

    /// @dev Sectors that the next smaller padded size covers: padding is a sixteenth of the enclosing power of two.
    function _mostSectorsOfSmaller(uint256 sectors, uint256 count, uint256 first) private pure returns (uint256) {
        unchecked {
            if (sectors < 16) return sectors - 1;
            // Two or more nodes that cover 16 sectors or more begin at height 4 or above.
            return count == 1 ? sectors - sectors / 16 : sectors - (1 << (first - 3));
        }
    }
}
