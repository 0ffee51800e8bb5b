// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import { AccessManaged } from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import { SafeCast } from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import { Blob } from "../interfaces/IDAEntrance.sol";
import { IDASampling, SampleResponse } from "../interfaces/IDASampling.sol";
import { IDASigners } from "../interfaces/IDASigners.sol";
import { DAPayments } from "./DAPayments.sol";
import { RowProof } from "./RowProof.sol";

/// @title DASampling
/// @notice See {IDASampling}.
/// @dev balance = active + pending rewards + sum of what is due, at any time.
abstract contract DASampling is IDASampling, DAPayments, AccessManaged {
    using SafeCast for uint256;

    /* TYPES */

    /// @dev One word: the round that was last answered.
    struct Round {
        uint64 number;
        uint32 submissions;
        // Upper 128 bits of the target; the lower ones are all set.
        uint128 target;
    }

    /// @dev One word: what fees and samples touch.
    struct Rewards {
        uint96 active;
        uint96 pending;
        // The epoch that `pending` was paid in.
        uint64 epoch;
    }

    /* CONSTANTS AND IMMUTABLES */

    /// @dev Easiest target, 2^-7 of the range: three in 2^15 pieces win (da.md A5).
    uint128 private constant _MAX_TARGET = type(uint128).max >> 7;
    uint128 private constant _MIN_TARGET = 1 << 32;
    /// @dev Block hashes reach back 256 blocks.
    uint256 private constant _MAX_PERIOD = 200;
    uint256 private constant _MAX_EASINGS = 64;

    /// @inheritdoc IDASampling
    uint256 public immutable samplePeriod;

    /* STORAGE */

    Round private _round;
    Rewards private _rewards;
    /// @inheritdoc IDASampling
    uint256 public targetRoundSubmissions;
    /// @inheritdoc IDASampling
    uint256 public rewardRatio;
    mapping(bytes32 id => bool) private _taken;

    constructor(uint256 samplePeriod_, uint256 targetRoundSubmissions_, uint256 rewardRatio_) {
        _inBounds("samplePeriod", samplePeriod_, 1, _MAX_PERIOD);
        samplePeriod = samplePeriod_;
        _setSampling(targetRoundSubmissions_, rewardRatio_);
        _round.target = _MAX_TARGET;
    }

    /* ANSWERING */

    /// @inheritdoc IDASampling
    function submitSamplingResponse(SampleResponse calldata response) external {
        (uint256 number, bytes32 seed) = _currentRound();
        if (seed == 0 || response.sampleSeed != seed) revert SeedNotCurrent(response.sampleSeed, seed);
        Round memory round = _roundAt(number);
        if (round.number != _round.number) {
            emit NewSampleRound(number, number * samplePeriod, seed, _full(round.target));
        }
        uint256 most = 2 * targetRoundSubmissions;
        if (round.submissions >= most) revert RoundFull(number, most);
        _checkQuality(response, _full(round.target));
        bytes32 id = keccak256(
            abi.encode(response.dataRoot, seed, response.epoch, response.lineIndex, response.sublineIndex)
        );
        if (_taken[id]) revert SampleTaken(id);
        address beneficiary = _checkPiece(response);

        _taken[id] = true;
        round.submissions += 1;
        _round = round;
        uint256 reward = _takeReward();
        _due[beneficiary] += reward;
        emit DAReward(
            beneficiary,
            number,
            response.epoch,
            response.quorumId,
            response.dataRoot,
            response.quality,
            response.lineIndex,
            response.sublineIndex,
            reward
        );
    }

    /// @inheritdoc IDASampling
    function withdrawPayments(address payable payee) external {
        (uint256 amount, bool sent) = _payOut(payee);
        if (amount == 0) revert NothingDue(payee);
        if (!sent) revert PaymentRefused(payee, amount);
        emit Withdrawn(payee, amount);
    }

    /// @inheritdoc IDASampling
    function donate() external payable {
        _addFee(msg.value);
    }

    /* GOVERNANCE */

    /// @inheritdoc IDASampling
    function setSampling(uint256 targetRoundSubmissions_, uint256 rewardRatio_) external restricted {
        _setSampling(targetRoundSubmissions_, rewardRatio_);
    }

    /* VIEWS */

    /// @inheritdoc IDASampling
    function sampleTask()
        external
        view
        returns (bytes32 sampleHash, uint256 podasTarget, uint256 restSubmissions)
    {
        uint256 number;
        (number, sampleHash) = _currentRound();
        Round memory round = _roundAt(number);
        podasTarget = _full(round.target);
        uint256 most = 2 * targetRoundSubmissions;
        restSubmissions = round.submissions >= most ? 0 : most - round.submissions;
    }

    /// @inheritdoc IDASampling
    function payments(address payee) external view returns (uint256) {
        return _due[payee];
    }

    /// @inheritdoc IDASampling
    function rewardPools() external view returns (uint256 active, uint256 pending) {
        Rewards memory rewards = _rewardsNow();
        return (rewards.active, rewards.pending);
    }

    /* FOR THE ENTRANCE */

    /// @dev The contract that knows signers and epochs.
    function _signers() internal view virtual returns (IDASigners);

    /// @dev A confirmed blob that has not expired; reverts for others.
    function _liveBlob(bytes32 dataRoot, uint256 epoch, uint256 quorumId) internal view virtual returns (Blob memory);

    /// @dev Takes a fee in: it is paid out from the next epoch on.
    function _addFee(uint256 amount) internal {
        Rewards memory rewards = _rewardsNow();
        rewards.pending = (rewards.pending + amount).toUint96();
        _rewards = rewards;
    }

    /* INTERNAL */

    /// @dev Number and seed of the current round; the seed is 0 in the block that it is taken from.
    function _currentRound() private view returns (uint256 number, bytes32 seed) {
        number = block.number / samplePeriod;
        uint256 start = number * samplePeriod;
        seed = start == 0 ? bytes32(0) : blockhash(start - 1);
    }

    /// @dev The round as it is now: a new one has a target that follows the answers of the last, and eases by an
    /// eighth for each round without any. Bounded: after 64 such rounds the target is at its easiest anyhow.
    function _roundAt(uint256 number) private view returns (Round memory round) {
        round = _round;
        if (round.number == number) return round;
        uint256 target = _adjust(round.target, round.submissions);
        uint256 empty = number - round.number - 1;
        if (empty > _MAX_EASINGS) target = _MAX_TARGET;
        else for (uint256 i = 0; i < empty && target < _MAX_TARGET; ++i) target = _adjust(target, 0);
        // Within 128 bits by _adjust; rounds and blocks fit 64 bits.
        round = Round({ number: uint64(number), submissions: 0, target: uint128(target) });
    }

    /// @dev A target moves by at most an eighth, in proportion to how far the answers were from those aimed at.
    function _adjust(uint256 target, uint256 submissions) private view returns (uint256) {
        uint256 wanted = targetRoundSubmissions;
        if (submissions > wanted) {
            uint256 over = submissions - wanted > wanted ? wanted : submissions - wanted;
            target -= (target * over) / wanted / 8;
        } else {
            target += (target * (wanted - submissions)) / wanted / 8;
        }
        if (target > _MAX_TARGET) return _MAX_TARGET;
        return target < _MIN_TARGET ? _MIN_TARGET : target;
    }

    function _full(uint256 target) private pure returns (uint256) {
        return (target << 128) | type(uint128).max;
    }

    function _checkQuality(SampleResponse calldata response, uint256 target) private pure {
        uint256 line = uint256(
            keccak256(
                abi.encodePacked(
                    response.sampleSeed,
                    uint256(response.epoch),
                    uint256(response.quorumId),
                    response.dataRoot,
                    uint64(response.lineIndex)
                )
            )
        );
        uint256 data = uint256(keccak256(abi.encodePacked(line, uint256(response.sublineIndex), response.data)));
        // A sum that overflows is no quality: the comparison below keeps it out without wrapping.
        uint256 quality = data > type(uint256).max - line ? type(uint256).max : line + data;
        if (quality != response.quality) revert QualityWrong(response.quality, quality);
        if (quality > target) revert QualityTooHigh(quality, target);
    }

    /// @dev Checks that the piece is of a live blob and that its signer signed; returns that signer.
    function _checkPiece(SampleResponse calldata response) private view returns (address) {
        Blob memory blob = _liveBlob(response.dataRoot, response.epoch, response.quorumId);
        uint256 rowBytes = RowProof.rowBytes(blob.sizeBytes);
        uint256 row = response.lineIndex;
        if (!RowProof.verify(blob.rowRoot, rowBytes, row, response.sublineIndex, response.data, response.proof)) {
            revert ProofWrong();
        }
        (address signer, uint256 index) = _signers().signerOfRow(response.epoch, response.lineIndex);
        if (blob.signedBitmap & (1 << index) == 0) revert RowNotSigned(row, signer);
        return signer;
    }

    function _takeReward() private returns (uint256 reward) {
        Rewards memory rewards = _rewardsNow();
        reward = rewards.active / rewardRatio;
        // A part of it.
        rewards.active -= uint96(reward);
        _rewards = rewards;
    }

    /// @dev The pools as they are now: what was paid in epochs before is active.
    function _rewardsNow() private view returns (Rewards memory rewards) {
        rewards = _rewards;
        uint256 epoch = _signers().epochNumber();
        if (epoch == rewards.epoch) return rewards;
        rewards.active += rewards.pending;
        rewards.pending = 0;
        rewards.epoch = epoch.toUint64();
    }

    function _setSampling(uint256 targetRoundSubmissions_, uint256 rewardRatio_) private {
        _inBounds("targetRoundSubmissions", targetRoundSubmissions_, 1, 1_000);
        _inBounds("rewardRatio", rewardRatio_, 1, 1_000_000_000);
        targetRoundSubmissions = targetRoundSubmissions_;
        rewardRatio = rewardRatio_;
        emit SamplingChanged(targetRoundSubmissions_, rewardRatio_);
    }

    function _inBounds(string memory field, uint256 value, uint256 min, uint256 max) private pure {
        if (value < min || value > max) revert SamplingOutOfBounds(field, value, min, max);
    }
}
