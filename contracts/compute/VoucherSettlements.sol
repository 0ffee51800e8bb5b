// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

// solhint-disable gas-small-strings

import { IInferenceServing, VoucherSettlement } from "../interfaces/IInferenceServing.sol";
import { AccountWord } from "./AccountWord.sol";
import { InferenceServices } from "./InferenceServices.sol";
import { Signatures } from "./Signatures.sol";

/// @title VoucherSettlements
/// @notice Charging what users signed; see {IInferenceServing}.
abstract contract VoucherSettlements is InferenceServices {
    /* CONSTANTS */

    uint256 private constant _PAID = 0;
    uint256 private constant _PARTIAL = 1;
    uint256 private constant _NO_ACCOUNT = 2;
    uint256 private constant _EXPIRED = 3;
    uint256 private constant _WRONG_GENERATION = 4;
    uint256 private constant _WRONG_SIGNATURE = 5;
    uint256 private constant _ABOVE_VOUCHER = 6;

    uint256 private constant _MAX_VOUCHERS = 100;

    bytes32 private constant _DOMAIN_NAME = keccak256("Weightless Inference");
    bytes32 private constant _VOUCHER_TYPE =
        keccak256("Voucher(address user,address provider,uint128 cumulativeFee,uint64 expiry,uint64 generation)");

    /// @dev Bytes of a packed item: user 20, cumulative fee 12, claim 12, expiry 5, generation 4, r 32, vs 32.
    uint256 private constant _PACKED_BYTES = 117;
    /// @dev Memory for hashing, see {_scratch}.
    uint256 private constant _SCRATCH_BYTES = 0x120;

    /* SETTLING */

    /// @inheritdoc IInferenceServing
    function settleVouchers(
        VoucherSettlement[] calldata items
    ) external nonReentrant returns (uint8[] memory statuses) {
        uint256 count = items.length;
        _checkVoucherCount(count);
        statuses = new uint8[](count);
        bytes memory payments = new bytes(count << 5);
        uint256 scratch = _scratch();
        mapping(address user => Account) storage accounts = _accounts[msg.sender];
        uint256 used;
        uint256 sum;
        for (uint256 i = 0; i < count; ++i) {
            VoucherSettlement calldata item = items[i];
            address user = item.user;
            Account storage account = accounts[user];
            AccountWord word = account.word;
            uint256 fee = item.cumulativeFee;
            uint256 status = _judge(account, word, fee, item.claim, item.expiry, item.generation);
            uint256 amount;
            if (status == _PAID) {
                bytes32 digest = _voucherDigest(scratch, user, fee, item.expiry, item.generation);
                if (Signatures.isSignedBy(digest, item.signature, user)) {
                    (status, amount) = _payVoucher(account, word, item.claim);
                } else {
                    status = _WRONG_SIGNATURE;
                }
            }
            statuses[i] = uint8(status);
            if (amount != 0) (used, sum) = (_note(payments, used, user, amount), sum + amount);
        }
        _payOut(payments, used, sum);
    }

    /// @inheritdoc IInferenceServing
    function settlePackedVouchers(bytes calldata items) external nonReentrant returns (bytes memory statuses) {
        uint256 count = items.length / _PACKED_BYTES;
        if (count * _PACKED_BYTES != items.length) revert PackedLengthInvalid(items.length);
        _checkVoucherCount(count);
        statuses = new bytes(count);
        bytes memory payments = new bytes(count << 5);
        uint256 scratch = _scratch();
        mapping(address user => Account) storage accounts = _accounts[msg.sender];
        uint256 used;
        uint256 sum;
        unchecked {
            // A hundred places, and a hundred amounts below 2^96.
            for (uint256 i = 0; i < count; ++i) {
                (uint256 head, uint256 tail) = _unpack(items, i);
                address user = address(uint160(head >> 96));
                (uint256 status, uint256 amount) = _settlePacked(accounts[user], items, i, head, tail, scratch);
                if (status != _PAID) {
                    assembly ("memory-safe") {
                        // Inside the array: i is below its length.
                        mstore8(add(add(statuses, 0x20), i), status)
                    }
                }
                if (amount != 0) (used, sum) = (_note(payments, used, user, amount), sum + amount);
            }
        }
        _payOut(payments, used, sum);
    }

    /// @inheritdoc IInferenceServing
    function voucherPaid(address user, address provider) external view returns (uint128) {
        // The field has 96 bits.
        return uint128(_accounts[provider][user].word.paid());
    }

    /* INTERNAL: ONE VOUCHER */

    function _settlePacked(
        Account storage account,
        bytes calldata items,
        uint256 i,
        uint256 head,
        uint256 tail,
        uint256 scratch
    ) private returns (uint256, uint256) {
        AccountWord word = account.word;
        uint256 claim = tail >> 160;
        uint256 expiry = uint40(tail >> 120);
        uint256 generation = uint32(tail >> 88);
        bool odd;
        uint256 position = word.position();
        uint256 current = word.generation();
        assembly ("memory-safe") {
            // All that can be wrong at once, without a branch for each.
            let fee := and(head, 0xffffffffffffffffffffffff)
            let wrong := or(gt(claim, fee), or(gt(timestamp(), expiry), or(iszero(position), xor(generation, current))))
            odd := iszero(iszero(wrong))
        }
        if (odd) {
            uint256 fault = _judge(account, word, uint96(head), claim, expiry, generation);
            if (fault != _PAID) return (fault, 0);
        }
        address user = address(uint160(head >> 96));
        bytes32 digest = _voucherDigest(scratch, user, uint96(head), expiry, generation);
        (bytes32 r, uint256 vs) = _unpackSignature(items, i);
        if (Signatures.recoverCompact(digest, r, vs) != user) return (_WRONG_SIGNATURE, 0);
        return _payVoucher(account, word, claim);
    }

    /// @dev What is wrong with a voucher apart from its signature.
    function _judge(
        Account storage account,
        AccountWord word,
        uint256 fee,
        uint256 claim,
        uint256 expiry,
        uint256 generation
    ) private view returns (uint256) {
        if (word.position() == 0) return _NO_ACCOUNT;
        // The account counts in 96 bits, which are more than there are wei.
        if (claim > fee || claim > type(uint96).max) return _ABOVE_VOUCHER;
        if (block.timestamp > expiry) return _EXPIRED;
        if (generation != word.generation() && !_inGrace(account, word, generation)) return _WRONG_GENERATION;
        return _PAID;
    }

    /// @dev Whether vouchers of a former generation are still settled.
    function _inGrace(Account storage account, AccountWord word, uint256 generation) private view returns (bool) {
        return
            generation < word.generation() &&
            generation >= account.graceFrom &&
            block.timestamp <= account.graceUntil;
    }

    /// @dev Pays what of the claim is not paid yet, as far as the balance goes.
    function _payVoucher(
        Account storage account,
        AccountWord word,
        uint256 claim
    ) private returns (uint256 status, uint256 amount) {
        uint256 before = word.paid();
        if (claim <= before) return (_PAID, 0);
        uint256 balance = word.balance();
        unchecked {
            // The claim is the greater one.
            amount = claim - before;
        }
        if (amount > balance) (amount, status) = (balance, _PARTIAL);
        // Refunds have to give way where the rest does not cover them.
        if (word.refunds() != 0) word = _charge(account, word, amount, 0).withBalance(balance);
        account.word = word.afterVoucher(amount);
    }

    /* INTERNAL: BATCHES */

    function _checkVoucherCount(uint256 count) private pure {
        if (count == 0) revert NoSettlementsProvided();
        if (count > _MAX_VOUCHERS) revert TooManySettlements(count, _MAX_VOUCHERS);
    }

    /// @dev Adds a payment to the list that the event carries.
    function _note(bytes memory payments, uint256 used, address user, uint256 amount) private pure returns (uint256) {
        assembly ("memory-safe") {
            // Made long enough for one word per item.
            mstore(add(add(payments, 0x20), used), or(shl(96, user), amount))
        }
        unchecked {
            return used + 32;
        }
    }

    function _payOut(bytes memory payments, uint256 used, uint256 sum) private {
        if (sum == 0) return;
        assembly ("memory-safe") {
            // Not longer than it was made.
            mstore(payments, used)
        }
        emit VouchersSettled(msg.sender, payments);
        _send(msg.sender, sum);
    }

    /// @dev Two words of packed item `i`: user and fee; claim, expiry and generation.
    function _unpack(bytes calldata items, uint256 i) private pure returns (uint256 head, uint256 tail) {
        assembly ("memory-safe") {
            let start := add(items.offset, mul(i, _PACKED_BYTES))
            head := calldataload(start)
            tail := calldataload(add(start, 32))
        }
    }

    /// @dev The signature of packed item `i`: r; v and s.
    function _unpackSignature(bytes calldata items, uint256 i) private pure returns (bytes32 r, uint256 vs) {
        assembly ("memory-safe") {
            let start := add(items.offset, mul(i, _PACKED_BYTES))
            r := calldataload(add(start, 53))
            vs := calldataload(add(start, 85))
        }
    }

    /// @dev Memory with everything that all digests of a batch share: the voucher's type, user, provider, fee, expiry,
    /// generation in six words; then 0x1901, the domain, and the place of the message's hash.
    function _scratch() private view returns (uint256 scratch) {
        bytes32 domain = Signatures.domain(_DOMAIN_NAME);
        bytes32 voucherType = _VOUCHER_TYPE;
        assembly ("memory-safe") {
            scratch := mload(0x40)
            mstore(0x40, add(scratch, _SCRATCH_BYTES))
            mstore(scratch, voucherType)
            mstore(add(scratch, 0x40), caller())
            mstore(add(scratch, 0xc0), hex"1901")
            mstore(add(scratch, 0xc2), domain)
        }
    }

    function _voucherDigest(
        uint256 scratch,
        address user,
        uint256 fee,
        uint256 expiry,
        uint256 generation
    ) private pure returns (bytes32 digest) {
        assembly ("memory-safe") {
            // All inside what {_scratch} took.
            mstore(add(scratch, 0x20), user)
            mstore(add(scratch, 0x60), fee)
            mstore(add(scratch, 0x80), expiry)
            mstore(add(scratch, 0xa0), generation)
            mstore(add(scratch, 0xe2), keccak256(scratch, 0xc0))
            digest := keccak256(add(scratch, 0xc0), 0x42)
        }
    }

    /// @dev Sends money, or reverts.
    function _send(address to, uint256 amount) internal virtual;
}
