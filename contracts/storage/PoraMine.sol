// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import { EpochRange, IFlow, MineContext } from "../interfaces/IFlow.sol";
import { IPoraMine, MineParameters, PoraAnswer, WorkerContext } from "../interfaces/IPoraMine.sol";
import { IRewardPools } from "../interfaces/IRewardPools.sol";
import { BlockHashes } from "./BlockHashes.sol";
import { MineSettings } from "./MineSettings.sol";
import { Pora } from "./Pora.sol";

/// @title PoraMine
/// @notice See {IPoraMine}. Holds no money.
contract PoraMine is MineSettings {
    /* CONSTANTS AND IMMUTABLES */

    uint64 private constant _PORA_VERSION = 1;
    address private constant _WORKER = address(0xA);
    /// @dev keccak256(""): marks a context that is not mined.
    bytes32 private constant _EMPTY_HASH = 0xc5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470;

    /// @inheritdoc IPoraMine
    address public immutable reward;
    /// @dev Sectors of a reward pool, as the reward contract has it for ever.
    uint256 private immutable _poolSectors;

    /* STORAGE */

    /// @inheritdoc IPoraMine
    mapping(bytes32 minerId => address) public beneficiaries;
    mapping(bytes32 quality => bool) private _used;

    /// @dev Deployed last: checks that the contracts deployed before name each other and this one.
    constructor(
        address authority_,
        address flow_,
        address reward_,
        MineParameters memory parameters
    ) MineSettings(authority_, flow_, parameters) {
        reward = reward_;
        if (IFlow(flow_).reward() != reward_) revert NotWired(flow_);
        if (IRewardPools(reward_).mine() != address(this)) revert NotWired(reward_);
        if (IRewardPools(reward_).flow() != flow_) revert NotWired(reward_);
        if (IRewardPools(reward_).market() != IFlow(flow_).market()) revert NotWired(reward_);
        _poolSectors = IRewardPools(reward_).poolSectors();
    }

    /* MINERS */

    /// @inheritdoc IPoraMine
    function requestMinerId(address beneficiary, uint64 seed) external {
        if (beneficiary == address(0)) revert BeneficiaryMissing();
        bytes32 minerId = keccak256(abi.encodePacked(blockhash(block.number - 1), msg.sender, seed));
        if (beneficiaries[minerId] != address(0)) revert MinerIdTaken(minerId);
        beneficiaries[minerId] = beneficiary;
        emit NewMinerId(minerId, beneficiary);
    }

    /// @inheritdoc IPoraMine
    function transferBeneficial(address to, bytes32 minerId) external {
        if (to == address(0)) revert BeneficiaryMissing();
        if (beneficiaries[minerId] != msg.sender) revert CallerIsNotBeneficiary(minerId, msg.sender);
        beneficiaries[minerId] = to;
        emit UpdateMinerId(minerId, msg.sender, to);
    }

    /* ANSWERS */

    /// @inheritdoc IPoraMine
    function submit(PoraAnswer calldata answer) external {
        address beneficiary = _beneficiaryOf(answer.minerId);
        MineContext memory context = IFlow(flow).makeContextWithResult();
        (Epoch memory epoch, uint256 target) = _epochAt(context.epoch);
        bytes32 subtaskDigest = _subtaskDigest(epoch, context, answer.minerId);
        if (_isFull(epoch)) revert EpochFull(epoch.submissions);
        uint256 shards = _checkBasics(answer, context, epoch.maxShards);
        bytes32 quality = _checkData(answer, context, subtaskDigest, target, shards);
        if (_used[quality]) revert AnswerUsed(quality);

        _used[quality] = true;
        poraTarget = target;
        uint256 index = epoch.submissions++;
        _epoch = epoch;
        emit NewSubmission(context.epoch, answer.minerId, index, answer.recallPosition);
        uint256 pricingIndex = answer.recallPosition / _poolSectors;
        IRewardPools(reward).claimMineReward(pricingIndex, beneficiary, answer.minerId);
    }

    /* VIEWS FOR MINERS */

    /// @inheritdoc IPoraMine
    function computeWorkerContext(bytes32 minerId) external returns (WorkerContext memory worker) {
        // No transaction comes from the zero address; older miners send none, newer ones 0xA.
        if (msg.sender != _WORKER && msg.sender != address(0)) revert CallerIsNotWorker(msg.sender);
        _beneficiaryOf(minerId);
        MineContext memory context = IFlow(flow).makeContextWithResult();
        (Epoch memory epoch, uint256 target) = _epochAt(context.epoch);
        worker.context = context;
        worker.maxShards = epoch.maxShards;
        (uint256 start, uint256 end) = _window(epoch, context, minerId);
        bytes32 startHash = BlockHashes.read(start);
        if (block.number > end || startHash == 0) return worker;
        worker.subtaskDigest = keccak256(abi.encode(context.digest, startHash));
        if (!_isFull(epoch)) worker.poraTarget = target;
    }

    /// @inheritdoc IPoraMine
    function canSubmit() external returns (bool) {
        (Epoch memory epoch, ) = _epochAt(IFlow(flow).makeContextWithResult().epoch);
        return !_isFull(epoch);
    }

    /// @inheritdoc IPoraMine
    function getSubtaskDigest(MineContext calldata context, bytes32 minerId) external view returns (bytes32) {
        (Epoch memory epoch, ) = _epochAt(context.epoch);
        return _subtaskDigest(epoch, context, minerId);
    }

    /// @inheritdoc IPoraMine
    function pora(PoraAnswer calldata answer, bytes32 subtaskDigest) external view returns (bytes32) {
        return Pora.quality(answer, subtaskDigest);
    }

    /// @inheritdoc IPoraMine
    function flowRootOf(PoraAnswer calldata answer) external pure returns (bytes32) {
        return Pora.flowRoot(answer);
    }

    /// @inheritdoc IPoraMine
    function basicCheck(PoraAnswer calldata answer, MineContext calldata context) external view {
        _checkBasics(answer, context, _epoch.maxShards);
    }

    /// @inheritdoc IPoraMine
    function poraVersion() external pure returns (uint64) {
        return _PORA_VERSION;
    }

    /// @inheritdoc IPoraMine
    function computeWorkerContextCaller() external pure returns (address) {
        return _WORKER;
    }

    /// @inheritdoc IPoraMine
    function sealDataEnabled() external pure returns (bool) {
        return true;
    }

    /// @inheritdoc IPoraMine
    function dataProofEnabled() external pure returns (bool) {
        return true;
    }

    /// @inheritdoc IPoraMine
    function fixedDifficulty() external pure returns (bool) {
        return false;
    }

    /* INTERNAL */

    function _beneficiaryOf(bytes32 minerId) private view returns (address beneficiary) {
        if (minerId == 0) revert MinerIdMissing();
        beneficiary = beneficiaries[minerId];
        if (beneficiary == address(0)) revert MinerIdUnknown(minerId);
    }

    function _isFull(Epoch memory epoch) private pure returns (bool) {
        return epoch.submissions >= 2 * uint256(epoch.targetSubmissions);
    }

    /// @dev The blocks start + 1 .. end are the id's window in this context.
    function _window(
        Epoch memory epoch,
        MineContext memory context,
        bytes32 minerId
    ) private pure returns (uint256 start, uint256 end) {
        uint256 index = uint256(keccak256(abi.encode(context.digest, minerId))) % epoch.nSubtasks;
        start = context.mineStart + index * epoch.subtaskInterval;
        end = start + epoch.targetMineBlocks;
    }

    function _subtaskDigest(
        Epoch memory epoch,
        MineContext memory context,
        bytes32 minerId
    ) private view returns (bytes32) {
        (uint256 start, uint256 end) = _window(epoch, context, minerId);
        if (block.number <= start) revert WindowNotOpen(start, block.number);
        if (block.number > end) revert WindowClosed(end, block.number);
        // Without the hash the digest could be known before the window opens.
        bytes32 startHash = BlockHashes.read(start);
        if (startHash == 0) revert BlockHashUnavailable(start);
        return keccak256(abi.encode(context.digest, startHash));
    }

    /// @dev Everything about an answer that needs no hashing of its data. Returns into how many parts it splits.
    function _checkBasics(
        PoraAnswer calldata answer,
        MineContext memory context,
        uint256 shardLimit
    ) private view returns (uint256 shards) {
        if (answer.contextDigest != context.digest) revert ContextMismatch(answer.contextDigest, context.digest);
        if (context.digest == _EMPTY_HASH) revert ContextNotMinable();
        shards = Pora.shards(answer.range.shardMask);
        if (shards > shardLimit) revert TooManyShards(shards, shardLimit);
        Pora.checkRange(answer.range, context.flowLength, shards);

        if (answer.sealOffset >= Pora.SEALS_PER_LOAD) revert SealOffsetTooHigh(answer.sealOffset);
        uint256 end = answer.recallPosition + Pora.SECTORS_PER_SEAL;
        EpochRange memory range = IFlow(flow).getEpochRange(answer.sealedContextDigest);
        if (range.start >= end || range.end < end) {
            revert SealContextMismatch(answer.sealedContextDigest, answer.recallPosition);
        }
    }

    /// @dev Proves the data against the flow root, and its hash against the target.
    function _checkData(
        PoraAnswer calldata answer,
        MineContext memory context,
        bytes32 subtaskDigest,
        uint256 target,
        uint256 shards
    ) private view returns (bytes32 quality) {
        uint256 siblings = Pora.proofLength(context.flowLength);
        if (answer.merkleProof.length != siblings) revert ProofLengthMismatch(answer.merkleProof.length, siblings);
        bytes32 root = Pora.flowRoot(answer);
        if (root != context.flowRoot) revert FlowRootMismatch(root, context.flowRoot);
        quality = Pora.quality(answer, subtaskDigest);
        target = (target / Pora.targetScaleX64(context.flowLength, shards)) << 64;
        if (uint256(quality) > target) revert QualityTooLow(uint256(quality), target);
    }
}
