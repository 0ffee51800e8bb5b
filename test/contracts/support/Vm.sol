// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @notice The cheat codes that these tests use.
interface Vm {
    struct Log {
        bytes32[] topics;
        bytes data;
        address emitter;
    }

    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    function roll(uint256 blockNumber) external;
    function warp(uint256 timestamp) external;
    function deal(address account, uint256 balance) external;
    function prank(address caller) external;
    function startPrank(address caller) external;
    function stopPrank() external;
    function expectRevert(bytes calldata data) external;
    function expectRevert(bytes4 selector) external;
    function assume(bool condition) external pure;
    function etch(address target, bytes calldata code) external;
    function store(address target, bytes32 slot, bytes32 value) external;
    function load(address target, bytes32 slot) external view returns (bytes32);
    function setBlockhash(uint256 blockNumber, bytes32 blockHash) external;
    // Unlike `block.number` and `block.timestamp` these are read anew each time: the optimizer may move the opcodes
    // past a cheat code, as no transaction outside of tests could tell.
    function getBlockNumber() external view returns (uint256);
    function getBlockTimestamp() external view returns (uint256);
    function getNonce(address account) external view returns (uint64);
    function computeCreateAddress(address deployer, uint256 nonce) external pure returns (address);
    function recordLogs() external;
    function getRecordedLogs() external returns (Log[] memory);
}
