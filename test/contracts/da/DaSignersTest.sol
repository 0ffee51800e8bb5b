// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import { BN254, G1Point, G2Point } from "../../../contracts/da/BN254.sol";
import { DASigners } from "../../../contracts/da/DASigners.sol";
import { Governance } from "../../../contracts/governance/Governance.sol";
import { DASignersParameters, SignerDetail } from "../../../contracts/interfaces/IDASigners.sol";
import { Test } from "../support/Test.sol";

/// @notice A fresh table of signers with all of them governed by the test itself. Every signer has the key 1, whose
/// public parts are the generators: possession is proved for the address, so nothing depends on keys being different.
abstract contract DaSignersTest is Test {
    uint64 internal constant EPOCH_BLOCKS = 100;
    uint64 internal constant UNBONDING_EPOCHS = 5;
    uint128 internal constant MIN_STAKE = 1 ether;

    Governance internal governance;
    DASigners internal signers;
    /// @dev Stands for the custody contract: it may slash, and takes what it is sent.
    address internal custody = address(0xC0570D1);

    function setUp() public virtual {
        governance = new Governance(address(this), address(0), 0, new address[](0));
        signers = new DASigners(address(governance), custody, parameters());
    }

    function parameters() internal pure returns (DASignersParameters memory) {
        return DASignersParameters(EPOCH_BLOCKS, UNBONDING_EPOCHS, MIN_STAKE);
    }

    /// @dev Address number `index`, never the zero address.
    function account(uint256 index) internal pure returns (address) {
        return address(uint160(0x51600000 + index));
    }

    /// @dev What `signer` shows to join with key 1: its signature is the hash itself.
    function credentials(address signer) internal view returns (SignerDetail memory detail, G1Point memory signature) {
        detail.signer = signer;
        detail.socket = "http://127.0.0.1:1";
        detail.pkG1 = G1Point(1, 2);
        detail.pkG2 = G2Point(
            [
                10857046999023057135944570762232829481370756359578518086990519993285655852781,
                11559732032986387107991004021392285783925812861821192530917403151452391805634
            ],
            [
                8495653923123431417604973247489272438418190587263600148770280649306958101930,
                4082367875863433681332203403145435568316851327593401208105741076214120093531
            ]
        );
        signature = BN254.hashToG1(
            keccak256(abi.encodePacked(signer, block.chainid, "0G_BN254_Pubkey_Registration"))
        );
    }

    function join(address signer, uint256 stakeWei) internal {
        (SignerDetail memory detail, G1Point memory signature) = credentials(signer);
        vm.deal(signer, signer.balance + stakeWei);
        vm.prank(signer);
        signers.registerSigner{ value: stakeWei }(detail, signature);
    }

    function nextEpoch() internal {
        vm.roll(signers.nextEpochBlock());
    }

    function bonded(address signer) internal view returns (uint256 wei_) {
        (wei_, , ) = signers.stakeOf(signer);
    }

    function unbonding(address signer) internal view returns (uint256 wei_) {
        (, wei_, ) = signers.stakeOf(signer);
    }
}
