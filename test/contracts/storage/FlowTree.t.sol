// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import { FlowTree } from "../../../contracts/storage/FlowTree.sol";
import { Test } from "../support/Test.sol";

/// @notice The tree against its definition, worked out from scratch: leaf 0 is zero, a placed block counts with its
/// root, every other sector is empty, an inner node is the hash of its children.
contract FlowTreeTest is Test {
    using FlowTree for FlowTree.Frontier;

    struct Block {
        uint256 start;
        uint256 height;
        bytes32 root;
    }

    FlowTree.Frontier private _frontier;
    Block[] private _blocks;

    /// The zero roots are what hashing empty sectors gives, up to level 63.
    function test_ZeroRootsAreHashesOfEmptySectors() public pure {
        FlowTree.Cursor memory cursor = FlowTree.open(1);
        bytes32 expected = keccak256(new bytes(256));
        for (uint256 height = 0; height < 64; ++height) {
            bytes32 found;
            uint256 pointer = cursor.zeros + 32 * height;
            assembly ("memory-safe") {
                found := mload(pointer)
            }
            eq(found, expected, "zero root");
            expected = keccak256(abi.encode(expected, expected));
        }
    }

    /// An empty flow has the reserved leaf as its root.
    function test_FreshFlowHasRootZero() public view {
        eq(_frontier.root(FlowTree.open(1)), bytes32(0), "root");
        eq(FlowTree.depth(1), 0, "depth");
    }

    /// After any sequence of alignments and blocks, over any cut into transactions, the root is that of the definition.
    function testFuzz_RootEqualsDefinition(uint256 seed, uint8 steps) public {
        uint256 count = bound(steps, 1, 24);
        FlowTree.Cursor memory cursor = FlowTree.open(1);
        for (uint256 i = 0; i < count; ++i) {
            seed = uint256(keccak256(abi.encode(seed)));
            uint256 height = seed % 6;
            // Sometimes aligned further than the block needs, as a submission that is moved to the next segment.
            uint256 alignment = (seed >> 8) % 4 == 0 ? height + ((seed >> 16) % 3) : height;
            _frontier.alignTo(cursor, alignment);
            eq(cursor.length % (1 << alignment), 0, "aligned");
            _blocks.push(Block(cursor.length, height, bytes32(seed)));
            _frontier.append(cursor, height, bytes32(seed));
            eq(_frontier.root(cursor), _definition(0, FlowTree.depth(cursor.length)), "root within a transaction");
            if ((seed >> 24) % 3 == 0) {
                _frontier.commit(cursor);
                cursor = FlowTree.open(cursor.length);
                eq(_frontier.root(cursor), _definition(0, FlowTree.depth(cursor.length)), "root after a transaction");
            }
        }
    }

    /// Reading the root changes nothing.
    function testFuzz_RootIsStable(uint256 seed) public view {
        FlowTree.Cursor memory cursor = FlowTree.open(1);
        _frontier.alignTo(cursor, seed % 12);
        _frontier.append(cursor, 0, bytes32(seed));
        bytes32 first = _frontier.root(cursor);
        eq(_frontier.root(cursor), first, "second reading");
    }

    /// Height 62 fits into the largest flow.
    function test_HighestBlock() public {
        FlowTree.Cursor memory cursor = FlowTree.open(1);
        _frontier.alignTo(cursor, 61);
        _frontier.append(cursor, 61, keccak256("big"));
        eq(cursor.length, 1 << 62, "length");
        eq(FlowTree.depth(cursor.length), 62, "depth");
        _frontier.commit(cursor);
        bytes32 left = _paddedGenesis(61);
        eq(_frontier.root(FlowTree.open(1 << 62)), keccak256(abi.encode(left, keccak256("big"))), "root");
    }

    /// What {alignTo} does at a multiple is nothing at all.
    function test_AligningAlignedLengthDoesNothing() public view {
        FlowTree.Cursor memory cursor = FlowTree.open(64);
        _frontier.alignTo(cursor, 6);
        eq(cursor.length, 64, "length");
        eq(cursor.written, 0, "nothing written");
    }

    function _definition(uint256 start, uint256 height) private view returns (bytes32) {
        for (uint256 i = 0; i < _blocks.length; ++i) {
            if (_blocks[i].start == start && _blocks[i].height == height) return _blocks[i].root;
        }
        if (height == 0) return start == 0 ? bytes32(0) : keccak256(new bytes(256));
        uint256 half = 1 << (height - 1);
        return keccak256(abi.encode(_definition(start, height - 1), _definition(start + half, height - 1)));
    }

    /// Sector 0 followed by empty sectors.
    function _paddedGenesis(uint256 height) private pure returns (bytes32 root) {
        bytes32 zero = keccak256(new bytes(256));
        for (uint256 i = 0; i < height; ++i) {
            root = keccak256(abi.encode(root, zero));
            zero = keccak256(abi.encode(zero, zero));
        }
    }
}
