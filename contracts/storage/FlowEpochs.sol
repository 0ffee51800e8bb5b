// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {
    EpochRange,
    EpochRangeWithContextDigest,
    IFlow,
    MineContext
} from "../interfaces/IFlow.sol";
import { BlockHashes } from "./BlockHashes.sol";
import { FlowState, FlowWord } from "./FlowState.sol";
import { FlowTree } from "./FlowTree.sol";

/// @title FlowEpochs
/// @notice The part of the flow that miners see: epochs, their contexts, and which sectors came in which epoch.
abstract contract FlowEpochs is IFlow {
    using FlowState for FlowState.State;
    using FlowState for FlowWord;
    using FlowTree for FlowTree.Frontier;

    /* TYPES */

    struct StoredContext {
        bytes32 flowRoot;
        bytes32 blockDigest;
        bytes32 digest;
        // One word: length of the flow then, how many epochs were recorded up to then, where the next range starts.
        uint64 flowLength;
        uint64 recorded;
        uint64 epochStart;
    }

    /* CONSTANTS AND IMMUTABLES */

    /// @dev keccak256(""): marks a context that is not mined.
    bytes32 private constant _EMPTY_HASH = 0xc5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470;

    /// @inheritdoc IFlow
    uint256 public immutable firstBlock;
    /// @inheritdoc IFlow
    uint256 public immutable blocksPerEpoch;
    /// @inheritdoc IFlow
    uint256 public immutable deployDelay;

    /* STORAGE */

    FlowWord internal _state;
    FlowTree.Frontier internal _frontier;
    StoredContext private _context;
    mapping(bytes32 digest => EpochRange) private _ranges;
    mapping(uint256 index => bytes32 digest) private _recorded;

    constructor(uint256 blocksPerEpoch_, uint256 deployDelay_) {
        if (blocksPerEpoch_ == 0) revert ZeroBlocksPerEpoch();
        FlowState.State memory state;
        state.length = 1;
        _state = state.pack();
        firstBlock = block.number + deployDelay_;
        blocksPerEpoch = blocksPerEpoch_;
        deployDelay = deployDelay_;
    }

    /* MAKING CONTEXTS */

    /// @inheritdoc IFlow
    function makeContext() public {
        _requireLaunched();
        FlowState.State memory state = _state.unpack();
        if (_endedEpochs() <= state.epoch) return;
        _advanceEpoch(state, FlowTree.open(state.length));
        _state = state.pack();
    }

    /// @inheritdoc IFlow
    function makeContextFixedTimes(uint256) external {
        makeContext();
    }

    /// @inheritdoc IFlow
    function makeContextWithResult() external returns (MineContext memory) {
        makeContext();
        return getContext();
    }

    /// @inheritdoc IFlow
    function queryContextAtPosition(uint128 position) external returns (EpochRangeWithContextDigest memory) {
        makeContext();
        uint256 length = _state.unpack().length;
        if (position >= length) revert PositionOutOfFlow(position, length);
        // Recorded ranges follow each other without gaps, so the first that ends behind the position holds it.
        uint256 count = _context.recorded;
        uint256 low = 0;
        uint256 high = count;
        while (low < high) {
            uint256 middle = (low + high) / 2;
            if (_ranges[_recorded[middle]].end > position) high = middle;
            else low = middle + 1;
        }
        if (low == count) revert NoContextForPosition(position);
        return getEpochRangeHistory(low);
    }

    /* VIEWS */

    /// @inheritdoc IFlow
    function getContext() public view returns (MineContext memory) {
        uint256 epoch_ = _state.unpack().epoch;
        if (epoch_ == 0) return MineContext(0, 0, 0, 1, _EMPTY_HASH, _EMPTY_HASH);
        StoredContext memory stored = _context;
        return
            MineContext({
                epoch: epoch_,
                mineStart: _epochEnd(epoch_ - 1),
                flowRoot: stored.flowRoot,
                flowLength: stored.flowLength,
                blockDigest: stored.blockDigest,
                digest: stored.digest
            });
    }

    /// @inheritdoc IFlow
    function getEpochRange(bytes32 digest) external view returns (EpochRange memory) {
        return _ranges[digest];
    }

    /// @inheritdoc IFlow
    function getEpochRangeHistory(uint256 index) public view returns (EpochRangeWithContextDigest memory) {
        uint256 count = _context.recorded;
        if (index >= count) revert UnknownEpochRange(index, count);
        bytes32 digest = _recorded[index];
        EpochRange memory range = _ranges[digest];
        return EpochRangeWithContextDigest(range.start, range.end, digest);
    }

    /// @inheritdoc IFlow
    function epochRangeCount() external view returns (uint256) {
        return _context.recorded;
    }

    /// @inheritdoc IFlow
    function epoch() external view returns (uint256) {
        return _state.unpack().epoch;
    }

    /// @inheritdoc IFlow
    function epochStartPosition() external view returns (uint256) {
        return _context.epochStart;
    }

    /// @inheritdoc IFlow
    function tree() external view returns (uint256 currentLength, uint256 unstagedHeight) {
        currentLength = _state.unpack().length;
        unstagedHeight = FlowTree.depth(currentLength) + 1;
    }

    /// @inheritdoc IFlow
    function computeFlowRoot() external view returns (bytes32) {
        return _frontier.root(FlowTree.open(_state.unpack().length));
    }

    /// @inheritdoc IFlow
    function numSubmissions() external view returns (uint256) {
        return _state.unpack().submissions;
    }

    /// @inheritdoc IFlow
    function submissionIndex() external view returns (uint256) {
        return _state.unpack().submissions;
    }

    /* INTERNAL */

    /// @dev If an epoch has ended since the last context, makes the context of the epoch that runs now, in one step
    /// however many have passed. Changes `state` in memory; storing it is left to the caller.
    function _advanceEpoch(FlowState.State memory state, FlowTree.Cursor memory cursor) internal {
        uint256 ended = _endedEpochs();
        if (ended <= state.epoch) return;

        uint256 length = cursor.length;
        StoredContext memory next = _context;
        next.flowRoot = _frontier.root(cursor);
        next.blockDigest = BlockHashes.read(_epochEnd(ended - 1));
        next.digest = _EMPTY_HASH;
        // Positions of the flow are below 2^63.
        next.flowLength = uint64(length);
        bytes32 digest = keccak256(abi.encode(next.blockDigest, next.flowRoot, length));
        // Without a block hash the digest could be known in advance, and a digest seen before has its range already.
        if (next.blockDigest == 0 || _ranges[digest].end != 0) {
            next.blockDigest = _EMPTY_HASH;
        } else {
            next.digest = digest;
            _ranges[digest] = EpochRange(next.epochStart, next.flowLength);
            _recorded[next.recorded++] = digest;
            next.epochStart = next.flowLength;
        }
        state.epoch = ended;
        _context = next;
        emit NewEpoch(msg.sender, ended, next.flowRoot, state.submissions, length, next.digest);
    }

    /// @dev How many epochs have ended. The next one runs from the block after its start, so that the hash of the start
    /// is known in it.
    function _endedEpochs() private view returns (uint256) {
        return block.number > firstBlock ? (block.number - 1 - firstBlock) / blocksPerEpoch : 0;
    }

    function _requireLaunched() internal view {
        if (block.number < firstBlock) revert NotLaunched(firstBlock);
    }

    /// @dev The last block of an epoch, and the start of the one after it.
    function _epochEnd(uint256 epoch_) private view returns (uint256) {
        return firstBlock + (epoch_ + 1) * blocksPerEpoch;
    }
}
