// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @notice Where in memory a {Blake2b} computation lies: the input of the precompile at 0x09 (EIP-152), that is
/// rounds (4 bytes) | state (64) | message block (128) | bytes hashed so far, little-endian (16) | last block (1).
type Blake2bState is uint256;

/// @title Blake2b
/// @notice Unkeyed Blake2b with an output of 64 bytes, through the precompile at 0x09.
library Blake2b {
    /// @notice Bytes in a message block.
    uint256 internal constant BLOCK_BYTES = 128;

    uint256 private constant _INPUT_BYTES = 213;
    uint256 private constant _STATE_AT = 4;
    uint256 private constant _MESSAGE_AT = 68;
    uint256 private constant _COUNTER_AT = 196;
    uint256 private constant _LAST_AT = 212;

    /// @notice The chain has no Blake2 precompile.
    error Blake2bUnavailable();

    /// @notice Starts a computation.
    function start() internal pure returns (Blake2bState state) {
        assembly ("memory-safe") {
            // 224 bytes from the free memory pointer, every byte of the input written here or by {compress}.
            let input := mload(0x40)
            mstore(0x40, add(input, 224))
            // The initial vector, little-endian, its first word changed for 64 bytes of output and no key.
            mstore(add(input, 4), 0x48c9bdf267e6096a3ba7ca8485ae67bb2bf894fe72f36e3cf1361d5f3af54fa5)
            mstore(add(input, 36), 0xd182e6ad7f520e511f6c3e2b8c68059b6bbd41fbabd9831f79217e1319cde05b)
            // Twelve rounds, in the 4 bytes before the state.
            mstore8(input, 0)
            mstore8(add(input, 1), 0)
            mstore8(add(input, 2), 0)
            mstore8(add(input, 3), 12)
            // Counter and flag: 17 bytes. The word ends behind them, inside what was reserved.
            mstore(add(input, _COUNTER_AT), 0)
            state := input
        }
    }

    /// @notice Where the next message block of 128 bytes goes.
    function message(Blake2bState state) internal pure returns (uint256 pointer) {
        unchecked {
            return Blake2bState.unwrap(state) + _MESSAGE_AT;
        }
    }

    /// @notice Takes in the message block. `total` counts the bytes of the message up to its end, below 2^16.
    function compress(Blake2bState state, uint256 total, bool last) internal view {
        bool ok;
        assembly ("memory-safe") {
            // The counter is little-endian; the precompile writes the new state over the old one.
            mstore8(add(state, _COUNTER_AT), and(total, 0xff))
            mstore8(add(state, add(_COUNTER_AT, 1)), shr(8, total))
            mstore8(add(state, _LAST_AT), last)
            ok := staticcall(gas(), 0x09, state, _INPUT_BYTES, add(state, _STATE_AT), 0x40)
            ok := and(ok, eq(returndatasize(), 0x40))
        }
        if (!ok) revert Blake2bUnavailable();
    }

    /// @notice The 64 bytes of output.
    function digest(Blake2bState state) internal pure returns (bytes32 high, bytes32 low) {
        assembly ("memory-safe") {
            high := mload(add(state, _STATE_AT))
            low := mload(add(state, add(_STATE_AT, 0x20)))
        }
    }

    /// @notice Hashes a whole message, shorter than 2^16 bytes.
    function hash(bytes memory data) internal view returns (bytes32 high, bytes32 low) {
        Blake2bState state = start();
        uint256 length = data.length;
        uint256 done;
        while (true) {
            uint256 count = length - done < BLOCK_BYTES ? length - done : BLOCK_BYTES;
            uint256 target = message(state);
            assembly ("memory-safe") {
                // Clears the block, then copies `count` bytes of the message, at most all of the block.
                calldatacopy(target, calldatasize(), 128)
                mcopy(target, add(add(data, 0x20), done), count)
            }
            done += count;
            compress(state, done, done == length);
            if (done == length) return digest(state);
        }
    }
}
