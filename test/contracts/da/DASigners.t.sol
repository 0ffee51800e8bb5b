// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import { IAccessManaged } from "@openzeppelin/contracts/access/manager/IAccessManaged.sol";
import { G1Point } from "../../../contracts/da/BN254.sol";
import { DASigners } from "../../../contracts/da/DASigners.sol";
import {
    DASignersParameters,
    IDASigners,
    SignerDetail,
    SignerView
} from "../../../contracts/interfaces/IDASigners.sol";
import { DaSignersTest } from "./DaSignersTest.sol";

/// @notice A signer that does not take money.
contract Refuser {
    function run(address target, uint256 value, bytes calldata data) external payable returns (bytes memory) {
        (bool ok, bytes memory answer) = target.call{ value: value }(data);
        if (!ok) {
            assembly ("memory-safe") {
                revert(add(answer, 0x20), mload(answer))
            }
        }
        return answer;
    }
}

/// @notice Stakes, epochs, terms, and who may do what.
contract DASignersStakesTest is DaSignersTest {
    address private constant ALICE = address(0xA11CE);
    address private constant BOB = address(0xB0B);

    /* JOINING */

    function test_JoiningCountsFromTheNextEpoch() public {
        join(ALICE, 3 ether);
        eq(signers.signerCount(0), 0, "nobody in the running epoch");
        eq(signers.quorumCount(0), 0, "no quorum in the running epoch");
        eq(signers.signerCount(1), 1, "one in the next");
        nextEpoch();
        eq(signers.epochNumber(), 1, "epoch");
        eq(signers.totalStake(1), 3 ether, "stake");
        (address owner, uint256 index) = signers.signerOfRow(1, 3071);
        eq(owner, ALICE, "owner of the last row");
        eq(index, 0, "its place");
        eq(signers.totalStake(0), 0, "the past has not changed");
    }

    function test_OnlyTheSignerItselfJoins() public {
        (SignerDetail memory detail, G1Point memory signature) = credentials(ALICE);
        vm.deal(BOB, 3 ether);
        vm.prank(BOB);
        vm.expectRevert(abi.encodeWithSelector(IDASigners.CallerIsNotSigner.selector, BOB, ALICE));
        signers.registerSigner{ value: 1 ether }(detail, signature);
        // Somebody else's proof of possession is no proof.
        detail.signer = BOB;
        vm.prank(BOB);
        vm.expectRevert(IDASigners.SignatureInvalid.selector);
        signers.registerSigner{ value: 1 ether }(detail, signature);
    }

    /// The keys in both groups must be of one secret, and not the point at infinity.
    function test_KeysMustBelongTogether() public {
        (SignerDetail memory detail, G1Point memory signature) = credentials(ALICE);
        vm.deal(ALICE, 9 ether);
        vm.startPrank(ALICE);
        detail.pkG1 = signature;
        vm.expectRevert(IDASigners.SignatureInvalid.selector);
        signers.registerSigner{ value: 1 ether }(detail, signature);
        (detail.pkG1, signature) = (G1Point(0, 0), G1Point(0, 0));
        detail.pkG2.X = [uint256(0), 0];
        detail.pkG2.Y = [uint256(0), 0];
        vm.expectRevert(IDASigners.SignatureInvalid.selector);
        signers.registerSigner{ value: 1 ether }(detail, signature);
        vm.stopPrank();
    }

    function test_StakeAndSocketAreBounded() public {
        (SignerDetail memory detail, G1Point memory signature) = credentials(ALICE);
        vm.deal(ALICE, type(uint128).max);
        vm.startPrank(ALICE);
        vm.expectRevert(abi.encodeWithSelector(IDASigners.StakeTooLow.selector, 1 ether - 1, 1 ether));
        signers.registerSigner{ value: 1 ether - 1 }(detail, signature);
        vm.expectRevert(abi.encodeWithSelector(IDASigners.StakeTooHigh.selector, 1 << 96, type(uint96).max));
        signers.registerSigner{ value: 1 << 96 }(detail, signature);
        detail.socket = "";
        vm.expectRevert(abi.encodeWithSelector(IDASigners.SocketLength.selector, 0, 256));
        signers.registerSigner{ value: 1 ether }(detail, signature);
        detail.socket = string(new bytes(257));
        vm.expectRevert(abi.encodeWithSelector(IDASigners.SocketLength.selector, 257, 256));
        signers.registerSigner{ value: 1 ether }(detail, signature);
        detail.socket = string(new bytes(256));
        signers.registerSigner{ value: type(uint96).max }(detail, signature);
        vm.expectRevert(abi.encodeWithSelector(IDASigners.StakeTooHigh.selector, 1 << 96, type(uint96).max));
        signers.addStake{ value: 1 }();
        vm.expectRevert(abi.encodeWithSelector(IDASigners.AlreadyRegistered.selector, ALICE));
        signers.registerSigner{ value: 1 ether }(detail, signature);
        vm.stopPrank();
    }

    /// Keys are for ever: who comes back does so with the same ones.
    function test_ComesBackWithTheSameKeys() public {
        join(ALICE, 1 ether);
        vm.prank(ALICE);
        signers.requestUnbond(1 ether);
        isTrue(signers.isSigner(ALICE), "keys are still on record");
        (SignerDetail memory detail, G1Point memory signature) = credentials(ALICE);
        detail.pkG1 = signature;
        vm.deal(ALICE, 2 ether);
        vm.prank(ALICE);
        vm.expectRevert(abi.encodeWithSelector(IDASigners.KeysDiffer.selector, ALICE));
        signers.registerSigner{ value: 2 ether }(detail, signature);
        join(ALICE, 2 ether);
        eq(signers.totalStake(1), 2 ether, "counts again");
        eq(unbonding(ALICE), 1 ether, "the old stake still unbonds");
    }

    /* UNBONDING */

    /// Stake that left the table stays for `unbondingEpochs` after the epochs that it counted in.
    function test_UnbondingTakesItsTime() public {
        join(ALICE, 5 ether);
        nextEpoch();
        vm.startPrank(ALICE);
        vm.expectRevert(abi.encodeWithSelector(IDASigners.UnbondAmount.selector, 0, 5 ether));
        signers.requestUnbond(0);
        vm.expectRevert(abi.encodeWithSelector(IDASigners.UnbondAmount.selector, 6 ether, 5 ether));
        signers.requestUnbond(6 ether);
        vm.expectRevert(abi.encodeWithSelector(IDASigners.StakeTooLow.selector, 1 ether - 1, 1 ether));
        signers.requestUnbond(4 ether + 1);
        signers.requestUnbond(4 ether);
        eq(signers.totalStake(1), 5 ether, "counts in full in the running epoch");
        eq(signers.totalStake(2), 1 ether, "and less in the next");
        vm.roll(vm.getBlockNumber() + UNBONDING_EPOCHS * EPOCH_BLOCKS + EPOCH_BLOCKS - 2);
        eq(signers.epochNumber(), 6, "one block before its time");
        vm.roll(signers.nextEpochBlock() - 1);
        vm.expectRevert(abi.encodeWithSelector(IDASigners.StillUnbonding.selector, 7, 6));
        signers.withdrawUnbonded();
        vm.roll(signers.nextEpochBlock());
        signers.withdrawUnbonded();
        eq(ALICE.balance, 4 ether, "paid out");
        vm.expectRevert(abi.encodeWithSelector(IDASigners.NothingUnbonding.selector, ALICE));
        signers.withdrawUnbonded();
        vm.stopPrank();
    }

    function test_MembersOnly() public {
        vm.deal(BOB, 1 ether);
        vm.startPrank(BOB);
        bytes memory missing = abi.encodeWithSelector(IDASigners.NotRegistered.selector, BOB);
        vm.expectRevert(missing);
        signers.addStake{ value: 1 }();
        vm.expectRevert(missing);
        signers.requestUnbond(1);
        vm.expectRevert(missing);
        signers.updateSocket("x");
        vm.stopPrank();
        address[] memory asked = new address[](1);
        asked[0] = BOB;
        vm.expectRevert(missing);
        signers.getSigner(asked);
    }

    function test_ARefusedPaymentLosesNothing() public {
        Refuser refuser = new Refuser();
        (SignerDetail memory detail, G1Point memory signature) = credentials(address(refuser));
        refuser.run{ value: 1 ether }(
            address(signers),
            1 ether,
            abi.encodeCall(IDASigners.registerSigner, (detail, signature))
        );
        refuser.run(address(signers), 0, abi.encodeCall(IDASigners.requestUnbond, (1 ether)));
        vm.roll(vm.getBlockNumber() + (UNBONDING_EPOCHS + 1) * EPOCH_BLOCKS);
        vm.expectRevert(abi.encodeWithSelector(IDASigners.PaymentRefused.selector, address(refuser), 1 ether));
        refuser.run(address(signers), 0, abi.encodeCall(IDASigners.withdrawUnbonded, ()));
        eq(unbonding(address(refuser)), 1 ether, "still there");
    }

    /* SLASHING */

    function test_OnlyCustodySlashes() public {
        join(ALICE, 2 ether);
        vm.prank(ALICE);
        vm.expectRevert(abi.encodeWithSelector(IDASigners.CallerIsNotCustody.selector, ALICE));
        signers.slash(ALICE, 1);
    }

    /// Bonded stake goes first, then what unbonds; what is left below the minimum leaves the table.
    function test_SlashingTakesWhatThereIs() public {
        join(ALICE, 10 ether);
        join(BOB, 1 ether);
        vm.prank(ALICE);
        signers.requestUnbond(4 ether);
        vm.startPrank(custody);
        eq(signers.slash(ALICE, 2 ether), 2 ether, "taken");
        eq(bonded(ALICE), 4 ether, "bonded");
        eq(signers.totalStake(1), 5 ether, "counts less");
        eq(signers.slash(ALICE, 3.5 ether), 3.5 ether, "taken next");
        eq(bonded(ALICE), 0, "the rest is below the minimum");
        eq(unbonding(ALICE), 4.5 ether, "and unbonds");
        eq(signers.signerCount(1), 1, "out of the table");
        (address owner, uint256 index) = signers.signerOfRow(1, 0);
        eq(owner, BOB, "the other moved up");
        eq(index, 0, "to the first place");
        eq(signers.slash(ALICE, 100 ether), 4.5 ether, "not more than what is there");
        eq(signers.slash(ALICE, 100 ether), 0, "nothing left");
        eq(signers.slash(address(0xDEAD), 1), 0, "nobody");
        vm.stopPrank();
        eq(custody.balance, 10 ether, "all of it was sent");
        eq(address(signers).balance, 1 ether, "the other's stake is untouched");
    }

    /* EPOCHS AND TERMS */

    function test_EpochsAreRecordedOnce() public {
        join(ALICE, 2 ether);
        nextEpoch();
        vm.recordLogs();
        signers.makeEpoch();
        signers.makeEpoch();
        eq(vm.getRecordedLogs().length, 1, "one event");
        vm.roll(vm.getBlockNumber() + 1000 * EPOCH_BLOCKS);
        eq(signers.epochNumber(), 1001, "idle epochs pass");
        eq(signers.totalStake(1001), 2 ether, "with the same table");
        eq(signers.totalStake(1), 2 ether, "then as now");
        vm.expectRevert(abi.encodeWithSelector(IDASigners.UnknownEpoch.selector, 1003, 1002));
        signers.signerCount(1003);
    }

    /// A new length holds from the next epoch on: the running one ends when it was to end, whatever happens in between.
    function testFuzz_EpochsNeverGoBackOrJump(uint256 seed) public {
        uint256 epoch = 0;
        uint256 next = signers.nextEpochBlock();
        for (uint256 i = 0; i < 40; ++i) {
            uint256 dice = uint256(keccak256(abi.encode(seed, i)));
            if (dice % 3 == 0) {
                signers.setEpochBlocks(bound(dice >> 8, 25, 400));
                eq(signers.nextEpochBlock(), next, "the end of the running epoch stays");
                eq(signers.epochNumber(), epoch, "and its number");
            } else {
                uint256 to = vm.getBlockNumber() + (dice >> 8) % 40;
                while (vm.getBlockNumber() < to) {
                    vm.roll(to < next ? to : next);
                    if (to < next) break;
                    eq(signers.epochNumber(), ++epoch, "the next epoch begins at its block");
                    next = signers.nextEpochBlock();
                    isTrue(next >= vm.getBlockNumber() + 25 && next <= vm.getBlockNumber() + 400, "length in bounds");
                }
            }
        }
    }

    function test_GovernanceIsBounded() public {
        vm.startPrank(ALICE);
        bytes memory denied = abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, ALICE);
        vm.expectRevert(denied);
        signers.setEpochBlocks(100);
        vm.expectRevert(denied);
        signers.setMinStake(1 ether);
        vm.expectRevert(denied);
        signers.pause();
        vm.expectRevert(denied);
        signers.unpause();
        vm.stopPrank();
        vm.expectRevert(abi.encodeWithSelector(IDASigners.TermOutOfRange.selector, 24, 25, 400));
        signers.setEpochBlocks(24);
        vm.expectRevert(abi.encodeWithSelector(IDASigners.TermOutOfRange.selector, 401, 25, 400));
        signers.setEpochBlocks(401);
        vm.expectRevert(abi.encodeWithSelector(IDASigners.TermOutOfRange.selector, 5 ether, 0.25 ether, 4 ether));
        signers.setMinStake(5 ether);
        signers.setMinStake(4 ether);
        eq(signers.minStake(), 4 ether, "new minimum");
    }

    function test_TheFirstTermsAreChecked() public {
        vm.expectRevert(abi.encodeWithSelector(IDASigners.TermOutOfRange.selector, 0, 1, type(uint24).max / 4));
        new DASigners(address(governance), custody, DASignersParameters(0, 1, 1));
        vm.expectRevert(abi.encodeWithSelector(IDASigners.TermOutOfRange.selector, 0, 1, type(uint96).max / 4));
        new DASigners(address(governance), custody, DASignersParameters(1, 1, 0));
        vm.expectRevert(abi.encodeWithSelector(IDASigners.TermOutOfRange.selector, 0, 1, type(uint32).max));
        new DASigners(address(governance), custody, DASignersParameters(1, 0, 1));
    }

    /// A halt keeps newcomers out and nothing else: members add, leave, and are paid.
    function test_AHaltKeepsNewcomersOutOnly() public {
        join(ALICE, 2 ether);
        signers.pause();
        (SignerDetail memory detail, G1Point memory signature) = credentials(BOB);
        vm.deal(BOB, 1 ether);
        vm.prank(BOB);
        vm.expectRevert(IDASigners.EnforcedPause.selector);
        signers.registerSigner{ value: 1 ether }(detail, signature);
        vm.deal(ALICE, 1 ether);
        vm.startPrank(ALICE);
        signers.addStake{ value: 1 ether }();
        signers.updateSocket("http://elsewhere");
        signers.requestUnbond(3 ether);
        vm.roll(vm.getBlockNumber() + (UNBONDING_EPOCHS + 1) * EPOCH_BLOCKS);
        signers.withdrawUnbonded();
        vm.stopPrank();
        eq(ALICE.balance, 3 ether, "all of it is back");
        signers.unpause();
        join(BOB, 1 ether);
    }

    function test_SocketsAreTheNewestOnes() public {
        join(ALICE, 2 ether);
        vm.prank(ALICE);
        signers.updateSocket("http://elsewhere");
        SignerView[] memory all = signers.signersAt(1, 0, 10);
        eq(all.length, 1, "one signer");
        eq(keccak256(bytes(all[0].socket)), keccak256("http://elsewhere"), "its socket");
    }
}
