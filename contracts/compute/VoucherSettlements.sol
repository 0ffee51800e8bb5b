// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import { IInferenceServing, VoucherSettlement } from "../interfaces/IInferenceServing.sol";
import { AccountWord } from "./AccountWord.sol";
import { InferenceServices } from "./InferenceServices.sol";
import { Signatures } from "./Signatures.sol";

/// @title VoucherSettlements
/// @notice Charging what users signed; see {IInferenceServing}.
abstract contract VoucherSettlements is InferenceServices {
    /* CONSTANTS */

    uint8 private constant _PAID = 0;
    uint8 private constant _PARTIAL = 1;
    uint8 private constant _NO_ACCOUNT = 2;
    uint8 private constant _EXPIRED = 3;
    uint8 private constant _WRONG_GENERATION = 4;
    uint8 private constant _WRONG_SIGNATURE = 5;
    uint8 private constant _ABOVE_VOUCHER = 6;

    uint256 private constant _MAX_VOUCHERS = 100;

    bytes32 private constant _DOMAIN_NAME = keccak256("Weightless Inference");
    bytes32 private constant _VOUCHER_TYPE =
        keccak256("Voucher(address user,address provider,uint128 cumulativeFee,uint64 expiry,uint64 generation)");

    /* SETTLING */

    /// @inheritdoc IInferenceServing
    function settleVouchers(
        VoucherSettlement[] calldata items
    ) external nonReentrant returns (uint8[] memory statuses) {
        uint256 count = items.length;
        if (count == 0) revert NoSettlementsProvided();
        if (count > _MAX_VOUCHERS) revert TooManySettlements(count, _MAX_VOUCHERS);
        statuses = new uint8[](count);
        bytes32[] memory payments = new bytes32[](count);
        bytes32 domain = Signatures.domain(_DOMAIN_NAME);
        mapping(address user => Account) storage accounts = _accounts[msg.sender];
        uint256 paid;
        uint256 sum;
        for (uint256 i = 0; i < count; ++i) {
            VoucherSettlement calldata item = items[i];
            address user = item.user;
            (uint8 status, uint256 amount) = _settleVoucher(accounts[user], item, user, domain);
            statuses[i] = status;
            if (amount == 0) continue;
            unchecked {
                // A hundred amounts below 2^96.
                sum += amount;
                payments[paid++] = bytes32((uint256(uint160(user)) << 96) | amount);
            }
        }
        if (sum == 0) return statuses;
        assembly ("memory-safe") {
            // Not longer than it was made.
            mstore(payments, paid)
        }
        emit VouchersSettled(msg.sender, payments);
        _send(msg.sender, sum);
    }

    /// @inheritdoc IInferenceServing
    function voucherPaid(address user, address provider) external view returns (uint128) {
        // The field has 96 bits.
        return uint128(_accounts[provider][user].word.paid());
    }

    /* INTERNAL */

    function _settleVoucher(
        Account storage account,
        VoucherSettlement calldata item,
        address user,
        bytes32 domain
    ) private returns (uint8 status, uint256 amount) {
        AccountWord word = account.word;
        if (word.position() == 0) return (_NO_ACCOUNT, 0);
        uint256 claim = item.claim;
        if (claim > item.cumulativeFee) return (_ABOVE_VOUCHER, 0);
        if (block.timestamp > item.expiry) return (_EXPIRED, 0);
        if (item.generation != word.generation() && !_inGrace(account, word, item.generation)) {
            return (_WRONG_GENERATION, 0);
        }
        bytes32 digest = Signatures.digest(domain, _voucherHash(item, user));
        if (!Signatures.isSignedBy(digest, item.signature, user)) return (_WRONG_SIGNATURE, 0);

        uint256 before = word.paid();
        if (claim <= before) return (_PAID, 0);
        unchecked {
            // The claim is the greater one.
            amount = claim - before;
        }
        uint256 room = type(uint96).max - before;
        uint256 balance = word.balance();
        if (room > balance) room = balance;
        if (amount > room) (amount, status) = (room, _PARTIAL);
        // Refunds first: they may have to give way.
        if (word.refunds() != 0) word = _charge(account, word, amount, 0).withBalance(balance);
        account.word = word.afterVoucher(amount);
    }

    /// @dev Whether vouchers of a former generation are still settled.
    function _inGrace(Account storage account, AccountWord word, uint256 generation) private view returns (bool) {
        return
            generation < word.generation() &&
            generation >= account.graceFrom &&
            block.timestamp <= account.graceUntil;
    }

    function _voucherHash(VoucherSettlement calldata item, address user) private view returns (bytes32 hash) {
        uint256 cumulativeFee = item.cumulativeFee;
        uint256 expiry = item.expiry;
        uint256 generation = item.generation;
        bytes32 voucherType = _VOUCHER_TYPE;
        assembly ("memory-safe") {
            // Beyond the free memory pointer, for hashing alone.
            let start := mload(0x40)
            mstore(start, voucherType)
            mstore(add(start, 0x20), user)
            mstore(add(start, 0x40), caller())
            mstore(add(start, 0x60), cumulativeFee)
            mstore(add(start, 0x80), expiry)
            mstore(add(start, 0xa0), generation)
            hash := keccak256(start, 0xc0)
        }
    }

    /// @dev Sends money, or reverts.
    function _send(address to, uint256 amount) internal virtual;
}
