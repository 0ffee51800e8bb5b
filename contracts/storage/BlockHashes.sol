// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title Hashes of past blocks, up to 8191 blocks back where the chain keeps EIP-2935 history
/// @notice An answer is either the true hash or 0. Nothing that a missing or stubbed history contract does can become
/// a hash that somebody knows in advance: a failed call, an answer of another length, and a contract that does not know
/// the parent block's hash all count as "unreadable".
library BlockHashes {
    /// @notice How far back EIP-2935 serves.
    uint256 internal constant WINDOW = 8191;

    /// @dev EIP-2935 history storage contract.
    address private constant _HISTORY = 0x0000F90827F1C53a10cb7A02335B175320002935;

    /// @notice The hash of block `blockNumber`, or 0 if it cannot be read.
    function read(uint256 blockNumber) internal view returns (bytes32) {
        if (blockNumber >= block.number) return 0;
        uint256 distance = block.number - blockNumber;
        if (distance <= 256) return blockhash(blockNumber);
        if (distance > WINDOW) return 0;
        // A history contract is believed only if it agrees with the BLOCKHASH opcode on the parent block.
        bytes32 parent = blockhash(block.number - 1);
        return parent != 0 && _history(block.number - 1) == parent ? _history(blockNumber) : bytes32(0);
    }

    function _history(uint256 blockNumber) private view returns (bytes32 value) {
        assembly ("memory-safe") {
            // Argument and answer stay in scratch space. An answer counts only if the call succeeds with a word;
            // Yul evaluates arguments from the right, so the call comes before its size is read.
            mstore(0x00, blockNumber)
            if and(eq(returndatasize(), 0x20), staticcall(gas(), _HISTORY, 0x00, 0x20, 0x20, 0x20)) {
                value := mload(0x20)
            }
        }
    }
}
