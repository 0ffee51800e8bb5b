// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title What the ledger asks of a service contract
/// @notice A service contract holds the money that users set aside for one provider each: the sub-accounts
/// (user, provider). Everything here that changes state is for the ledger alone. Amounts in wei.
/// @dev ERC-165 id 0x160841b1.
interface IServing {
    /// @notice Whether the sub-account exists.
    function accountExists(address user, address provider) external view returns (bool);

    /// @notice What of the balance is on its way back to the ledger. The provider may still charge it.
    function getPendingRefund(address user, address provider) external view returns (uint256);

    /// @notice Opens a sub-account with the value sent, acknowledged by the user.
    function addAccount(address user, address provider, string calldata additionalInfo) external payable;

    /// @notice Takes back up to `cancelRetrievingAmount` of pending refunds, newest first, and adds the value sent.
    function depositFund(address user, address provider, uint256 cancelRetrievingAmount) external payable;

    /// @notice Asks for all of the balance that is neither asked for yet nor held for a task.
    function requestRefundAll(address user, address provider) external;

    /// @notice Sends refunds whose lock time is over to the ledger.
    /// @return totalAmount What was sent.
    /// @return balance What is left in the sub-account.
    /// @return pendingRefund What of it is still pending.
    function processRefund(
        address user,
        address provider
    ) external returns (uint256 totalAmount, uint256 balance, uint256 pendingRefund);

    /// @notice Removes an empty sub-account. Nonce, generation and what vouchers paid outlive it.
    function deleteAccount(address user, address provider) external;
}
