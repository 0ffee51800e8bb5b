// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import { Submission, SubmissionData } from "../../../contracts/interfaces/IFlow.sol";
import { FixedPriceMarket } from "../../../contracts/storage/FixedPriceMarket.sol";
import { Flow } from "../../../contracts/storage/Flow.sol";
import { StorageReward } from "../../../contracts/storage/StorageReward.sol";
import { StorageTest } from "../support/StorageTest.sol";

/// @notice Actors that use the storage contracts in any order, and what they did in sum.
contract StorageActors is StorageTest {
    uint256 private constant POOL = 1 << 25;

    uint256 public paidIn;
    uint256 public drawn;
    uint256 public submissions;
    uint256 public sectors;
    uint256 public lastLength = 1;

    constructor(Flow flow_, FixedPriceMarket market_, StorageReward reward_) {
        (flow, market, reward) = (flow_, market_, reward_);
    }

    /// @dev The actors are deployed and funded by the test.
    function setUp() public override {}

    function actor(uint256 index) public pure returns (address) {
        return address(uint160(0xACC0 + (index % 5)));
    }

    /// Anyone submits any file, paying exactly or too much.
    function submit(uint256 who, uint256 chunks, uint256 extra, bool legacy) external {
        (uint256[] memory heights, uint256 covered) = split(bound(chunks, 1, 3 * POOL));
        Submission memory submission = ofHeights(heights, actor(who));
        uint256 cost = covered * market.pricePerSector();
        uint256 sent = cost + bound(extra, 0, 1 ether);
        address payer = actor(who);
        vm.deal(payer, sent);
        vm.prank(payer);
        if (legacy) flow.submit{ value: sent }(submission.data);
        else flow.submit{ value: sent }(submission);
        paidIn += sent - payer.balance;
        _count(covered, payer.balance == sent - cost);
    }

    /// Anyone submits several small ones at once.
    function batch(uint256 who, uint256 count, uint256 chunks) external {
        count = bound(count, 1, 4);
        SubmissionData[] memory datas = new SubmissionData[](count);
        uint256 covered;
        for (uint256 i = 0; i < count; ++i) {
            (uint256[] memory heights, uint256 each) = split(bound(chunks >> (8 * i), 1, 4000));
            datas[i] = ofHeights(heights, actor(who)).data;
            covered += each;
        }
        uint256 cost = covered * market.pricePerSector();
        address payer = actor(who);
        vm.deal(payer, cost + 1);
        vm.prank(payer);
        flow.batchSubmit{ value: cost + 1 }(datas);
        paidIn += cost + 1 - payer.balance;
        submissions += count - 1;
        _count(covered, payer.balance == 1);
    }

    function donate(uint256 amount) external {
        amount = bound(amount, 0, 1 ether);
        vm.deal(actor(0), amount);
        vm.prank(actor(0));
        reward.donate{ value: amount }();
        paidIn += amount;
    }

    function claim(uint256 index, uint256 who) external {
        vm.prank(MINE);
        reward.claimMineReward(index % 8, actor(who), "id");
    }

    /// Whoever asks, what is due goes to whom it is due, all of it and nothing else.
    function withdraw(uint256 who, uint256 asking) external {
        address payee = actor(who);
        address asker = address(uint160(0xA5C0 + (asking % 5)));
        uint256 due = reward.payments(payee);
        if (due == 0) return;
        uint256 before = payee.balance;
        vm.prank(asker);
        reward.withdrawPayments(payable(payee));
        eq(payee.balance - before, due, "all that was due");
        eq(asker.balance, 0, "nothing for the asker");
        drawn += due;
    }

    function recycle(uint256 index) external {
        uint256 deadline = reward.rewardDeadline(index % 8);
        if (deadline == 0 || vm.getBlockTimestamp() <= deadline + RELEASE_SECONDS) return;
        reward.recycle(index % 8);
    }

    function collect() external {
        reward.collectServiceFees();
    }

    function changeTerms(uint256 price, uint256 bps) external {
        market.setPricePerSector(bound(price, 0, 1e6));
        market.setServiceFeeRate(bound(bps, 0, 1000));
        reward.setBaseReward(bound(price, 0, 1 ether));
    }

    function pass(uint256 time, uint256 blocks) external {
        vm.warp(vm.getBlockTimestamp() + bound(time, 1, 100 days));
        vm.roll(vm.getBlockNumber() + bound(blocks, 1, 300));
    }

    function makeContext() external {
        flow.makeContext();
    }

    function _count(uint256 covered, bool exact) private {
        isTrue(exact, "the fee and not a wei more");
        ++submissions;
        sectors += covered;
        (uint256 length, ) = flow.tree();
        isTrue(length >= lastLength + covered, "the flow only grows");
        lastLength = length;
    }
}

contract StorageInvariants is StorageTest {
    StorageActors private _actors;

    function setUp() public override {
        super.setUp();
        _actors = new StorageActors(flow, market, reward);
        // The actors govern as well, so that terms change between their other calls.
        governance.grantRole(governance.ADMIN_ROLE(), address(_actors), 0);
        reward.setTreasury(_actors.actor(4));
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_actors);
    }

    /// Every wei that anybody paid and did not draw is in the reward contract; flow and market hold none.
    function invariant_MoneyInIsMoneyHeldOrDrawn() public view {
        eq(address(reward).balance, _actors.paidIn() - _actors.drawn(), "reward");
        eq(address(flow).balance, 0, "flow");
        eq(address(market).balance, 0, "market");
    }

    /// The reward contract knows what each wei it holds is for.
    function invariant_EveryWeiIsAccountedFor() public view {
        uint256 sum = reward.totalBaseReward() + reward.serviceFees();
        for (uint256 i = 0; i < 5; ++i) sum += reward.payments(_actors.actor(i));
        uint256 pools = _actors.lastLength() / (1 << 25) + 1;
        for (uint256 i = 0; i < pools || i < 8; ++i) {
            (uint128 locked, uint128 claimable, , , ) = reward.rewards(i);
            sum += uint256(locked) + claimable;
        }
        eq(sum, address(reward).balance, "sum of pools, donations, service fees, payments");
    }

    /// Pools are started exactly when the flow has passed their end.
    function invariant_PassedPoolsAreStarted() public view {
        uint256 passed = _actors.lastLength() / (1 << 25);
        for (uint256 i = 0; i < passed + 2; ++i) {
            (, , , uint40 startTime, ) = reward.rewards(i);
            isTrue((startTime != 0) == (i < passed), "started");
        }
    }

    /// Submissions are counted without gaps, each with its root; the last root is the flow's.
    function invariant_EverySubmissionHasItsRoot() public view {
        uint256 count = _actors.submissions();
        eq(flow.numSubmissions(), count, "count");
        eq(flow.getFlowRootByTxSeq(count), bytes32(0), "none behind the last");
        if (count > 0) eq(flow.getFlowRootByTxSeq(count - 1), flow.computeFlowRoot(), "last root");
    }

    /// Recorded ranges start at 0, follow each other without gaps, and end where the next will start.
    function invariant_RangesAreContiguous() public view {
        uint128 position;
        for (uint256 i = 0; i < flow.epochRangeCount(); ++i) {
            isTrue(flow.getEpochRangeHistory(i).start == position, "starts where the last ended");
            position = flow.getEpochRangeHistory(i).end;
        }
        eq(flow.epochStartPosition(), position, "next start");
        isTrue(position <= _actors.lastLength(), "inside the flow");
    }
}
