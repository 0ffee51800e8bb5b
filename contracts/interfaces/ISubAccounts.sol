// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title What a user has in a service contract
/// @notice Lets the ledger compute a user's total when somebody asks, so that a settlement need not touch the ledger.
interface ISubAccounts {
    /// @notice Sum of the user's balances with all providers, in wei.
    function lockedBalance(address user) external view returns (uint256);

    /// @notice The providers with whom the user has a sub-account, 50 at most.
    function providersOf(address user) external view returns (address[] memory);
}
