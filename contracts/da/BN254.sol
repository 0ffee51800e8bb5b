// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

// The members are named as in 0G's contracts: clients read them by name.
/* solhint-disable var-name-mixedcase */

/// @notice A point of BN254's G1; (0, 0) is the point at infinity.
struct G1Point {
    uint256 X;
    uint256 Y;
}

/// @notice A point of BN254's G2. Which part of X and Y comes first is said wherever one is taken.
struct G2Point {
    uint256[2] X;
    uint256[2] Y;
}

/* solhint-enable var-name-mixedcase */

/// @title BN254
/// @notice The curve of the EVM's precompiles (EIP-196, EIP-197), and BLS signatures over it.
library BN254 {
    /// @notice A precompile refused a point: a coordinate is out of range, or it is not on the curve.
    error PointInvalid();

    /// @notice Order of the field of coordinates.
    uint256 internal constant P = 21888242871839275222246405745257275088696311157297823662689037894645226208583;
    /// @notice Order of the group.
    uint256 internal constant R = 21888242871839275222246405745257275088548364400416034343698204186575808495617;

    /// (P + 1) / 4: raising to it gives a square root where there is one, since P = 3 modulo 4.
    uint256 private constant _ROOT = 0xc19139cb84c680a6e14116da060561765e05aa45a1c72a34f082305b61f3f52;

    /// @dev Costs 150 gas in the precompile. Returns infinity for a point and its negative.
    function add(G1Point memory a, G1Point memory b) internal view returns (G1Point memory sum) {
        uint256[4] memory input = [a.X, a.Y, b.X, b.Y];
        bool done;
        // Reads the array above, writes the struct returned: both are this function's own.
        assembly ("memory-safe") {
            done := staticcall(gas(), 6, input, 0x80, sum, 0x40)
        }
        if (!done) revert PointInvalid();
    }

    /// @dev Adds the point in words 2 and 3 to the one in words 0 and 1.
    function addInto(uint256[5] memory sum) internal view {
        bool done;
        // Reads and writes the array.
        assembly ("memory-safe") {
            done := staticcall(gas(), 6, sum, 0x80, sum, 0x40)
        }
        if (!done) revert PointInvalid();
    }

    /// @dev Costs 6,000 gas in the precompile.
    function mul(G1Point memory a, uint256 scalar) internal view returns (G1Point memory product) {
        uint256[3] memory input = [a.X, a.Y, scalar];
        bool done;
        // Reads the array above, writes the struct returned: both are this function's own.
        assembly ("memory-safe") {
            done := staticcall(gas(), 7, input, 0x60, product, 0x40)
        }
        if (!done) revert PointInvalid();
    }

    /// @dev Expects coordinates below P.
    function negate(G1Point memory a) internal pure returns (G1Point memory) {
        return G1Point(a.X, a.Y == 0 ? 0 : P - a.Y);
    }

    /// @notice Maps a digest to G1: the first x at or after it for which x^3 + 3 has a root. Not constant in time, and
    /// not RFC 9380: digests are public.
    function hashToG1(bytes32 digest) internal view returns (G1Point memory point) {
        uint256 x = uint256(digest) % P;
        // Every second x fits, on average: some 1,400 gas for each that is tried.
        while (true) {
            uint256 square = addmod(mulmod(mulmod(x, x, P), x, P), 3, P);
            uint256 y = _power(square, _ROOT);
            if (mulmod(y, y, P) == square) return G1Point(x, y);
            x = addmod(x, 1, P);
        }
    }

    /// @notice Whether `signature` is that of `hash` by the secret behind both `pkG1` and `pkG2`.
    /// @dev e(signature + gamma * pkG1, -G2) * e(hash + gamma * G1, pkG2) = 1. `gamma` must be a hash over all of them,
    /// so that nobody can choose the two keys apart. `pkG2` has the imaginary part first, as in EIP-197.
    function verify(
        G1Point memory pkG1,
        G2Point memory pkG2,
        G1Point memory hash,
        G1Point memory signature,
        uint256 gamma
    ) internal view returns (bool) {
        G1Point memory left = add(signature, mul(pkG1, gamma));
        G1Point memory right = add(hash, mul(G1Point(1, 2), gamma));
        uint256[12] memory input = [
            left.X,
            left.Y,
            // -G2, imaginary part first.
            0x198e9393920d483a7260bfb731fb5d25f1aa493335a9e71297e485b7aef312c2,
            0x1800deef121f1e76426a00665e5c4479674322d4f75edadd46debd5cd992f6ed,
            0x275dc4a288d1afb3cbb1ac09187524c7db36395df7be3b99e673b13a075a65ec,
            0x1d9befcd05a5323e6da4d435f3b617cdb3af83285c2df711ef39c01571827f9d,
            right.X,
            right.Y,
            pkG2.X[0],
            pkG2.X[1],
            pkG2.Y[0],
            pkG2.Y[1]
        ];
        uint256[1] memory one;
        bool done;
        // Reads and writes the two arrays above.
        assembly ("memory-safe") {
            done := staticcall(gas(), 8, input, 0x180, one, 0x20)
        }
        if (!done) revert PointInvalid();
        return one[0] == 1;
    }

    function _power(uint256 base, uint256 exponent) private view returns (uint256) {
        uint256[6] memory input = [uint256(32), 32, 32, base, exponent, P];
        // Cannot fail: the input is well formed. Overwrites the first word of the array with the result.
        assembly ("memory-safe") {
            pop(staticcall(gas(), 5, input, 0xc0, input, 0x20))
        }
        return input[0];
    }
}
