// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

// solhint-disable gas-struct-packing

/// @notice A user's voucher, and what the disperser claims of it; see {IDispersalAccounts-claim}.
struct VoucherClaim {
    address user;
    /// What the user signed: the most the disperser may have claimed in all, wei.
    uint128 cumulativeFee;
    /// What the disperser claims of it, counted like the above: in all, not in addition. At most cumulativeFee.
    uint128 claim;
    /// The last second in which the voucher is good, since 1970.
    uint64 expiry;
    bytes signature;
}

/// @title Accounts that users hold with dispersers
/// @notice A user deposits for one disperser by name and signs, blob by blob, how much that disperser may have
/// claimed in all. The disperser claims what it confirmed of that; the user gets back what is not claimed, after a
/// lock time in which the disperser may still claim. Nobody else can take anything, and the contract has no owner.
/// Amounts in wei, times in seconds since 1970.
///
/// Voucher: EIP-712, domain {name "Weightless Dispersal", version "1", chainId, verifyingContract}, type
/// `DispersalVoucher(address user,address disperser,uint128 cumulativeFee,uint64 expiry)`. The signature has 65
/// bytes (r, s, v; s in the lower half), or 64 (EIP-2098), or is what the user's contract accepts (EIP-1271, with
/// 50,000 gas).
///
/// A voucher replaces all earlier ones of its user for its disperser: amounts count over the whole life of the
/// account, so that presenting a voucher again, or an older one, pays nothing.
interface IDispersalAccounts {
    /* EVENTS */

    event Deposited(address indexed user, address indexed disperser, uint256 amount);
    /// @notice The user wants `amount` back; it is free from `unlockTime` on. An amount of 0 takes the wish back.
    event WithdrawalRequested(address indexed user, address indexed disperser, uint256 amount, uint256 unlockTime);
    event Withdrawn(address indexed user, address indexed disperser, uint256 amount);
    /// @notice The disperser was paid `amount`, and has now been paid `claimed` in all.
    event Claimed(address indexed user, address indexed disperser, uint256 amount, uint256 claimed);

    /* ERRORS */

    /// @notice The lock time the contract was to be deployed with is out of its bounds.
    error LockOutOfBounds(uint256 lockSeconds, uint256 min, uint256 max);
    /// @notice Nothing was sent along.
    error NothingDeposited();
    /// @notice More than an account can hold.
    error DepositTooLarge(uint256 amount, uint256 limit);
    /// @notice The account has less than what is asked back.
    error InsufficientBalance(uint256 have, uint256 want);
    /// @notice There is no request to withdraw from this account.
    error WithdrawalNotRequested(address user, address disperser);
    /// @notice The lock time is not over.
    error WithdrawalLocked(uint256 unlockTime);
    error NoClaims();
    error TooManyClaims(uint256 count, uint256 limit);
    /// @notice The receiver did not take the money; nothing changed.
    error PaymentRefused(address receiver, uint256 amount);

    /* USERS */

    /// @notice Adds what is sent along to the caller's account with `disperser`.
    function deposit(address disperser) external payable;

    /// @notice Announces that the caller will take `amount` back. Replaces an earlier announcement, and its time.
    /// What is announced no longer backs new vouchers, but the disperser may claim from it until it is withdrawn. 0
    /// takes an announcement back. Reverts with {InsufficientBalance}.
    function requestWithdrawal(address disperser, uint128 amount) external;

    /// @notice Pays the caller what was announced, or what the disperser left of it. Reverts with
    /// {WithdrawalNotRequested}, {WithdrawalLocked}, {PaymentRefused}.
    function withdraw(address disperser) external returns (uint256 amount);

    /* DISPERSERS */

    /// @notice Claims from up to 100 accounts with the caller, and sends the sum to the caller in one payment. It
    /// goes to the caller directly: a disperser that refuses money harms nobody else. Only the disperser itself may
    /// claim, as it alone says how much of a voucher it has earned.
    ///
    /// A bad item does not stop the others. Statuses: 0 paid as far as not paid before; 1 paid in part, the account
    /// is empty; 2 expired; 3 not signed by the user; 4 the claim is above the voucher. Reverts with {NoClaims},
    /// {TooManyClaims}, {PaymentRefused}.
    function claim(VoucherClaim[] calldata items) external returns (uint8[] memory statuses);

    /* VIEWS */

    /// @notice What `user` has with `disperser`: what is there, what was claimed in all, what is announced to be
    /// withdrawn (it may be more than is there, when claims came since), and from when on.
    function accountOf(
        address user,
        address disperser
    ) external view returns (uint128 balance, uint128 claimed, uint128 withdrawing, uint64 unlockTime);

    /// @notice Seconds from the announcement of a withdrawal until it can be made.
    function lockSeconds() external view returns (uint256);
}
