// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @notice All of a sub-account that a voucher's settlement needs, in one word of storage:
/// balance (bits 0..95) | paid by vouchers (96..191) | generation (192..223) | position, counted from 1 (224..231) |
/// pending refunds (232..239) | acknowledged (240).
type AccountWord is uint256;

using {
    balance,
    paid,
    generation,
    position,
    refunds,
    acknowledged,
    withBalance,
    withGeneration,
    withPosition,
    withRefunds,
    withAcknowledged,
    afterVoucher
} for AccountWord global;

/// @notice Wei in the sub-account.
function balance(AccountWord word) pure returns (uint256) {
    return uint96(AccountWord.unwrap(word));
}

/// @notice Wei that vouchers have paid over the sub-account's whole life.
function paid(AccountWord word) pure returns (uint256) {
    return uint96(AccountWord.unwrap(word) >> 96);
}

/// @notice How often the user revoked everything it had signed.
function generation(AccountWord word) pure returns (uint256) {
    return uint32(AccountWord.unwrap(word) >> 192);
}

/// @notice Place among the user's sub-accounts, counted from 1; 0 if there is no such sub-account.
function position(AccountWord word) pure returns (uint256) {
    return uint8(AccountWord.unwrap(word) >> 224);
}

/// @notice Number of pending refunds.
function refunds(AccountWord word) pure returns (uint256) {
    return uint8(AccountWord.unwrap(word) >> 232);
}

/// @notice Whether the user trusts the provider's signer.
function acknowledged(AccountWord word) pure returns (bool) {
    return (AccountWord.unwrap(word) >> 240) & 1 == 1;
}

/// @dev `value` below 2^96.
function withBalance(AccountWord word, uint256 value) pure returns (AccountWord) {
    return AccountWord.wrap((AccountWord.unwrap(word) & ~uint256(type(uint96).max)) | value);
}

/// @dev `value` below 2^32.
function withGeneration(AccountWord word, uint256 value) pure returns (AccountWord) {
    return AccountWord.wrap((AccountWord.unwrap(word) & ~(uint256(type(uint32).max) << 192)) | (value << 192));
}

/// @dev `value` below 2^8.
function withPosition(AccountWord word, uint256 value) pure returns (AccountWord) {
    return AccountWord.wrap((AccountWord.unwrap(word) & ~(uint256(type(uint8).max) << 224)) | (value << 224));
}

/// @dev `value` below 2^8.
function withRefunds(AccountWord word, uint256 value) pure returns (AccountWord) {
    return AccountWord.wrap((AccountWord.unwrap(word) & ~(uint256(type(uint8).max) << 232)) | (value << 232));
}

function withAcknowledged(AccountWord word, bool value) pure returns (AccountWord) {
    uint256 bit = 1 << 240;
    return AccountWord.wrap(value ? AccountWord.unwrap(word) | bit : AccountWord.unwrap(word) & ~bit);
}

/// @notice Moves `amount` from the balance to what vouchers paid.
/// @dev `amount` is at most the balance, and at most what is left of 96 bits above what was paid.
function afterVoucher(AccountWord word, uint256 amount) pure returns (AccountWord) {
    unchecked {
        // Neither field borrows from or carries into its neighbour, by the bounds above.
        return AccountWord.wrap(AccountWord.unwrap(word) - amount + (amount << 96));
    }
}
