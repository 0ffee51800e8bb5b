// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import { Vm } from "./Vm.sol";

/// @notice What the Solidity tests stand on: cheat codes, labelled assertions, bounded inputs.
abstract contract Test {
    Vm internal constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    error Unequal(string label, uint256 got, uint256 want);
    error UnequalHash(string label, bytes32 got, bytes32 want);
    error UnequalAddress(string label, address got, address want);
    error AboveLimit(string label, uint256 got, uint256 limit);
    error Untrue(string label);

    function eq(uint256 got, uint256 want, string memory label) internal pure {
        if (got != want) revert Unequal(label, got, want);
    }

    function eq(bytes32 got, bytes32 want, string memory label) internal pure {
        if (got != want) revert UnequalHash(label, got, want);
    }

    function eq(address got, address want, string memory label) internal pure {
        if (got != want) revert UnequalAddress(label, got, want);
    }

    function atMost(uint256 got, uint256 limit, string memory label) internal pure {
        if (got > limit) revert AboveLimit(label, got, limit);
    }

    function isTrue(bool condition, string memory label) internal pure {
        if (!condition) revert Untrue(label);
    }

    /// @notice Maps any number into low..high (both included).
    function bound(uint256 value, uint256 low, uint256 high) internal pure returns (uint256) {
        return value >= low && value <= high ? value : low + (value % (high - low + 1));
    }
}
