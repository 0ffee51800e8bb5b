// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import { AccessManaged } from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import { ReentrancyGuardTransient } from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import { IRewardPools } from "../interfaces/IRewardPools.sol";
import { IFlow, Submission, SubmissionData, SubmissionNode } from "../interfaces/IFlow.sol";
import { FlowEpochs } from "./FlowEpochs.sol";
import { FlowState, FlowWord } from "./FlowState.sol";
import { FlowTree } from "./FlowTree.sol";
import { SubmissionRules } from "./SubmissionRules.sol";

/// @title Flow
/// @notice See {IFlow}. Holds no money between transactions: fees go on to the reward contract, change to the payer.
contract Flow is FlowEpochs, AccessManaged, ReentrancyGuardTransient {
    using FlowState for FlowState.State;
    using FlowState for FlowWord;
    using FlowTree for FlowTree.Frontier;

    /* TYPES */

    /// @dev What one transaction works on, in memory.
    struct Intake {
        FlowState.State state;
        FlowTree.Cursor cursor;
        // What is left of the value sent.
        uint256 purse;
    }

    /// @dev A fee to be passed on once everything is stored.
    struct Fee {
        uint256 beforeLength;
        uint256 paddingSectors;
        uint256 uploadSectors;
    }

    /* CONSTANTS AND IMMUTABLES */

    /// @dev Covers one submission wherever the flow stands, an epoch that ends with it included.
    uint256 private constant _GAS_FLOOR = 250_000;
    uint256 private constant _MAX_LENGTH = (1 << 63) - 1;

    /// @inheritdoc IFlow
    address public immutable market;
    /// @inheritdoc IFlow
    address public immutable reward;

    /* STORAGE */

    mapping(uint256 txSeq => bytes32 root) private _roots;

    /// @param authority_ Who governs; see {Governance}.
    /// @param market_ {FixedPriceMarket}, may be deployed later at this address.
    /// @param reward_ {StorageReward}, may be deployed later at this address.
    constructor(
        address authority_,
        address market_,
        address reward_,
        uint256 blocksPerEpoch_,
        uint256 deployDelay_
    ) FlowEpochs(blocksPerEpoch_, deployDelay_) AccessManaged(authority_) {
        market = market_;
        reward = reward_;
    }

    /* SUBMITTING */

    /// @inheritdoc IFlow
    function submit(
        Submission calldata submission
    ) external payable nonReentrant returns (uint256 index, bytes32 digest, uint256 startIndex, uint256 length) {
        return _submitOne(submission.data, submission.submitter);
    }

    /// @inheritdoc IFlow
    function submit(
        SubmissionData calldata data
    ) external payable nonReentrant returns (uint256 index, bytes32 digest, uint256 startIndex, uint256 length) {
        return _submitOne(data, msg.sender);
    }

    /// @inheritdoc IFlow
    function batchSubmit(
        Submission[] calldata submissions
    )
        external
        payable
        nonReentrant
        returns (
            uint256[] memory indexes,
            bytes32[] memory digests,
            uint256[] memory startIndexes,
            uint256[] memory lengths
        )
    {
        uint256 count = submissions.length;
        (indexes, digests, startIndexes, lengths) = _results(count);
        Intake memory intake = _open();
        Fee[] memory fees = new Fee[](count);
        for (uint256 i = 0; i < count; ++i) {
            Submission calldata submission = submissions[i];
            (indexes[i], digests[i], startIndexes[i], lengths[i]) = _accept(
                intake,
                fees[i],
                submission.data,
                submission.submitter
            );
        }
        _close(intake);
        for (uint256 i = 0; i < count; ++i) _pay(intake, fees[i]);
        _refund(intake);
    }

    /// @inheritdoc IFlow
    function batchSubmit(
        SubmissionData[] calldata datas
    )
        external
        payable
        nonReentrant
        returns (
            uint256[] memory indexes,
            bytes32[] memory digests,
            uint256[] memory startIndexes,
            uint256[] memory lengths
        )
    {
        uint256 count = datas.length;
        (indexes, digests, startIndexes, lengths) = _results(count);
        Intake memory intake = _open();
        Fee[] memory fees = new Fee[](count);
        for (uint256 i = 0; i < count; ++i) {
            (indexes[i], digests[i], startIndexes[i], lengths[i]) = _accept(intake, fees[i], datas[i], msg.sender);
        }
        _close(intake);
        for (uint256 i = 0; i < count; ++i) _pay(intake, fees[i]);
        _refund(intake);
    }

    /* STATE */

    /// @inheritdoc IFlow
    function getFlowRootByTxSeq(uint256 txSeq) external view returns (bytes32) {
        return _roots[txSeq];
    }

    /// @inheritdoc IFlow
    function terms() external view returns (uint64 pricePerSector, uint16 serviceFeeRateBps) {
        FlowState.State memory state = _state.unpack();
        // The packed fields have exactly these widths.
        return (uint64(state.price), uint16(state.serviceFeeBps));
    }

    /// @inheritdoc IFlow
    function setTerms(uint64 pricePerSector, uint16 serviceFeeRateBps) external {
        if (msg.sender != market) revert CallerIsNotMarket(msg.sender);
        FlowState.State memory state = _state.unpack();
        state.price = pricePerSector;
        state.serviceFeeBps = serviceFeeRateBps;
        _state = state.pack();
    }

    /* GOVERNANCE */

    /// @inheritdoc IFlow
    function paused() external view returns (bool) {
        return _state.unpack().paused;
    }

    /// @inheritdoc IFlow
    function pause() external restricted {
        _setPaused(true);
        emit Paused(msg.sender);
    }

    /// @inheritdoc IFlow
    function unpause() external restricted {
        _setPaused(false);
        emit Unpaused(msg.sender);
    }

    function _setPaused(bool paused_) private {
        FlowState.State memory state = _state.unpack();
        state.paused = paused_;
        _state = state.pack();
    }

    /* INTERNAL: ONE TRANSACTION */

    function _submitOne(
        SubmissionData calldata data,
        address submitter
    ) private returns (uint256 index, bytes32 digest, uint256 startIndex, uint256 length) {
        Intake memory intake = _open();
        Fee memory fee;
        (index, digest, startIndex, length) = _accept(intake, fee, data, submitter);
        _close(intake);
        _pay(intake, fee);
        _refund(intake);
    }

    /// @dev Checks that submissions are taken and brings the epoch up to date, before anything is added.
    function _open() private returns (Intake memory intake) {
        // What a submission costs depends on where it lands and on whether an epoch ends before it. Asking for the most
        // it can cost makes an estimate good for any later block; what is not used is not charged.
        if (gasleft() < _GAS_FLOOR) revert GasBelowFloor(gasleft(), _GAS_FLOOR);
        FlowState.State memory state = _state.unpack();
        if (state.paused) revert EnforcedPause();
        _requireLaunched();
        FlowTree.Cursor memory cursor = FlowTree.open(state.length);
        _advanceEpoch(state, cursor);
        intake.state = state;
        intake.cursor = cursor;
        intake.purse = msg.value;
    }

    /// @dev Checks one submission, takes its fee out of the purse, grows the tree and announces it.
    function _accept(
        Intake memory intake,
        Fee memory fee,
        SubmissionData calldata data,
        address submitter
    ) private returns (uint256 index, bytes32 digest, uint256 start, uint256 sectors) {
        if (submitter == address(0)) revert SubmitterMissing();
        SubmissionNode[] calldata nodes = data.nodes;
        uint256 first;
        (sectors, first) = SubmissionRules.check(nodes, data.length);
        _charge(intake, sectors);

        FlowTree.Cursor memory cursor = intake.cursor;
        uint256 length = cursor.length;
        start = _place(cursor, nodes, SubmissionRules.alignment(length, first, sectors), sectors);
        fee.beforeLength = length;
        fee.paddingSectors = start - length;
        fee.uploadSectors = sectors;

        index = intake.state.submissions++;
        _roots[index] = _frontier.root(cursor);
        digest = SubmissionRules.identity(nodes);
        emit Submit(submitter, digest, index, start, sectors, data);
    }

    /// @dev Stores what the transaction changed. Calls to other contracts come after this.
    function _close(Intake memory intake) private {
        _frontier.commit(intake.cursor);
        intake.state.length = intake.cursor.length;
        _state = intake.state.pack();
    }

    /* INTERNAL: STEPS */

    function _charge(Intake memory intake, uint256 sectors) private pure {
        uint256 price = intake.state.price;
        uint256 purse = intake.purse;
        unchecked {
            // Fewer than 2^64 sectors at less than 2^64 wei each, and no more than is in the purse.
            uint256 cost = sectors * price;
            if (cost > purse) revert NotEnoughFee(price, sectors, purse);
            intake.purse = purse - cost;
        }
    }

    /// @dev Fills up to the start of the submission and appends its nodes.
    function _place(
        FlowTree.Cursor memory cursor,
        SubmissionNode[] calldata nodes,
        uint256 alignment,
        uint256 sectors
    ) private view returns (uint256 start) {
        start = SubmissionRules.alignUp(cursor.length, alignment);
        if (start + sectors > _MAX_LENGTH) revert FlowFull(cursor.length);
        _frontier.alignTo(cursor, alignment);
        for (uint256 i = 0; i < nodes.length; ++i) _frontier.append(cursor, nodes[i].height, nodes[i].root);
    }

    function _pay(Intake memory intake, Fee memory fee) private {
        IRewardPools(reward).fillReward{ value: fee.uploadSectors * intake.state.price }(
            fee.beforeLength,
            fee.paddingSectors,
            fee.uploadSectors,
            intake.state.serviceFeeBps
        );
    }

    function _refund(Intake memory intake) private {
        uint256 change = intake.purse;
        if (change == 0) return;
        // solhint-disable-next-line avoid-low-level-calls
        (bool ok, ) = msg.sender.call{ value: change }("");
        if (!ok) revert RefundRefused(msg.sender, change);
    }

    function _results(
        uint256 count
    ) private pure returns (uint256[] memory, bytes32[] memory, uint256[] memory, uint256[] memory) {
        return (new uint256[](count), new bytes32[](count), new uint256[](count), new uint256[](count));
    }
}
