// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import { IAccessManaged } from "@openzeppelin/contracts/access/manager/IAccessManaged.sol";
import { ReentrancyGuardTransient } from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import { IFixedPriceMarket } from "../../../contracts/interfaces/IFixedPriceMarket.sol";
import { IFlow, Submission } from "../../../contracts/interfaces/IFlow.sol";
import { Flow } from "../../../contracts/storage/Flow.sol";
import { StorageTest } from "../support/StorageTest.sol";

/// @notice A payer whose wallet calls back while it is being given its change.
contract Reentrant {
    enum Way {
        Submit,
        Batch,
        Refuse,
        Context
    }

    Flow private immutable _flow;
    Way private immutable _way;
    Submission private _submission;

    constructor(Flow flow_, Way way_) {
        _flow = flow_;
        _way = way_;
    }

    function pay(Submission calldata submission) external payable {
        _submission = submission;
        _flow.submit{ value: msg.value }(submission);
    }

    receive() external payable {
        if (_way == Way.Refuse) revert();
        if (_way == Way.Submit) _flow.submit{ value: msg.value }(_submission);
        if (_way == Way.Batch) _flow.batchSubmit(new Submission[](0));
        if (_way == Way.Context) _flow.makeContext();
    }
}

/// @notice Fees, change, terms, pauses.
contract FlowMoneyTest is StorageTest {
    /* FEES */

    /// The fee is sectors times price, to the wei; one wei less is refused with the numbers to act on.
    function testFuzz_FeeIsExact(uint256 height) public {
        height = bound(height, 0, 24);
        uint256 cost = PRICE << height;
        vm.prank(ALICE);
        vm.expectRevert(abi.encodeWithSelector(IFlow.NotEnoughFee.selector, PRICE, 1 << height, cost - 1));
        flow.submit{ value: cost - 1 }(one(height, "root", ALICE));
        vm.prank(ALICE);
        flow.submit{ value: cost }(one(height, "root", ALICE));
        eq(address(reward).balance, cost, "reward holds the fee");
        eq(address(flow).balance, 0, "flow holds nothing");
    }

    /// What is paid beyond the fee comes back to the payer, who need not be the submitter.
    function testFuzz_ChangeReturnsToThePayer(uint256 extra) public {
        extra = bound(extra, 0, 1e30);
        uint256 before = ALICE.balance;
        vm.prank(ALICE);
        flow.submit{ value: fee(1) + extra }(one(0, "root", BOB));
        eq(before - ALICE.balance, fee(1), "payer paid the fee alone");
        eq(address(flow).balance, 0, "flow holds nothing");
    }

    /// Money that reached the flow by force pays for nobody.
    function test_ForcedMoneyPaysForNobody() public {
        vm.deal(address(flow), 1 ether);
        vm.prank(ALICE);
        vm.expectRevert(abi.encodeWithSelector(IFlow.NotEnoughFee.selector, PRICE, 1, 0));
        flow.submit(one(0, "root", ALICE));
        vm.prank(ALICE);
        flow.submit{ value: fee(1) + 7 }(one(0, "root", ALICE));
        eq(address(flow).balance, 1 ether, "untouched");
    }

    /// A batch pays from one purse: each fee leaves it, the last missing wei is named, the rest returns.
    function test_BatchPurse() public {
        Submission[] memory submissions = new Submission[](2);
        submissions[0] = one(1, "a", ALICE);
        submissions[1] = one(2, "b", ALICE);
        vm.prank(ALICE);
        vm.expectRevert(abi.encodeWithSelector(IFlow.NotEnoughFee.selector, PRICE, 4, fee(4) - 1));
        flow.batchSubmit{ value: fee(6) - 1 }(submissions);
        uint256 before = ALICE.balance;
        vm.prank(ALICE);
        flow.batchSubmit{ value: fee(6) + 11 }(submissions);
        eq(before - ALICE.balance, fee(6), "paid");
        eq(address(reward).balance, fee(6), "received");
    }

    /* HOSTILE PAYERS */

    /// A payer that calls back into the flow from its change loses the transaction.
    function test_ReentrantPayerIsStopped() public {
        for (uint256 way = 0; way < 3; ++way) {
            Reentrant payer = new Reentrant(flow, Reentrant.Way(way));
            vm.deal(address(this), 1 ether);
            vm.expectRevert(abi.encodeWithSelector(IFlow.RefundRefused.selector, address(payer), 5));
            payer.pay{ value: fee(1) + 5 }(one(0, "root", ALICE));
            eq(flow.numSubmissions(), 0, "nothing added");
        }
    }

    /// What anybody may call at any time may be called then too, and finds the submission complete.
    function test_ContextMayBeMadeFromChange() public {
        Reentrant payer = new Reentrant(flow, Reentrant.Way.Context);
        vm.deal(address(this), 1 ether);
        payer.pay{ value: fee(1) + 5 }(one(0, "root", ALICE));
        eq(flow.numSubmissions(), 1, "added");
    }

    /* TERMS */

    function test_OnlyTheMarketSetsTerms() public {
        vm.prank(ALICE);
        vm.expectRevert(abi.encodeWithSelector(IFlow.CallerIsNotMarket.selector, ALICE));
        flow.setTerms(0, 0);
    }

    function test_TermsAreGovernedAndBounded() public {
        vm.prank(ALICE);
        vm.expectRevert(abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, ALICE));
        market.setPricePerSector(1);
        vm.prank(ALICE);
        vm.expectRevert(abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, ALICE));
        market.setServiceFeeRate(1);
        vm.expectRevert(abi.encodeWithSelector(IFixedPriceMarket.PriceTooHigh.selector, 1e18 + 1, 1e18));
        market.setPricePerSector(1e18 + 1);
        vm.expectRevert(abi.encodeWithSelector(IFixedPriceMarket.ServiceFeeTooHigh.selector, 1001, 1000));
        market.setServiceFeeRate(1001);
    }

    /// A change of one term leaves the other, and the rest of the flow's state, as it was.
    function testFuzz_TermsAreIndependent(uint256 price, uint256 bps) public {
        price = bound(price, 0, 1e18);
        bps = bound(bps, 0, 1000);
        vm.prank(ALICE);
        flow.submit{ value: fee(4) }(one(2, "root", ALICE));
        market.setPricePerSector(price);
        eq(market.serviceFeeRateBps(), 0, "fee kept");
        market.setServiceFeeRate(bps);
        eq(market.pricePerSector(), price, "price kept");
        eq(market.serviceFeeRateBps(), bps, "fee");
        (uint256 length, ) = flow.tree();
        eq(length, 8, "length kept");
        eq(flow.numSubmissions(), 1, "count kept");
        isTrue(!flow.paused(), "not paused");
        vm.prank(ALICE);
        flow.submit{ value: price }(one(0, "root", ALICE));
        eq(reward.serviceFees(), (price * bps) / 10_000, "service fee kept apart");
    }

    /* PAUSING */

    /// The guardian halts submissions and nothing else: contexts go on, money stays reachable.
    function test_Pause() public {
        vm.prank(ALICE);
        vm.expectRevert(abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, ALICE));
        flow.pause();
        vm.prank(BOB);
        flow.pause();
        isTrue(flow.paused(), "paused");
        vm.expectRevert(IFlow.EnforcedPause.selector);
        flow.submit{ value: PRICE }(one(0, "root", ALICE));
        vm.expectRevert(IFlow.EnforcedPause.selector);
        flow.batchSubmit(new Submission[](0));
        vm.roll(vm.getBlockNumber() + BLOCKS_PER_EPOCH + 1);
        flow.makeContext();
        eq(flow.epoch(), 1, "epochs go on");
        isTrue(flow.paused(), "still paused");

        vm.prank(BOB);
        vm.expectRevert(abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, BOB));
        flow.unpause();
        flow.unpause();
        vm.prank(ALICE);
        flow.submit{ value: PRICE }(one(0, "root", ALICE));
    }

    /* LAUNCH */

    function test_NotBeforeFirstBlock() public {
        deploy(PRICE, BLOCKS_PER_EPOCH, 10);
        uint256 first = vm.getBlockNumber() + 10;
        eq(flow.firstBlock(), first, "first block");
        vm.roll(first - 1);
        vm.expectRevert(abi.encodeWithSelector(IFlow.NotLaunched.selector, first));
        flow.submit{ value: PRICE }(one(0, "root", ALICE));
        vm.expectRevert(abi.encodeWithSelector(IFlow.NotLaunched.selector, first));
        flow.makeContext();
        vm.roll(first);
        flow.submit{ value: PRICE }(one(0, "root", ALICE));
        eq(flow.epoch(), 0, "epoch");
    }
}
