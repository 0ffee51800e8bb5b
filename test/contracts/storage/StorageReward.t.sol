// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import { IAccessManaged } from "@openzeppelin/contracts/access/manager/IAccessManaged.sol";
import { IRewardPools } from "../../../contracts/interfaces/IRewardPools.sol";
import { IStorageReward } from "../../../contracts/interfaces/IStorageReward.sol";
import { StorageReward } from "../../../contracts/storage/StorageReward.sol";
import { StorageTest } from "../support/StorageTest.sol";

/// @notice A payee that does not take money.
contract Refuser {}

/// @notice Pools, payouts, and who may do what.
contract StorageRewardTest is StorageTest {
    uint256 private constant POOL = 1 << 25;

    /* WHO MAY CALL */

    function test_OnlyTheFlowFills() public {
        vm.prank(ALICE);
        vm.expectRevert(abi.encodeWithSelector(IRewardPools.CallerIsNotFlow.selector, ALICE));
        reward.fillReward{ value: 1 }(1, 0, 1, 0);
    }

    function test_OnlyTheMineClaims() public {
        vm.prank(ALICE);
        vm.expectRevert(abi.encodeWithSelector(IRewardPools.CallerIsNotMine.selector, ALICE));
        reward.claimMineReward(0, ALICE, "id");
    }

    function test_StrayMoneyIsRefused() public {
        (bool ok, ) = address(reward).call{ value: 1 }("");
        isTrue(!ok, "refused");
    }

    function test_GovernanceIsBounded() public {
        vm.prank(ALICE);
        vm.expectRevert(abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, ALICE));
        reward.setBaseReward(1);
        vm.prank(ALICE);
        vm.expectRevert(abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, ALICE));
        reward.setTreasury(ALICE);
        vm.expectRevert(abi.encodeWithSelector(IRewardPools.BaseRewardTooHigh.selector, 1001 ether, 1000 ether));
        reward.setBaseReward(1001 ether);
        vm.expectRevert(IRewardPools.TreasuryMissing.selector);
        reward.setTreasury(address(0));
    }

    /* POOL SIZE */

    function test_PoolSizeIsBounded() public {
        uint256[4] memory sizes = [uint256(0), 1 << 9, 1 << 26, (1 << 20) + 1];
        for (uint256 i = 0; i < sizes.length; ++i) {
            vm.expectRevert(
                abi.encodeWithSelector(IRewardPools.PoolSectorsOutOfBounds.selector, sizes[i], 1 << 10, 1 << 25)
            );
            new StorageReward(address(governance), ALICE, BOB, MINE, sizes[i], 1);
        }
        vm.expectRevert(IStorageReward.ZeroReleaseSeconds.selector);
        new StorageReward(address(governance), ALICE, BOB, MINE, 1 << 20, 0);
    }

    /// Small pools start as soon as the flow has passed their small end.
    function testFuzz_SmallPools(uint256 sectors, uint256 value) public {
        StorageReward small = new StorageReward(address(governance), address(this), BOB, MINE, 1 << 10, 1);
        sectors = bound(sectors, 1, 1 << 16);
        value = bound(value, 0, 1e30);
        vm.deal(address(this), value);
        small.fillReward{ value: value }(1, 0, sectors, 0);
        uint256 sum = small.serviceFees();
        for (uint256 i = 0; i <= (sectors + 1) / 1024; ++i) {
            (uint128 locked, , , uint40 startTime, ) = small.rewards(i);
            sum += locked;
            isTrue((startTime != 0) == ((i + 1) * 1024 <= sectors + 1), "started when passed");
        }
        eq(sum, value, "every wei");
    }

    /* FILLING */

    /// Whatever the place, sizes, value and service fee: every wei goes to pools or is kept apart, pools passed are
    /// started and the last one only if it is full.
    function testFuzz_FillAccountsForEveryWei(
        uint256 start,
        uint256 padding,
        uint256 upload,
        uint256 value,
        uint256 bps
    ) public {
        start = bound(start, 0, 3 * POOL);
        padding = bound(padding, 0, 2 * POOL);
        upload = bound(upload, 1, 4 * POOL);
        value = bound(value, 0, 1e30);
        bps = bound(bps, 0, 1000);
        vm.deal(address(flow), value);
        vm.prank(address(flow));
        reward.fillReward{ value: value }(start, padding, upload, bps);

        uint256 sum = reward.serviceFees();
        uint256 end = start + padding + upload;
        for (uint256 i = 0; i <= end / POOL; ++i) {
            (uint128 locked, , , uint40 startTime, ) = reward.rewards(i);
            sum += locked;
            isTrue((startTime != 0) == ((i + 1) * POOL <= end && (i + 1) * POOL > start), "started when passed");
        }
        eq(sum, value, "every wei");
        uint256 kept = reward.serviceFees();
        isTrue(kept + 2 >= (value * bps) / 10_000, "at least the fee, floored twice");
        atMost(kept, (value * bps) / 10_000 + 16, "the fee and dust");
    }

    /* PAYING */

    /// A refusing payee harms nobody but itself.
    function test_PaymentsArePulled() public {
        address refuser = address(new Refuser());
        _started(1 ether);
        vm.warp(vm.getBlockTimestamp() + RELEASE_SECONDS);
        vm.prank(MINE);
        reward.claimMineReward(0, refuser, "id");
        vm.prank(MINE);
        reward.claimMineReward(0, BOB, "id");
        vm.expectRevert(abi.encodeWithSelector(IRewardPools.PaymentRefused.selector, refuser, 0.5 ether));
        reward.withdrawPayments(payable(refuser));
        uint256 before = BOB.balance;
        vm.prank(ALICE);
        reward.withdrawPayments(payable(BOB));
        eq(BOB.balance - before, 0.25 ether, "paid to the payee, whoever asks");
        vm.expectRevert(abi.encodeWithSelector(IRewardPools.NothingDue.selector, BOB));
        reward.withdrawPayments(payable(BOB));
    }

    /// Service fees wait for a treasury, go to the one that was set while they came in, and are drawn by it.
    function test_ServiceFees() public {
        market.setServiceFeeRate(1000);
        vm.prank(ALICE);
        flow.submit{ value: fee(1) }(one(0, "root", ALICE));
        vm.expectRevert(IRewardPools.TreasuryMissing.selector);
        reward.collectServiceFees();
        reward.setTreasury(BOB);
        reward.setTreasury(ALICE);
        eq(reward.payments(BOB), PRICE / 10, "credited to the first");
        vm.prank(ALICE);
        flow.submit{ value: fee(1) }(one(0, "root", ALICE));
        reward.collectServiceFees();
        eq(reward.payments(ALICE), PRICE / 10, "credited to the second");
        eq(reward.serviceFees(), 0, "none left");
    }

    /// Base rewards come out of donations and never out of pools.
    function testFuzz_BaseRewardIsLimitedByDonations(uint256 donation, uint256 base) public {
        donation = bound(donation, 0, 10 ether);
        base = bound(base, 0, 10 ether);
        _started(1 ether);
        vm.deal(ALICE, donation);
        vm.prank(ALICE);
        reward.donate{ value: donation }();
        reward.setBaseReward(base);
        vm.prank(MINE);
        reward.claimMineReward(0, BOB, "id");
        eq(reward.payments(BOB), base < donation ? base : donation, "base alone: nothing was released");
        eq(reward.totalBaseReward(), donation - reward.payments(BOB), "rest");
    }

    /// Nothing is released before a pool starts, all of it after the release time, and never more than there is.
    function testFuzz_ReleaseIsLinear(uint256 value, uint256 elapsed) public {
        value = bound(value, 0, 1e30);
        elapsed = bound(elapsed, 0, 2 * RELEASE_SECONDS);
        _started(value);
        vm.warp(vm.getBlockTimestamp() + elapsed);
        vm.prank(MINE);
        reward.claimMineReward(0, BOB, "id");
        uint256 released = elapsed >= RELEASE_SECONDS ? value : (value * elapsed) / RELEASE_SECONDS;
        eq(reward.payments(BOB), released / 2, "half of what is released");
        (uint128 locked, uint128 claimable, uint128 distributed, , ) = reward.rewards(0);
        eq(locked, value - released, "locked");
        eq(uint256(claimable) + distributed, released, "released");
    }

    /// What nobody claimed long after the deadline becomes base rewards; before that nobody can take it from miners.
    function testFuzz_RecyclingTakesTheRest(uint256 value, bool claimed) public {
        value = bound(value, 2, 1e30);
        vm.expectRevert(abi.encodeWithSelector(IStorageReward.NotExpired.selector, 0, 0));
        reward.recycle(0);
        uint256 end = vm.getBlockTimestamp() + 2 * RELEASE_SECONDS;
        _started(value);
        vm.warp(end);
        vm.expectRevert(abi.encodeWithSelector(IStorageReward.NotExpired.selector, 0, end));
        reward.recycle(0);
        if (claimed) {
            vm.prank(MINE);
            reward.claimMineReward(0, BOB, "id");
        }
        vm.warp(end + 1);
        reward.recycle(0);
        eq(reward.totalBaseReward(), value - reward.payments(BOB), "the rest");
        eq(reward.payments(BOB), claimed ? value / 2 : 0, "paid before");
        reward.recycle(0);
        vm.prank(MINE);
        reward.claimMineReward(0, BOB, "id");
        eq(reward.totalBaseReward() + reward.payments(BOB), value, "nothing twice");
    }

    function test_FirstRewardableChunk() public {
        uint256 start = vm.getBlockTimestamp();
        vm.startPrank(address(flow));
        reward.fillReward(0, 0, 5 * POOL, 0);
        vm.warp(start + 100);
        reward.fillReward(5 * POOL, 0, 3000 * POOL, 0);
        vm.stopPrank();
        _expectFirst(0);
        vm.warp(start + RELEASE_SECONDS);
        _expectFirst(0);
        vm.warp(start + RELEASE_SECONDS + 1);
        _expectFirst(5);
        vm.warp(start + RELEASE_SECONDS + 101);
        _expectFirst(3005);
    }

    function _expectFirst(uint256 index) private view {
        (uint64 found, uint256 timestamp) = reward.firstRewardableChunk();
        eq(found, index, "first rewardable");
        eq(timestamp, vm.getBlockTimestamp(), "timestamp");
    }

    /// Pool 0, full and started now.
    function _started(uint256 value) private {
        vm.deal(address(flow), value);
        vm.prank(address(flow));
        reward.fillReward{ value: value }(0, 0, POOL, 0);
    }
}
