// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import { Hashes } from "@openzeppelin/contracts/utils/cryptography/Hashes.sol";
import { Math } from "@openzeppelin/contracts/utils/math/Math.sol";
import { ZeroRoots } from "./ZeroRoots.sol";

/// @title Merkle tree over every sector of the flow, kept as a binary counter
/// @notice Bit `h` of the flow's length says that `branch[h]` holds the root of a finished block of 2^h sectors, like
/// the bits of a binary counter. Appending a block carries like an addition: one write per block, whatever the depth.
/// Sector 0 is a reserved leaf whose value is zero, so a fresh flow has length 1 and nothing stored.
/// @dev The work of one transaction is done on a {Cursor} in memory; {commit} stores what is left at the end.
library FlowTree {
    /* TYPES */

    /// @notice What is stored: `branch[h]` means something only where bit `h` of the flow's length is 1.
    struct Frontier {
        bytes32[64] branch;
    }

    /// @notice A working copy in memory.
    struct Cursor {
        /// Next free sector, 1 .. 2^63 - 1.
        uint256 length;
        /// Bit `h`: `branch[h]` was written here and counts instead of the stored one.
        uint256 written;
        /// Where in memory 64 words of branches lie; only the written ones mean something.
        uint256 branches;
        /// Where in memory the roots of empty blocks lie.
        uint256 zeros;
    }

    /* OPENING AND COMMITTING */

    /// @notice Starts a working copy for a flow of `length` sectors.
    function open(uint256 length) internal pure returns (Cursor memory cursor) {
        cursor.length = length;
        cursor.zeros = ZeroRoots.load();
        uint256 branches;
        assembly ("memory-safe") {
            // Reserves 64 words without clearing them: `written` says which mean something.
            branches := mload(0x40)
            mstore(0x40, add(branches, 0x800))
        }
        cursor.branches = branches;
    }

    /// @notice Stores the branches written since {open} that still mean something at the cursor's length.
    function commit(Frontier storage frontier, Cursor memory cursor) internal {
        uint256 pending = cursor.written & cursor.length;
        while (pending != 0) {
            uint256 height = _lowestBit(pending);
            frontier.branch[height] = _branchAt(frontier, cursor, height);
            pending &= pending - 1;
        }
    }

    /* GROWING */

    /// @notice Fills with empty sectors up to the next multiple of 2^height. Does nothing on a multiple.
    function alignTo(Frontier storage frontier, Cursor memory cursor, uint256 height) internal view {
        uint256 length = cursor.length;
        if (length & ((1 << height) - 1) == 0) return;
        // What the counter holds below `height` and the padding behind it make one finished block of 2^height sectors.
        bytes32 block_ = _fold(frontier, cursor, height);
        cursor.length = (length >> height) << height;
        append(frontier, cursor, height, block_);
    }

    /// @notice Appends a finished block of 2^height sectors with the given root.
    /// The cursor's length must be a multiple of 2^height, and 2^height more must stay below 2^63.
    function append(Frontier storage frontier, Cursor memory cursor, uint256 height, bytes32 root_) internal view {
        uint256 length = cursor.length;
        uint256 level = height;
        unchecked {
            // A length below 2^63 has a bit 0 below level 63, and grows by less than 2^63.
            while ((length >> level) & 1 == 1) {
                root_ = Hashes.efficientKeccak256(_branchAt(frontier, cursor, level), root_);
                ++level;
            }
            cursor.length = length + (1 << height);
        }
        cursor.written |= 1 << level;
        uint256 branches = cursor.branches;
        assembly ("memory-safe") {
            // Levels are at most 63, inside the 64 words that {open} reserved.
            mstore(add(branches, shl(5, level)), root_)
        }
    }

    /* READING */

    /// @notice Root of the smallest perfect tree that covers the flow; sectors behind its end count as empty.
    function root(Frontier storage frontier, Cursor memory cursor) internal view returns (bytes32) {
        return _fold(frontier, cursor, depth(cursor.length));
    }

    /// @notice Depth of that tree: ceil(log2(length)).
    function depth(uint256 length) internal pure returns (uint256) {
        return Math.log2(length, Math.Rounding.Ceil);
    }

    /* INTERNAL */

    /// @dev Folds the counter's bits below `height` and empty sectors behind them into the root of one block of
    /// 2^height sectors. Without bits to fold below `height` the result is `branch[lowest bit]`.
    function _fold(
        Frontier storage frontier,
        Cursor memory cursor,
        uint256 height
    ) private view returns (bytes32 current) {
        uint256 length = cursor.length;
        uint256 level = _lowestBit(length);
        current = _branchAt(frontier, cursor, level);
        if (level >= height) return current;
        uint256 zeros = cursor.zeros;
        uint256 branches = cursor.branches;
        uint256 written = cursor.written;
        assembly ("memory-safe") {
            // The children lie in scratch space, the running node being the left one between two steps. The first step
            // has an empty right side; further up a set bit stands for a finished block on the left.
            // Levels are at most 63, inside the tables and the frontier.
            let zero := add(zeros, shl(5, level))
            let end := add(zeros, shl(5, height))
            mstore(0x00, current)
            mstore(0x20, mload(zero))
            mstore(0x00, keccak256(0x00, 0x40))
            length := shr(add(level, 1), length)
            for { zero := add(zero, 0x20) } lt(zero, end) { zero := add(zero, 0x20) } {
                switch and(length, 1)
                case 0 { mstore(0x20, mload(zero)) }
                default {
                    mstore(0x20, mload(0x00))
                    level := shr(5, sub(zero, zeros))
                    switch and(shr(level, written), 1)
                    case 0 { mstore(0x00, sload(add(frontier.slot, level))) }
                    default { mstore(0x00, mload(add(branches, shl(5, level)))) }
                }
                mstore(0x00, keccak256(0x00, 0x40))
                length := shr(1, length)
            }
            current := mload(0x00)
        }
    }

    /// @dev The branch as it is now: written in this transaction, or stored.
    function _branchAt(
        Frontier storage frontier,
        Cursor memory cursor,
        uint256 level
    ) private view returns (bytes32 value) {
        if ((cursor.written >> level) & 1 == 0) return frontier.branch[level];
        uint256 branches = cursor.branches;
        assembly ("memory-safe") {
            value := mload(add(branches, shl(5, level)))
        }
    }

    /// @dev Index of the lowest 1 bit of a number that is not 0.
    function _lowestBit(uint256 value) private pure returns (uint256) {
        unchecked {
            // Two's complement: value & -value keeps the lowest 1 bit alone. 0 - value wraps on purpose.
            return Math.log2(value & (0 - value));
        }
    }
}
