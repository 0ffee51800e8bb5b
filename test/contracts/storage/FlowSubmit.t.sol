// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import { IFlow, Submission, SubmissionData, SubmissionNode } from "../../../contracts/interfaces/IFlow.sol";
import { Flow } from "../../../contracts/storage/Flow.sol";
import { StorageTest } from "../support/StorageTest.sol";
import { Vm } from "../support/Vm.sol";

/// @notice What a submission must be, where it goes, what it costs.
contract FlowSubmitTest is StorageTest {
    bytes32 private constant SUBMIT_TOPIC = 0x167ce04d2aa1981994d3a31695da0d785373335b1078cec239a1a3a2c7675555;

    /* VALIDITY */

    function test_RejectsMissingSubmitter() public {
        Submission memory submission = one(0, "root", address(0));
        vm.expectRevert(IFlow.SubmitterMissing.selector);
        flow.submit{ value: PRICE }(submission);
    }

    function test_RejectsMissingNodes() public {
        Submission memory submission = one(0, "root", ALICE);
        submission.data.nodes = new SubmissionNode[](0);
        vm.expectRevert(IFlow.NodesMissing.selector);
        flow.submit{ value: PRICE }(submission);
    }

    function test_RejectsHeight64() public {
        Submission memory submission = one(0, "root", ALICE);
        submission.data.nodes[0].height = 64;
        vm.expectRevert(abi.encodeWithSelector(IFlow.NodeTooHigh.selector, 64));
        flow.submit{ value: PRICE }(submission);
    }

    function test_RejectsEqualAndRisingHeights() public {
        uint256[] memory heights = new uint256[](2);
        (heights[0], heights[1]) = (3, 3);
        vm.expectRevert(abi.encodeWithSelector(IFlow.NodesNotDescending.selector, 1, 3, 3));
        flow.submit{ value: 1 ether }(ofHeights(heights, ALICE));
        heights[1] = 5;
        vm.expectRevert(abi.encodeWithSelector(IFlow.NodesNotDescending.selector, 1, 3, 5));
        flow.submit{ value: 1 ether }(ofHeights(heights, ALICE));
    }

    function test_RejectsHeightsFourApart() public {
        uint256[] memory heights = new uint256[](2);
        (heights[0], heights[1]) = (8, 4);
        vm.expectRevert(abi.encodeWithSelector(IFlow.NodesTooFarApart.selector, 8, 4));
        flow.submit{ value: 1 ether }(ofHeights(heights, ALICE));
    }

    /// The lengths taken for given nodes are exactly those between the next smaller padded size and the nodes' own.
    function test_LengthBounds() public {
        _checkLengths(0, 0, 256);
        _checkLengths(3, 7 * 256, 8 * 256);
        _checkLengths(4, 15 * 256, 16 * 256);
        _checkLengths(10, 960 * 256, 1024 * 256);
        uint256[] memory heights = new uint256[](2);
        (heights[0], heights[1]) = (10, 7);
        // 1152 sectors; a sixteenth of 2048 is 128.
        _checkLengths(ofHeights(heights, ALICE), 1024 * 256, 1152 * 256);
        heights = new uint256[](4);
        (heights[0], heights[1], heights[2], heights[3]) = (3, 2, 1, 0);
        _checkLengths(ofHeights(heights, ALICE), 14 * 256, 15 * 256);
    }

    /// Any file of any size is accepted as the reference splits it, at its smallest and its largest size in bytes.
    function testFuzz_AcceptsEveryFile(uint256 chunks, uint256 bytesInLast) public {
        chunks = bound(chunks, 1, 1 << 26);
        (uint256[] memory heights, uint256 sectors) = split(chunks);
        Submission memory submission = ofHeights(heights, ALICE);
        submission.data.length = (chunks - 1) * 256 + bound(bytesInLast, 1, 256);
        (, , , uint256 length) = flow.submit{ value: fee(sectors) }(submission);
        eq(length, sectors, "sectors");
    }

    /// A submission that pads more than it must is refused, whatever it is.
    function testFuzz_RejectsTooMuchPadding(uint256 chunks, uint256 missing) public {
        (uint256[] memory heights, uint256 sectors) = split(bound(chunks, 1, 1 << 40));
        uint256 unit = sectors < 16 ? 1 : (1 << heights[0]) / (heights.length == 1 ? 16 : 8);
        Submission memory submission = ofHeights(heights, ALICE);
        submission.data.length = (sectors - unit) * 256 - bound(missing, 0, (sectors - unit) * 256);
        vm.expectRevert(
            abi.encodeWithSelector(
                IFlow.LengthMismatch.selector,
                submission.data.length,
                (sectors - unit) * 256,
                sectors * 256
            )
        );
        flow.submit{ value: fee(sectors) }(submission);
    }

    function test_RejectsFlowPast2To63() public {
        deploy(0, BLOCKS_PER_EPOCH, 0);
        vm.expectRevert(abi.encodeWithSelector(IFlow.FlowFull.selector, 1));
        flow.submit(one(63, "root", ALICE));
    }

    /* PLACING */

    /// Where submissions go follows the rule: aligned to the first node, and not across a segment from its middle.
    function testFuzz_Places(uint256 seed, uint8 steps) public {
        uint256 length = 1;
        for (uint256 i = 0; i < bound(steps, 1, 10); ++i) {
            seed = uint256(keccak256(abi.encode(seed)));
            (uint256[] memory heights, uint256 sectors) = split(1 + (seed % (1 << (1 + ((seed >> 128) % 13)))));
            uint256 step = 1 << heights[0];
            uint256 start = ((length + step - 1) / step) * step;
            if (start % 1024 != 0 && start / 1024 != (start + sectors - 1) / 1024) start = (start / 1024 + 1) * 1024;
            (, , uint256 startIndex, ) = flow.submit{ value: fee(sectors) }(ofHeights(heights, ALICE));
            eq(startIndex, start, "start");
            length = start + sectors;
            (uint256 currentLength, ) = flow.tree();
            eq(currentLength, length, "length");
        }
    }

    /* SELECTORS AND EVENTS */

    function test_Selectors() public view {
        bytes4 submit = bytes4(keccak256("submit(((uint256,bytes,(bytes32,uint256)[]),address))"));
        eq(uint32(submit), 0xbc8c11f8, "submit");
        eq(uint32(bytes4(keccak256("batchSubmit(((uint256,bytes,(bytes32,uint256)[]),address)[])"))), 0x49aa3395, "batch");
        eq(uint32(bytes4(keccak256("submit((uint256,bytes,(bytes32,uint256)[]))"))), 0xef3e12dc, "legacy submit");
        eq(uint32(bytes4(keccak256("batchSubmit((uint256,bytes,(bytes32,uint256)[])[])"))), 0x9e62a38e, "legacy batch");
        eq(uint32(flow.getFlowRootByTxSeq.selector), 0x6d7ad0fc, "getFlowRootByTxSeq");
        eq(uint32(flow.makeContextWithResult.selector), 0xb464b53e, "makeContextWithResult");
        eq(uint32(flow.queryContextAtPosition.selector), 0x31bae174, "queryContextAtPosition");
        eq(uint32(flow.getEpochRange.selector), 0x7d590708, "getEpochRange");
        eq(uint32(flow.getEpochRangeHistory.selector), 0x4282b532, "getEpochRangeHistory");
        eq(uint32(flow.computeFlowRoot.selector), 0x1deb0fca, "computeFlowRoot");
        eq(uint32(flow.makeContextFixedTimes.selector), 0x18a641ef, "makeContextFixedTimes");
        eq(uint32(flow.getContext.selector), 0x127f0f07, "getContext");
        eq(uint32(flow.market.selector), 0x80f55605, "market");
        eq(uint32(market.pricePerSector.selector), 0x61ec5082, "pricePerSector");
        eq(uint32(IFlow.NotEnoughFee.selector), 0xf85c6482, "NotEnoughFee");
    }

    /// The log carries what was given, byte for byte, and the submitter named by the caller, whoever pays.
    function test_SubmitLog() public {
        Submission memory submission = one(2, "root", BOB);
        submission.data.tags = hex"00112233445566";
        submission.data.length = 1000;
        vm.recordLogs();
        vm.prank(ALICE);
        (uint256 index, bytes32 digest, uint256 startIndex, uint256 length) = flow.submit{ value: fee(4) }(submission);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        eq(logs.length, 1, "one log");
        eq(logs[0].topics[0], SUBMIT_TOPIC, "topic");
        eq(logs[0].topics[1], bytes32(uint256(uint160(BOB))), "sender");
        eq(logs[0].topics[2], keccak256(abi.encode(bytes32("root"))), "identity");
        eq(logs[0].topics[2], digest, "digest");
        eq(
            keccak256(logs[0].data),
            keccak256(abi.encode(index, startIndex, length, submission.data)),
            "data as encoded"
        );
    }

    /// The legacy form differs in one thing: the submitter is the caller.
    function test_LegacySubmit() public {
        SubmissionData memory data = one(0, "root", ALICE).data;
        vm.recordLogs();
        vm.prank(ALICE);
        (uint256 index, , uint256 startIndex, uint256 length) = flow.submit{ value: fee(1) }(data);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        eq(logs[0].topics[1], bytes32(uint256(uint160(ALICE))), "sender");
        eq(keccak256(logs[0].data), keccak256(abi.encode(index, startIndex, length, data)), "data");
    }

    /* BATCHES */

    /// A batch does what the same submissions one after the other do: same roots, places, fees, pools.
    function testFuzz_BatchEqualsSingles(uint256 seed, uint8 size) public {
        uint256 count = bound(size, 1, 6);
        Submission[] memory submissions = new Submission[](count);
        uint256 cost;
        for (uint256 i = 0; i < count; ++i) {
            seed = uint256(keccak256(abi.encode(seed)));
            (uint256[] memory heights, uint256 sectors) = split(1 + (seed % 5000));
            submissions[i] = ofHeights(heights, ALICE);
            cost += fee(sectors);
        }
        Flow batched = flow;
        (
            uint256[] memory indexes,
            bytes32[] memory digests,
            uint256[] memory startIndexes,
            uint256[] memory lengths
        ) = flow.batchSubmit{ value: cost }(submissions);
        (uint128 batchedPool, , , , ) = reward.rewards(0);

        deploy(PRICE, BLOCKS_PER_EPOCH, 0);
        for (uint256 i = 0; i < count; ++i) {
            (uint256 index, bytes32 digest, uint256 startIndex, uint256 length) = flow.submit{
                value: fee(lengths[i])
            }(submissions[i]);
            eq(indexes[i], index, "index");
            eq(digests[i], digest, "digest");
            eq(startIndexes[i], startIndex, "start");
            eq(lengths[i], length, "length");
            eq(batched.getFlowRootByTxSeq(i), flow.getFlowRootByTxSeq(i), "root");
        }
        (uint128 pool, , , , ) = reward.rewards(0);
        eq(batchedPool, pool, "pool");
        eq(batched.computeFlowRoot(), flow.computeFlowRoot(), "final root");
    }

    function test_LegacyBatchSubmit() public {
        SubmissionData[] memory datas = new SubmissionData[](2);
        datas[0] = one(0, "a", ALICE).data;
        datas[1] = one(1, "b", ALICE).data;
        vm.prank(ALICE);
        (uint256[] memory indexes, , uint256[] memory startIndexes, ) = flow.batchSubmit{ value: fee(3) }(datas);
        eq(indexes[1], 1, "index");
        eq(startIndexes[1], 2, "start");
    }

    function test_EmptyBatchReturnsTheValue() public {
        uint256 before = ALICE.balance;
        vm.prank(ALICE);
        flow.batchSubmit{ value: 5 }(new Submission[](0));
        eq(ALICE.balance, before, "balance");
    }

    /// One bad submission undoes the whole batch.
    function test_BatchIsAllOrNothing() public {
        Submission[] memory submissions = new Submission[](2);
        submissions[0] = one(0, "a", ALICE);
        submissions[1] = one(0, "b", address(0));
        vm.expectRevert(IFlow.SubmitterMissing.selector);
        flow.batchSubmit{ value: fee(2) }(submissions);
        eq(flow.numSubmissions(), 0, "nothing added");
    }

    receive() external payable {}

    function _checkLengths(uint256 height, uint256 above, uint256 limit) private {
        _checkLengths(one(height, "root", ALICE), above, limit);
    }

    function _checkLengths(Submission memory submission, uint256 above, uint256 limit) private {
        submission.data.length = above;
        vm.expectRevert(abi.encodeWithSelector(IFlow.LengthMismatch.selector, above, above, limit));
        flow.submit{ value: fee(limit / 256) }(submission);
        submission.data.length = above + 1;
        flow.submit{ value: fee(limit / 256) }(submission);
        submission.data.length = limit;
        flow.submit{ value: fee(limit / 256) }(submission);
        submission.data.length = limit + 1;
        vm.expectRevert(abi.encodeWithSelector(IFlow.LengthMismatch.selector, limit + 1, above, limit));
        flow.submit{ value: fee(limit / 256) }(submission);
    }
}
