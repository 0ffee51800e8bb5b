// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title DAPayments
/// @notice What is due to accounts, drawn by anybody for them. Sending is the last thing a call does.
abstract contract DAPayments {
    /// @notice What is due to an account, wei.
    mapping(address payee => uint256) internal _due;

    /// @dev Takes what is due to `payee` and sends it. Returns the amount, 0 when there is none, and whether it went.
    function _payOut(address payable payee) internal returns (uint256 amount, bool sent) {
        amount = _due[payee];
        if (amount == 0) return (0, true);
        _due[payee] = 0;
        // solhint-disable-next-line avoid-low-level-calls
        (sent, ) = payee.call{ value: amount }("");
    }
}
