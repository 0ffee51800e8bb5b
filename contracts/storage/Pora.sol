// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import { Hashes } from "@openzeppelin/contracts/utils/cryptography/Hashes.sol";
import { Math } from "@openzeppelin/contracts/utils/math/Math.sol";
import { IPoraMine, PoraAnswer, RecallRange } from "../interfaces/IPoraMine.sol";
import { Blake2b, Blake2bState } from "./Blake2b.sol";

/// @title Pora
/// @notice What an answer hashes to and proves. Depends on the answer alone: no state, no time.
library Pora {
    /// @notice Sectors in a seal, the piece that is sealed and proven.
    uint256 internal constant SECTORS_PER_SEAL = 16;
    /// @notice Seals in a load chunk, the piece that is read for one nonce.
    uint256 internal constant SEALS_PER_LOAD = 64;
    /// @notice Sectors in a load chunk.
    uint256 internal constant SECTORS_PER_LOAD = 1024;
    /// @notice Sectors (8 TiB) of the longest range that is not split.
    uint256 internal constant MAX_MINING_LENGTH = 1 << 35;
    /// @notice Sectors in a pricing chunk, which ranges start at.
    uint256 internal constant SECTORS_PER_PRICING_CHUNK = 1 << 25;
    /// @notice log2 of the sectors in a seal: levels of the flow tree inside of it.
    uint256 internal constant SEAL_LEVELS = 4;

    uint256 private constant _SEAL_BYTES = 4096;
    uint256 private constant _PAD_BYTES = 16_384;

    /* THE RANGE */

    /// @notice Checks that the range is all there is to mine, or as much of it as one miner may take in so many parts.
    function checkRange(RecallRange calldata range, uint256 flowLength, uint256 parts) internal pure {
        uint256 minable = (flowLength / SECTORS_PER_LOAD) * SECTORS_PER_LOAD;
        if (minable == 0 || flowLength < parts) revert IPoraMine.FlowTooShort(flowLength);
        if (range.startPosition % SECTORS_PER_PRICING_CHUNK != 0) {
            revert IPoraMine.RangeNotAligned(range.startPosition);
        }
        uint256 expected = Math.min(minable, MAX_MINING_LENGTH * parts);
        if (range.mineLength != expected || range.startPosition > minable - expected) {
            revert IPoraMine.RangeMismatch(range.startPosition, range.mineLength, expected, flowLength);
        }
        if (range.shardId & range.shardMask != 0) revert IPoraMine.ShardIdMasked(range.shardId, range.shardMask);
    }

    /// @notice Into how many parts a shard mask splits a range: 2^(number of its 0 bits).
    function shards(uint64 shardMask) internal pure returns (uint256) {
        uint64 cleared = ~shardMask;
        uint256 count;
        while (cleared != 0) {
            cleared &= cleared - 1;
            ++count;
        }
        return 1 << count;
    }

    /* THE NUMBER */

    /// @notice The number that the answer hashes to. Checks that the nonce draws the answer's position.
    function quality(PoraAnswer calldata answer, bytes32 subtaskDigest) internal view returns (bytes32) {
        (bytes32 high, bytes32 low) = padSeed(answer.minerId, answer.nonce, subtaskDigest, rangeDigest(answer.range));
        (uint256 pad, bytes32 recallSeed) = scratchpad(high, low);
        uint256 drawn = loadPosition(answer.range, recallSeed) + answer.sealOffset * SECTORS_PER_SEAL;
        if (drawn != answer.recallPosition) revert IPoraMine.RecallMismatch(answer.recallPosition, drawn);
        return _mixedHash(answer.sealOffset, high, low, answer.sealedData, pad);
    }

    /// @notice `keccak256` of the range, one word for each field.
    function rangeDigest(RecallRange calldata range) internal pure returns (bytes32) {
        return keccak256(abi.encode(range.startPosition, range.mineLength, range.shardId, range.shardMask));
    }

    /// @notice The 64 bytes that the scratchpad grows from.
    function padSeed(
        bytes32 minerId,
        bytes32 nonce,
        bytes32 subtaskDigest,
        bytes32 range
    ) internal view returns (bytes32 high, bytes32 low) {
        Blake2bState state = Blake2b.start();
        uint256 target = Blake2b.message(state);
        assembly ("memory-safe") {
            // One message block of exactly four words.
            mstore(target, minerId)
            mstore(add(target, 0x20), nonce)
            mstore(add(target, 0x40), subtaskDigest)
            mstore(add(target, 0x60), range)
        }
        Blake2b.compress(state, Blake2b.BLOCK_BYTES, true);
        return Blake2b.digest(state);
    }

    /// @notice The scratchpad: 256 cells of 64 bytes, each from the one before; and the hash of the last.
    /// @return pad Where in memory its 16 KiB lie.
    function scratchpad(bytes32 high, bytes32 low) internal pure returns (uint256 pad, bytes32 recallSeed) {
        assembly ("memory-safe") {
            pad := mload(0x40)
            mstore(0x40, add(pad, _PAD_BYTES))
            let end := add(pad, _PAD_BYTES)
            mstore(0x00, high)
            mstore(0x20, low)
            // The running cell is in scratch space: its first half is replaced, then its second half. Four cells a
            // turn, because turning costs as much as hashing.
            let half
            for { let cell := pad } lt(cell, end) { cell := add(cell, 0x100) } {
                half := keccak256(0x00, 0x40)
                mstore(0x00, half)
                mstore(cell, half)
                half := keccak256(0x00, 0x40)
                mstore(0x20, half)
                mstore(add(cell, 0x20), half)
                half := keccak256(0x00, 0x40)
                mstore(0x00, half)
                mstore(add(cell, 0x40), half)
                half := keccak256(0x00, 0x40)
                mstore(0x20, half)
                mstore(add(cell, 0x60), half)
                half := keccak256(0x00, 0x40)
                mstore(0x00, half)
                mstore(add(cell, 0x80), half)
                half := keccak256(0x00, 0x40)
                mstore(0x20, half)
                mstore(add(cell, 0xa0), half)
                half := keccak256(0x00, 0x40)
                mstore(0x00, half)
                mstore(add(cell, 0xc0), half)
                half := keccak256(0x00, 0x40)
                mstore(0x20, half)
                mstore(add(cell, 0xe0), half)
            }
            recallSeed := keccak256(0x00, 0x40)
        }
    }

    /// @notice First sector of the load chunk that the nonce draws. The range must hold at least one load chunk.
    function loadPosition(RecallRange calldata range, bytes32 recallSeed) internal pure returns (uint256) {
        uint256 chunks = range.mineLength / SECTORS_PER_LOAD;
        if (chunks == 0) revert IPoraMine.FlowTooShort(range.mineLength);
        uint256 chunk = uint256(recallSeed) % chunks;
        chunk = (chunk & range.shardMask) | range.shardId;
        if (chunk >= chunks) revert IPoraMine.RecallOutOfRange(chunk, chunks);
        return range.startPosition + chunk * SECTORS_PER_LOAD;
    }

    /* THE DATA */

    /// @notice The flow root that the unsealed data and the proof lead to.
    function flowRoot(PoraAnswer calldata answer) internal pure returns (bytes32 root) {
        root = _unsealedRoot(answer);
        uint256 index = answer.recallPosition / SECTORS_PER_SEAL;
        bytes32[] calldata proof = answer.merkleProof;
        for (uint256 i = 0; i < proof.length; ++i) {
            root = index & 1 == 0
                ? Hashes.efficientKeccak256(root, proof[i])
                : Hashes.efficientKeccak256(proof[i], root);
            index >>= 1;
        }
    }

    /// @notice How many siblings a proof needs in a flow of this length.
    function proofLength(uint256 flowLength) internal pure returns (uint256) {
        return Math.log2(flowLength, Math.Rounding.Ceil) - SEAL_LEVELS;
    }

    /* THE TARGET */

    /// @notice By what the target is divided, times 2^64: 1 for a whole range, less for a part of it.
    /// `flowLength` must be `parts` or more.
    function targetScaleX64(uint256 flowLength, uint256 parts) internal pure returns (uint256) {
        return (Math.min(flowLength, MAX_MINING_LENGTH) << 64) / Math.min(flowLength / parts, MAX_MINING_LENGTH);
    }

    /* INTERNAL */

    /// @dev Hashes header and mixed data, 33 message blocks. Mixed data is sealed data xor a quarter of the scratchpad.
    function _mixedHash(
        uint256 sealOffset,
        bytes32 high,
        bytes32 low,
        bytes32[128] calldata sealedData,
        uint256 pad
    ) private view returns (bytes32 output) {
        Blake2bState state = Blake2b.start();
        uint256 target = Blake2b.message(state);
        assembly ("memory-safe") {
            // One message block of exactly four words.
            mstore(target, sealOffset)
            mstore(add(target, 0x20), high)
            mstore(add(target, 0x40), low)
            mstore(add(target, 0x60), 0)
        }
        Blake2b.compress(state, Blake2b.BLOCK_BYTES, false);
        unchecked {
            // Offsets stay below 16 KiB.
            pad += (sealOffset % 4) * _SEAL_BYTES;
            for (uint256 done = 0; done < _SEAL_BYTES; done += Blake2b.BLOCK_BYTES) {
                assembly ("memory-safe") {
                    // One message block: 128 bytes of both, inside the 4096 that each has.
                    let source := add(sealedData, done)
                    let mask := add(pad, done)
                    mstore(target, xor(calldataload(source), mload(mask)))
                    mstore(add(target, 0x20), xor(calldataload(add(source, 0x20)), mload(add(mask, 0x20))))
                    mstore(add(target, 0x40), xor(calldataload(add(source, 0x40)), mload(add(mask, 0x40))))
                    mstore(add(target, 0x60), xor(calldataload(add(source, 0x60)), mload(add(mask, 0x60))))
                }
                uint256 total = done + 2 * Blake2b.BLOCK_BYTES;
                Blake2b.compress(state, total, total == _SEAL_BYTES + Blake2b.BLOCK_BYTES);
            }
        }
        (output, ) = Blake2b.digest(state);
    }

    /// @dev Unseals the data sector by sector and folds the 16 leaves. A word is masked with the hash of the sealed
    /// word before it, the first with the hash of who sealed it, when, and where it lies.
    function _unsealedRoot(PoraAnswer calldata answer) private pure returns (bytes32 root) {
        bytes32 mask = keccak256(abi.encode(answer.minerId, answer.sealedContextDigest, answer.recallPosition));
        bytes32[128] calldata sealedData = answer.sealedData;
        assembly ("memory-safe") {
            // Behind the free memory pointer: one sector, then 16 leaves. Nothing of it is needed afterwards.
            let sector := mload(0x40)
            let leaves := add(sector, 0x100)
            let leaf := leaves
            let source := sealedData
            for { let end := add(source, _SEAL_BYTES) } lt(source, end) {} {
                // Two words a turn, for the same reason as above.
                for { let word := sector } lt(word, leaves) { word := add(word, 0x40) } {
                    let sealedWord := calldataload(source)
                    mstore(word, xor(sealedWord, mask))
                    mstore(0x00, sealedWord)
                    mask := keccak256(0x00, 0x20)
                    sealedWord := calldataload(add(source, 0x20))
                    mstore(add(word, 0x20), xor(sealedWord, mask))
                    mstore(0x00, sealedWord)
                    mask := keccak256(0x00, 0x20)
                    source := add(source, 0x40)
                }
                mstore(leaf, keccak256(sector, 0x100))
                leaf := add(leaf, 0x20)
            }
            // Four levels in place: 16 leaves, 8, 4, 2 nodes, 1 root.
            for { let size := 0x100 } gt(size, 0x10) { size := shr(1, size) } {
                for { let at_ := 0 } lt(at_, size) { at_ := add(at_, 0x20) } {
                    mstore(add(leaves, at_), keccak256(add(leaves, shl(1, at_)), 0x40))
                }
            }
            root := mload(leaves)
        }
    }
}
