// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import { IAccessManaged } from "@openzeppelin/contracts/access/manager/IAccessManaged.sol";
import { IPoraMine, MineParameters } from "../../../contracts/interfaces/IPoraMine.sol";
import { PoraMine } from "../../../contracts/storage/PoraMine.sol";
import { StorageTest } from "../support/StorageTest.sol";

/// @notice Parameters keep their bounds from the first block on; identities belong to who registered them.
contract MineSettingsTest is StorageTest {
    PoraMine private _mine;

    function setUp() public override {
        deployMine = true;
        super.setUp();
        _mine = mine;
    }

    /* INTERFACE */

    function test_Selectors() public view {
        eq(uint32(_mine.submit.selector), 0xae722e82, "submit");
        eq(uint32(_mine.requestMinerId.selector), 0x047c13f5, "requestMinerId");
        eq(uint32(_mine.transferBeneficial.selector), 0xb0628ee0, "transferBeneficial");
        eq(uint32(_mine.computeWorkerContext.selector), 0x296beba7, "computeWorkerContext");
        eq(uint32(_mine.canSubmit.selector), 0xffbc9bd0, "canSubmit");
        eq(uint32(_mine.poraVersion.selector), 0xe282e27b, "poraVersion");
        eq(uint32(_mine.beneficiaries.selector), 0x39cd53ee, "beneficiaries");
        eq(uint32(_mine.computeWorkerContextCaller.selector), 0xc10a7297, "computeWorkerContextCaller");
        eq(uint32(_mine.basicCheck.selector), 0x3baebb75, "basicCheck");
        eq(uint32(_mine.pora.selector), 0x8c0bca06, "pora");
        eq(uint32(_mine.getSubtaskDigest.selector), 0x78203ab6, "getSubtaskDigest");
        eq(uint32(reward.firstRewardableChunk.selector), 0xb3b30c1a, "firstRewardableChunk");
        eq(uint32(reward.rewards.selector), 0xf301af42, "rewards");
        eq(uint32(reward.withdrawPayments.selector), 0x31b3eb94, "withdrawPayments");
        eq(uint32(reward.payments.selector), 0xe2982c21, "payments");
        eq(uint32(reward.claimMineReward.selector), 0xb7a3c04c, "claimMineReward");
        eq(uint32(reward.rewardDeadline.selector), 0x0a539a19, "rewardDeadline");
        eq(uint32(reward.donate.selector), 0xed88c68e, "donate");
        eq(_mine.poraVersion(), 1, "version");
        isTrue(_mine.sealDataEnabled() && _mine.dataProofEnabled() && !_mine.fixedDifficulty(), "everything is checked");
    }

    /* DEPLOYMENT */

    /// What a setter would refuse, deployment refuses.
    function test_DeploymentObeysTheBounds() public {
        MineParameters memory p = mineParameters();
        p.difficulty = 0;
        _refuses(p, _outOfBounds("difficulty", 0, 1, type(uint256).max));
        p = mineParameters();
        p.targetMineBlocks = 0;
        _refuses(p, _outOfBounds("targetMineBlocks", 0, 1, 8191));
        p.targetMineBlocks = 8192;
        _refuses(p, _outOfBounds("targetMineBlocks", 8192, 1, 8191));
        p.targetMineBlocks = BLOCKS_PER_EPOCH - 1;
        _refuses(p, abi.encodeWithSelector(IPoraMine.WindowsTooLong.selector, BLOCKS_PER_EPOCH, BLOCKS_PER_EPOCH));
        p = mineParameters();
        p.targetSubmissions = 0;
        _refuses(p, _outOfBounds("targetSubmissions", 0, 1, 65535));
        p = mineParameters();
        p.maxShards = 0;
        _refuses(p, _outOfBounds("maxShards", 0, 1, 1 << 31));
        p.maxShards = 3;
        _refuses(p, abi.encodeWithSelector(IPoraMine.NotPowerOfTwo.selector, 3));
        p = mineParameters();
        p.nSubtasks = 0;
        _refuses(p, _outOfBounds("nSubtasks", 0, 1, 65535));
        p.nSubtasks = 5;
        p.subtaskInterval = 20;
        _refuses(p, abi.encodeWithSelector(IPoraMine.WindowsTooLong.selector, 131, BLOCKS_PER_EPOCH));
        p = mineParameters();
        p.subtaskInterval = 0;
        _refuses(p, _outOfBounds("subtaskInterval", 0, 1, type(uint32).max));
        p = mineParameters();
        p.difficultyAdjustRatio = 0;
        _refuses(p, _outOfBounds("difficultyAdjustRatio", 0, 1, 32767));
    }

    /// A mine that the reward contract does not know is not deployed.
    function test_DeploymentChecksTheWiring() public {
        MineParameters memory p = mineParameters();
        vm.expectRevert(abi.encodeWithSelector(IPoraMine.NotWired.selector, address(reward)));
        new PoraMine(address(governance), address(flow), address(reward), p);
        vm.expectRevert(abi.encodeWithSelector(IPoraMine.NotWired.selector, address(flow)));
        new PoraMine(address(governance), address(flow), ALICE, p);
    }

    /* SETTERS */

    function test_SettersAreGoverned() public {
        bytes[] memory calls = new bytes[](7);
        calls[0] = abi.encodeCall(_mine.setTargetMineBlocks, (1));
        calls[1] = abi.encodeCall(_mine.setTargetSubmissions, (1));
        calls[2] = abi.encodeCall(_mine.setDifficultyAdjustRatio, (1));
        calls[3] = abi.encodeCall(_mine.setMaxShards, (1));
        calls[4] = abi.encodeCall(_mine.setMinDifficulty, (1));
        calls[5] = abi.encodeCall(_mine.setNumSubtasks, (1));
        calls[6] = abi.encodeCall(_mine.setSubtaskInterval, (1));
        bytes memory refused = abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, ALICE);
        for (uint256 i = 0; i < calls.length; ++i) {
            vm.prank(ALICE);
            (bool ok, bytes memory answer) = address(_mine).call(calls[i]);
            isTrue(!ok && keccak256(answer) == keccak256(refused), "refused");
            (ok, ) = address(_mine).call(calls[i]);
            isTrue(ok, "taken from governance");
        }
    }

    /// Each setter changes its parameter and no other, within its bounds.
    function test_SettersSet() public {
        _mine.setTargetMineBlocks(7);
        _mine.setTargetSubmissions(8);
        _mine.setDifficultyAdjustRatio(9);
        _mine.setMaxShards(64);
        _mine.setSubtaskInterval(11);
        _mine.setNumSubtasks(3);
        eq(_mine.targetMineBlocks(), 7, "targetMineBlocks");
        eq(_mine.targetSubmissions(), 8, "targetSubmissions: nothing was mined");
        eq(_mine.targetSubmissionsNextEpoch(), 8, "targetSubmissionsNextEpoch");
        eq(_mine.difficultyAdjustRatio(), 9, "difficultyAdjustRatio");
        eq(_mine.maxShards(), 64, "maxShards");
        eq(_mine.subtaskInterval(), 11, "subtaskInterval");
        eq(_mine.subtaskIntervalNextEpoch(), 11, "subtaskIntervalNextEpoch");
        eq(_mine.nSubtasks(), 3, "nSubtasks");
        eq(_mine.nSubtasksNextEpoch(), 3, "nSubtasksNextEpoch");
        vm.expectRevert(abi.encodeWithSelector(IPoraMine.WindowsTooLong.selector, 9 * 11 + 7 + 1, BLOCKS_PER_EPOCH));
        _mine.setNumSubtasks(10);
        vm.expectRevert(abi.encodeWithSelector(IPoraMine.WindowsTooLong.selector, 2 * 46 + 7 + 1, BLOCKS_PER_EPOCH));
        _mine.setSubtaskInterval(46);
        vm.expectRevert(abi.encodeWithSelector(IPoraMine.WindowsTooLong.selector, 2 * 11 + 77 + 1, BLOCKS_PER_EPOCH));
        _mine.setTargetMineBlocks(77);
        vm.expectRevert(abi.encodeWithSelector(IPoraMine.NotPowerOfTwo.selector, 6));
        _mine.setMaxShards(6);
    }

    /// A floor lowers the target at once, and lifting it does not raise the target.
    function test_MinDifficulty() public {
        uint256 before = _mine.poraTarget();
        _mine.setMinDifficulty(1 << 30);
        eq(_mine.poraTarget(), type(uint256).max >> 30, "lowered");
        _mine.setMinDifficulty(0);
        eq(_mine.poraTarget(), type(uint256).max >> 30, "kept");
        isTrue(before > _mine.poraTarget(), "it was higher");
    }

    /* IDENTITIES */

    function test_MinerIds() public {
        vm.expectRevert(IPoraMine.BeneficiaryMissing.selector);
        _mine.requestMinerId(address(0), 0);

        vm.prank(ALICE);
        _mine.requestMinerId(BOB, 7);
        bytes32 minerId = keccak256(abi.encodePacked(blockhash(vm.getBlockNumber() - 1), ALICE, uint64(7)));
        eq(_mine.beneficiaries(minerId), BOB, "beneficiary");
        vm.prank(ALICE);
        vm.expectRevert(abi.encodeWithSelector(IPoraMine.MinerIdTaken.selector, minerId));
        _mine.requestMinerId(ALICE, 7);

        vm.prank(ALICE);
        vm.expectRevert(abi.encodeWithSelector(IPoraMine.CallerIsNotBeneficiary.selector, minerId, ALICE));
        _mine.transferBeneficial(ALICE, minerId);
        vm.prank(BOB);
        vm.expectRevert(IPoraMine.BeneficiaryMissing.selector);
        _mine.transferBeneficial(address(0), minerId);
        vm.prank(BOB);
        _mine.transferBeneficial(ALICE, minerId);
        eq(_mine.beneficiaries(minerId), ALICE, "handed on");
    }

    function _refuses(MineParameters memory p, bytes memory error_) private {
        vm.expectRevert(error_);
        new PoraMine(address(governance), address(flow), address(reward), p);
    }

    function _outOfBounds(bytes32 name, uint256 value, uint256 min, uint256 max) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IPoraMine.ParameterOutOfBounds.selector, name, value, min, max);
    }
}
