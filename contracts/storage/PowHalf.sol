// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title PowHalf
/// @notice Powers of one half in fixed point, bit for bit as in the protocol.
library PowHalf {
    /// @dev ln(2), ln(2)^2, ln(2)^3, ln(2)^4, times 2^128.
    int256 private constant _LN2 = 235865763225513294137944142764154484399;
    int256 private constant _LN2_2 = 163489688770384171654468164494102986538;
    int256 private constant _LN2_3 = 113322416821814740463990287346838243787;
    int256 private constant _LN2_4 = 78549113714279805586246364391047974677;

    /// @notice `2^96 * 2^(-exponent / 2^64)`, rounded down.
    /// @dev The lowest 54 bits of the exponent by a Taylor series of four terms, the next 10 by a factor each, the rest
    /// by shifting.
    function powHalf64X96(uint256 exponent) internal pure returns (uint256 value) {
        value = _series(exponent & ((1 << 54) - 1));
        unchecked {
            // The value stays below 2^128 and each factor, 2^128 * 2^(-2^-j), is too.
            if (exponent & (1 << 54) != 0) value = (value * 0xffd3a751c0f7e10bd3b9f8ae012fbe06) >> 128;
            if (exponent & (1 << 55) != 0) value = (value * 0xffa756521c8daed19f3a1b48fb94c589) >> 128;
            if (exponent & (1 << 56) != 0) value = (value * 0xff4ecb59511ec8a5301ba217ef18dd7c) >> 128;
            if (exponent & (1 << 57) != 0) value = (value * 0xfe9e115c7b8f884badd25995e79d2f09) >> 128;
            if (exponent & (1 << 58) != 0) value = (value * 0xfd3e0c0cf486c174853f3a5931e0ee03) >> 128;
            if (exponent & (1 << 59) != 0) value = (value * 0xfa83b2db722a033a7c25bb14315d7fcc) >> 128;
            if (exponent & (1 << 60) != 0) value = (value * 0xf5257d152486cc2c7b9d0c7aed980fc3) >> 128;
            if (exponent & (1 << 61) != 0) value = (value * 0xeac0c6e7dd24392ed02d75b3706e54fa) >> 128;
            if (exponent & (1 << 62) != 0) value = (value * 0xd744fccad69d6af439a68bb9902d3fde) >> 128;
            if (exponent & (1 << 63) != 0) value = (value * 0xb504f333f9de6484597d89b3754abe9f) >> 128;
        }
        return value >> (31 + (exponent >> 64));
    }

    /// @dev `2^127 * 2^(-fraction / 2^64)` for a fraction below 2^54.
    function _series(uint256 fraction) private pure returns (uint256) {
        if (fraction == 0) return 1 << 127;
        unchecked {
            // |x| < 2^117, so that no product reaches 2^246. Shifts of negative numbers round down, divisions to zero.
            int256 x = -int256(fraction) << 63;
            int256 x2 = (x * x) >> 127;
            int256 x3 = (x2 * x) >> 127;
            int256 x4 = (x3 * x) >> 127;
            int256 sum = (1 << 128) + ((x * _LN2) >> 127) + ((x2 * _LN2_2) >> 128);
            sum += ((x3 * _LN2_3) >> 127) / 6 + ((x4 * _LN2_4) >> 127) / 24;
            // Between 2^127 and 2^128: positive.
            return uint256(sum >> 1);
        }
    }
}
