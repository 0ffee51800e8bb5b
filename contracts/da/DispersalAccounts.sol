// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

// solhint-disable gas-small-strings

import { Signatures } from "../compute/Signatures.sol";
import { IDispersalAccounts, VoucherClaim } from "../interfaces/IDispersalAccounts.sol";

/// @title DispersalAccounts
/// @notice See {IDispersalAccounts}.
contract DispersalAccounts is IDispersalAccounts {
    /* TYPES */

    /// @dev One word: all that a claim reads and writes.
    struct Account {
        uint128 balance;
        uint128 claimed;
    }

    /// @dev One word.
    struct Withdrawal {
        uint128 amount;
        uint64 unlockTime;
    }

    /* CONSTANTS AND IMMUTABLES */

    uint256 private constant _PAID = 0;
    uint256 private constant _PARTIAL = 1;
    uint256 private constant _EXPIRED = 2;
    uint256 private constant _WRONG_SIGNATURE = 3;
    uint256 private constant _ABOVE_VOUCHER = 4;

    uint256 private constant _MAX_CLAIMS = 100;
    uint256 private constant _MAX_LOCK = 30 days;
    /// @dev What a user's contract may spend on one signature: it must not use up the gas of the others' claims.
    uint256 private constant _SIGNATURE_GAS = 50_000;

    bytes32 private constant _DOMAIN_NAME = keccak256("Weightless Dispersal");
    bytes32 private constant _VOUCHER_TYPE =
        keccak256("DispersalVoucher(address user,address disperser,uint128 cumulativeFee,uint64 expiry)");

    /// @inheritdoc IDispersalAccounts
    uint256 public immutable lockSeconds;

    /* STORAGE */

    mapping(address disperser => mapping(address user => Account)) private _accounts;
    mapping(address disperser => mapping(address user => Withdrawal)) private _withdrawals;

    /// @param lockSeconds_ 1 second to 30 days: long enough for dispersers to claim, short enough for users to wait.
    constructor(uint256 lockSeconds_) {
        if (lockSeconds_ == 0 || lockSeconds_ > _MAX_LOCK) revert LockOutOfBounds(lockSeconds_, 1, _MAX_LOCK);
        lockSeconds = lockSeconds_;
    }

    /* USERS */

    /// @inheritdoc IDispersalAccounts
    function deposit(address disperser) external payable {
        if (msg.value == 0) revert NothingDeposited();
        Account storage account = _accounts[disperser][msg.sender];
        uint256 room = type(uint128).max - account.balance;
        if (msg.value > room) revert DepositTooLarge(msg.value, room);
        // At most what there is room for.
        account.balance += uint128(msg.value);
        emit Deposited(msg.sender, disperser, msg.value);
    }

    /// @inheritdoc IDispersalAccounts
    function requestWithdrawal(address disperser, uint128 amount) external {
        uint256 have = _accounts[disperser][msg.sender].balance;
        if (amount > have) revert InsufficientBalance(have, amount);
        // Seconds since 1970 and a month fit 64 bits.
        uint64 unlockTime = amount == 0 ? 0 : uint64(block.timestamp + lockSeconds);
        _withdrawals[disperser][msg.sender] = Withdrawal(amount, unlockTime);
        emit WithdrawalRequested(msg.sender, disperser, amount, unlockTime);
    }

    /// @inheritdoc IDispersalAccounts
    function withdraw(address disperser) external returns (uint256 amount) {
        Withdrawal memory wish = _withdrawals[disperser][msg.sender];
        if (wish.unlockTime == 0) revert WithdrawalNotRequested(msg.sender, disperser);
        if (block.timestamp < wish.unlockTime) revert WithdrawalLocked(wish.unlockTime);
        Account storage account = _accounts[disperser][msg.sender];
        uint128 left = account.balance;
        uint128 paid = wish.amount < left ? wish.amount : left;
        account.balance = left - paid;
        delete _withdrawals[disperser][msg.sender];
        emit Withdrawn(msg.sender, disperser, paid);
        _send(msg.sender, paid);
        return paid;
    }

    /* DISPERSERS */

    /// @inheritdoc IDispersalAccounts
    function claim(VoucherClaim[] calldata items) external returns (uint8[] memory statuses) {
        uint256 count = items.length;
        if (count == 0) revert NoClaims();
        if (count > _MAX_CLAIMS) revert TooManyClaims(count, _MAX_CLAIMS);
        statuses = new uint8[](count);
        bytes32 domain = Signatures.domain(_DOMAIN_NAME);
        uint256 sum = 0;
        for (uint256 i = 0; i < count; ++i) {
            (uint256 status, uint256 amount) = _claim(items[i], domain);
            // One of five.
            statuses[i] = uint8(status);
            sum += amount;
        }
        _send(msg.sender, sum);
    }

    /* VIEWS */

    /// @inheritdoc IDispersalAccounts
    function accountOf(
        address user,
        address disperser
    ) external view returns (uint128 balance, uint128 claimed, uint128 withdrawing, uint64 unlockTime) {
        Account memory account = _accounts[disperser][user];
        Withdrawal memory wish = _withdrawals[disperser][user];
        return (account.balance, account.claimed, wish.amount, wish.unlockTime);
    }

    /* INTERNAL */

    /// @dev Takes what is due of one voucher out of its account; the caller is sent the sum of all.
    function _claim(VoucherClaim calldata item, bytes32 domain) private returns (uint256 status, uint256 amount) {
        if (item.claim > item.cumulativeFee) return (_ABOVE_VOUCHER, 0);
        if (block.timestamp > item.expiry) return (_EXPIRED, 0);
        bytes32 message = keccak256(
            abi.encode(_VOUCHER_TYPE, item.user, msg.sender, item.cumulativeFee, item.expiry)
        );
        if (!_isSignedBy(Signatures.digest(domain, message), item.signature, item.user)) return (_WRONG_SIGNATURE, 0);
        Account storage account = _accounts[msg.sender][item.user];
        (uint128 balance, uint128 claimed) = (account.balance, account.claimed);
        if (item.claim <= claimed) return (_PAID, 0);
        uint128 due = item.claim - claimed;
        if (due > balance) (due, status) = (balance, _PARTIAL);
        if (due == 0) return (status, 0);
        // What is claimed stays at or below the claim, which has 128 bits.
        (account.balance, account.claimed) = (balance - due, claimed + due);
        emit Claimed(item.user, msg.sender, due, claimed + due);
        return (status, due);
    }

    /// @dev By the user's key, or by its code (EIP-1271) within bounds of gas and of what it answers.
    function _isSignedBy(bytes32 hash, bytes calldata signature, address user) private view returns (bool) {
        address signer = Signatures.recover(hash, signature);
        if (signer == user && signer != address(0)) return true;
        if (user.code.length == 0) return false;
        bytes4 selector = 0x1626ba7e;
        bytes memory question = abi.encodeWithSelector(selector, hash, signature);
        bytes32 answer;
        bool ok;
        assembly ("memory-safe") {
            // The answer goes to the scratch space, of which 32 bytes are used.
            ok := staticcall(_SIGNATURE_GAS, user, add(question, 0x20), mload(question), 0x00, 0x20)
            ok := and(ok, gt(returndatasize(), 0x1f))
            answer := mload(0x00)
        }
        return ok && answer == bytes32(selector);
    }

    function _send(address to, uint256 amount) private {
        if (amount == 0) return;
        // solhint-disable-next-line avoid-low-level-calls
        (bool sent, ) = to.call{ value: amount }("");
        if (!sent) revert PaymentRefused(to, amount);
    }
}
