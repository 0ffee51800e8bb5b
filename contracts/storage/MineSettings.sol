// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import { AccessManaged } from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import { Math } from "@openzeppelin/contracts/utils/math/Math.sol";
import { IFlow } from "../interfaces/IFlow.sol";
import { IPoraMine, MineParameters } from "../interfaces/IPoraMine.sol";
import { BlockHashes } from "./BlockHashes.sol";
import { Difficulty } from "./Difficulty.sol";

/// @title MineSettings
/// @notice The parameters of mining, their bounds (the same at deployment and later), and how they and the difficulty
/// change from epoch to epoch.
abstract contract MineSettings is IPoraMine, AccessManaged {
    /* TYPES */

    /// @dev One word: all that an answer needs besides the target.
    struct Epoch {
        // Number of the last mined epoch; 0 if nothing was ever mined.
        uint48 number;
        uint32 submissions;
        uint16 targetSubmissions;
        uint16 targetMineBlocks;
        uint16 nSubtasks;
        uint32 subtaskInterval;
        uint32 maxShards;
        uint16 adjustRatio;
        // Doublings of the target that may still be taken back, see {Difficulty-next}.
        uint8 doublings;
    }

    /// @dev One word: what holds from the next mined epoch on.
    struct NextEpoch {
        uint16 targetSubmissions;
        uint16 nSubtasks;
        uint32 subtaskInterval;
    }

    /* CONSTANTS AND IMMUTABLES */

    uint256 private constant _MAX_SHARDS = 1 << 31;

    /// @inheritdoc IPoraMine
    address public immutable flow;

    /* STORAGE */

    Epoch internal _epoch;
    NextEpoch private _next;
    /// @inheritdoc IPoraMine
    uint256 public poraTarget;
    /// @inheritdoc IPoraMine
    uint256 public minDifficulty;

    constructor(address authority_, address flow_, MineParameters memory parameters) AccessManaged(authority_) {
        flow = flow_;
        _inBounds("difficulty", parameters.difficulty, 1, type(uint256).max);
        poraTarget = Difficulty.toTarget(parameters.difficulty);
        // The casts lose nothing: the bounds are narrower than the fields.
        _next.targetSubmissions = uint16(_checkTargetSubmissions(parameters.targetSubmissions));
        _next.nSubtasks = uint16(_checkSubtasks(parameters.nSubtasks));
        _next.subtaskInterval = uint32(_checkInterval(parameters.subtaskInterval));
        _epoch.targetSubmissions = _next.targetSubmissions;
        _epoch.nSubtasks = _next.nSubtasks;
        _epoch.subtaskInterval = _next.subtaskInterval;
        _epoch.targetMineBlocks = uint16(_checkMineBlocks(parameters.targetMineBlocks));
        _epoch.adjustRatio = uint16(_checkRatio(parameters.difficultyAdjustRatio));
        _epoch.maxShards = uint32(_checkShards(parameters.maxShards));
        _setMinDifficulty(parameters.minDifficulty);
        _checkWindows(flow_);
    }

    /* VIEWS */

    /// @inheritdoc IPoraMine
    function lastMinedEpoch() external view returns (uint256) {
        return _epoch.number;
    }

    /// @inheritdoc IPoraMine
    function currentSubmissions() external view returns (uint256) {
        return _epoch.submissions;
    }

    /// @inheritdoc IPoraMine
    function targetMineBlocks() external view returns (uint256) {
        return _epoch.targetMineBlocks;
    }

    /// @inheritdoc IPoraMine
    function targetSubmissions() external view returns (uint256) {
        return _epoch.targetSubmissions;
    }

    /// @inheritdoc IPoraMine
    function targetSubmissionsNextEpoch() external view returns (uint256) {
        return _next.targetSubmissions;
    }

    /// @inheritdoc IPoraMine
    function difficultyAdjustRatio() external view returns (uint256) {
        return _epoch.adjustRatio;
    }

    /// @inheritdoc IPoraMine
    function maxShards() external view returns (uint64) {
        return _epoch.maxShards;
    }

    /// @inheritdoc IPoraMine
    function nSubtasks() external view returns (uint256) {
        return _epoch.nSubtasks;
    }

    /// @inheritdoc IPoraMine
    function nSubtasksNextEpoch() external view returns (uint256) {
        return _next.nSubtasks;
    }

    /// @inheritdoc IPoraMine
    function subtaskInterval() external view returns (uint256) {
        return _epoch.subtaskInterval;
    }

    /// @inheritdoc IPoraMine
    function subtaskIntervalNextEpoch() external view returns (uint256) {
        return _next.subtaskInterval;
    }

    /* GOVERNANCE */

    /// @inheritdoc IPoraMine
    function setTargetMineBlocks(uint256 blocks) external restricted {
        _epoch.targetMineBlocks = uint16(_checkMineBlocks(blocks));
        _checkWindows(flow);
        emit ParameterChanged("targetMineBlocks", blocks);
    }

    /// @inheritdoc IPoraMine
    function setTargetSubmissions(uint256 submissions) external restricted {
        _next.targetSubmissions = uint16(_checkTargetSubmissions(submissions));
        if (_epoch.number == 0) _epoch.targetSubmissions = _next.targetSubmissions;
        emit ParameterChanged("targetSubmissions", submissions);
    }

    /// @inheritdoc IPoraMine
    function setDifficultyAdjustRatio(uint256 ratio) external restricted {
        _epoch.adjustRatio = uint16(_checkRatio(ratio));
        emit ParameterChanged("difficultyAdjustRatio", ratio);
    }

    /// @inheritdoc IPoraMine
    function setMaxShards(uint64 shards) external restricted {
        _epoch.maxShards = uint32(_checkShards(shards));
        emit ParameterChanged("maxShards", shards);
    }

    /// @inheritdoc IPoraMine
    function setMinDifficulty(uint256 difficulty) external restricted {
        _setMinDifficulty(difficulty);
        emit ParameterChanged("minDifficulty", difficulty);
    }

    /// @inheritdoc IPoraMine
    function setNumSubtasks(uint256 count) external restricted {
        _next.nSubtasks = uint16(_checkSubtasks(count));
        if (_epoch.number == 0) _epoch.nSubtasks = _next.nSubtasks;
        _checkWindows(flow);
        emit ParameterChanged("nSubtasks", count);
    }

    /// @inheritdoc IPoraMine
    function setSubtaskInterval(uint256 blocks) external restricted {
        _next.subtaskInterval = uint32(_checkInterval(blocks));
        if (_epoch.number == 0) _epoch.subtaskInterval = _next.subtaskInterval;
        _checkWindows(flow);
        emit ParameterChanged("subtaskInterval", blocks);
    }

    /* EPOCHS */

    /// @dev Parameters and target that hold in epoch `number`, which is the last mined one or a later one.
    function _epochAt(uint256 number) internal view returns (Epoch memory epoch, uint256 target) {
        epoch = _epoch;
        target = poraTarget;
        uint256 last = epoch.number;
        if (number <= last) return (epoch, target);

        uint256 floor = minDifficulty;
        uint256 doublings = epoch.doublings;
        if (last > 0) {
            (target, doublings) = Difficulty.next(
                target,
                doublings,
                epoch.submissions,
                epoch.targetSubmissions,
                epoch.adjustRatio,
                floor
            );
        }
        uint256 more;
        (target, more) = Difficulty.easeAfter(target, number - last - 1, floor);
        // Capped, so that the cast loses nothing; a target has no more bits than that.
        epoch.doublings = uint8(Math.min(doublings + more, type(uint8).max));
        // Epoch numbers are below 2^48, see {FlowState}.
        epoch.number = uint48(number);
        epoch.submissions = 0;
        epoch.targetSubmissions = _next.targetSubmissions;
        epoch.nSubtasks = _next.nSubtasks;
        epoch.subtaskInterval = _next.subtaskInterval;
    }

    /* BOUNDS */

    function _setMinDifficulty(uint256 difficulty) private {
        minDifficulty = difficulty;
        uint256 max = Difficulty.maxTarget(difficulty);
        if (poraTarget <= max) return;
        poraTarget = max;
        // What is left of the doublings is not known.
        _epoch.doublings = 0;
    }

    function _checkMineBlocks(uint256 blocks) private pure returns (uint256) {
        // The hash of the window's start must be readable to its end.
        return _inBounds("targetMineBlocks", blocks, 1, BlockHashes.WINDOW);
    }

    function _checkTargetSubmissions(uint256 submissions) private pure returns (uint256) {
        return _inBounds("targetSubmissions", submissions, 1, Difficulty.MAX_WANTED);
    }

    function _checkRatio(uint256 ratio) private pure returns (uint256) {
        return _inBounds("difficultyAdjustRatio", ratio, 1, Difficulty.MAX_RATIO);
    }

    function _checkSubtasks(uint256 count) private pure returns (uint256) {
        return _inBounds("nSubtasks", count, 1, type(uint16).max);
    }

    function _checkInterval(uint256 blocks) private pure returns (uint256) {
        return _inBounds("subtaskInterval", blocks, 1, type(uint32).max);
    }

    function _checkShards(uint256 shards) private pure returns (uint256) {
        _inBounds("maxShards", shards, 1, _MAX_SHARDS);
        if (shards & (shards - 1) != 0) revert NotPowerOfTwo(shards);
        return shards;
    }

    /// @dev Windows of this epoch and of the next must end before their epoch does.
    function _checkWindows(address flow_) private view {
        uint256 blocksPerEpoch = IFlow(flow_).blocksPerEpoch();
        uint256 now_ = (uint256(_epoch.nSubtasks) - 1) * _epoch.subtaskInterval;
        uint256 next = (uint256(_next.nSubtasks) - 1) * _next.subtaskInterval;
        uint256 blocks = (now_ > next ? now_ : next) + _epoch.targetMineBlocks + 1;
        if (blocks >= blocksPerEpoch) revert WindowsTooLong(blocks, blocksPerEpoch);
    }

    function _inBounds(bytes32 name, uint256 value, uint256 min, uint256 max) private pure returns (uint256) {
        if (value < min || value > max) revert ParameterOutOfBounds(name, value, min, max);
        return value;
    }
}
