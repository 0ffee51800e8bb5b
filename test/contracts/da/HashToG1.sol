// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import { BN254, G1Point } from "../../../contracts/da/BN254.sol";

/// @notice Lets tests ask what a digest is mapped to.
contract HashToG1 {
    function point(bytes32 digest) external view returns (G1Point memory) {
        return BN254.hashToG1(digest);
    }
}
