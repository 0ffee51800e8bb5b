// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import { AccessManaged } from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import { SafeCast } from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import { CustodyChallenge, CustodyRequest, IDACustody } from "../interfaces/IDACustody.sol";
import { Blob, IDAEntrance } from "../interfaces/IDAEntrance.sol";
import { IDASigners } from "../interfaces/IDASigners.sol";
import { DAPayments } from "./DAPayments.sol";
import { RowProof } from "./RowProof.sol";

/// @title DACustody
/// @notice See {IDACustody}.
/// @dev balance = sum of the bonds of open requests + sum of what is due, at any time.
contract DACustody is IDACustody, DAPayments, AccessManaged {
    using SafeCast for uint256;

    /* CONSTANTS AND IMMUTABLES */

    uint256 private constant _MIN_ANSWER_BLOCKS = 10;
    uint256 private constant _MAX_ANSWER_BLOCKS = 50_400;
    uint256 private constant _MAX_BOND = 1 ether;
    uint256 private constant _MAX_PENALTY = 1_000_000 ether;
    /// @dev What one signer must answer at a time: more would make honest signers fail.
    uint256 private constant _MAX_OPEN = 64;
    uint256 private constant _READER_PERCENT = 30;

    /// @inheritdoc IDACustody
    address public immutable signers;
    /// @inheritdoc IDACustody
    address public immutable entrance;

    /* STORAGE */

    struct Terms {
        uint32 answerBlocks;
        uint96 bondPerSubline;
        uint128 penaltyWei;
    }

    Terms private _terms;
    mapping(bytes32 id => CustodyChallenge) private _challenges;
    /// @inheritdoc IDACustody
    mapping(address signer => uint256) public openChallenges;

    constructor(
        address authority_,
        address signers_,
        address entrance_,
        uint256 answerBlocks,
        uint256 bondPerSubline,
        uint256 penaltyWei
    ) AccessManaged(authority_) {
        signers = signers_;
        entrance = entrance_;
        _setTerms(answerBlocks, bondPerSubline, penaltyWei);
    }

    /// @notice Takes what slashing brings.
    receive() external payable {
        if (msg.sender != signers) revert DirectDeposit(msg.sender);
    }

    /* THE GAME */

    /// @inheritdoc IDACustody
    function challengeCustody(CustodyRequest calldata request) external payable returns (bytes32 id) {
        id = challengeId(request);
        if (_challenges[id].reader != address(0)) revert ChallengeOpen(id);
        (address signer, Blob memory blob) = _liable(request);
        uint256 rowBytes = RowProof.rowBytes(blob.sizeBytes);
        uint256 count = RowProof.sublines(rowBytes);
        if (request.fromSubline >= request.toSubline || request.toSubline > count) {
            revert SublinesOutOfBounds(request.fromSubline, request.toSubline, count);
        }
        Terms memory current = _terms;
        uint256 bond = uint256(current.bondPerSubline) * (request.toSubline - request.fromSubline);
        if (msg.value < bond) revert BondTooLow(msg.value, bond);
        if (openChallenges[signer] >= _MAX_OPEN) revert SignerBusy(signer, _MAX_OPEN);

        openChallenges[signer] += 1;
        _due[msg.sender] += msg.value - bond;
        uint256 deadline = block.number + current.answerBlocks;
        _challenges[id] = CustodyChallenge({
            reader: msg.sender,
            deadlineBlock: deadline.toUint64(),
            fromSubline: request.fromSubline,
            signer: signer,
            toSubline: request.toSubline,
            row: request.row,
            // At most 32 KiB.
            rowBytes: uint32(rowBytes),
            rowRoot: blob.rowRoot,
            bondWei: bond.toUint128(),
            penaltyWei: current.penaltyWei
        });
        emit CustodyChallenged(id, signer, msg.sender, request, deadline, bond);
    }

    /// @inheritdoc IDACustody
    function answerCustody(bytes32 id, bytes[] calldata sublines, bytes32[][] calldata proofs) external {
        CustodyChallenge memory challenge = _open(id);
        if (block.number > challenge.deadlineBlock) revert AnswerLate(id, challenge.deadlineBlock);
        uint256 wanted = challenge.toSubline - challenge.fromSubline;
        if (sublines.length != wanted || proofs.length != wanted) revert AnswerLength(sublines.length, wanted);
        for (uint256 i = 0; i < wanted; ++i) {
            uint256 subline = challenge.fromSubline + i;
            bool right = RowProof.verify(
                challenge.rowRoot,
                challenge.rowBytes,
                challenge.row,
                subline,
                sublines[i],
                proofs[i]
            );
            if (!right) revert AnswerWrong(id, subline);
        }
        _close(id, challenge);
        _due[challenge.signer] += challenge.bondWei;
        emit CustodyAnswered(id, challenge.signer);
    }

    /// @inheritdoc IDACustody
    function expireCustody(bytes32 id) external {
        CustodyChallenge memory challenge = _open(id);
        if (block.number <= challenge.deadlineBlock) revert AnswerStillPossible(id, challenge.deadlineBlock);
        _close(id, challenge);
        // DASigners is trusted and sends exactly what it returns.
        uint256 taken = IDASigners(signers).slash(challenge.signer, challenge.penaltyWei);
        uint256 share = (taken * _READER_PERCENT) / 100;
        _due[challenge.reader] += challenge.bondWei + share;
        // What nobody can draw is burnt.
        _due[address(0)] += taken - share;
        emit CustodyFailed(id, challenge.signer, challenge.reader, taken);
    }

    /// @inheritdoc IDACustody
    function withdrawPayments(address payable payee) external {
        (uint256 amount, bool sent) = _payOut(payee);
        if (amount == 0) revert NothingDue(payee);
        if (!sent) revert PaymentRefused(payee, amount);
        emit Withdrawn(payee, amount);
    }

    /* GOVERNANCE */

    /// @inheritdoc IDACustody
    function setTerms(uint256 answerBlocks, uint256 bondPerSubline, uint256 penaltyWei) external restricted {
        _setTerms(answerBlocks, bondPerSubline, penaltyWei);
    }

    /* VIEWS */

    /// @inheritdoc IDACustody
    function challengeOf(bytes32 id) external view returns (CustodyChallenge memory) {
        return _challenges[id];
    }

    /// @inheritdoc IDACustody
    function payments(address payee) external view returns (uint256) {
        return _due[payee];
    }

    /// @inheritdoc IDACustody
    function terms() external view returns (uint256 answerBlocks, uint256 bondPerSubline, uint256 penaltyWei) {
        Terms memory current = _terms;
        return (current.answerBlocks, current.bondPerSubline, current.penaltyWei);
    }

    /// @inheritdoc IDACustody
    function challengeId(CustodyRequest calldata request) public pure returns (bytes32) {
        return keccak256(abi.encode(request));
    }

    /* INTERNAL */

    /// @dev The signer that must hold the row, by its own signature, and the blob.
    function _liable(CustodyRequest calldata request) private view returns (address signer, Blob memory blob) {
        blob = IDAEntrance(entrance).blobOf(request.dataRoot, request.epoch, request.quorumId);
        if (blob.signedBitmap == 0) revert BlobNotConfirmed(request.dataRoot, request.epoch, request.quorumId);
        if (IDASigners(signers).epochNumber() > blob.expiryEpoch) {
            revert BlobExpired(request.dataRoot, blob.expiryEpoch);
        }
        uint256 index;
        (signer, index) = IDASigners(signers).signerOfRow(request.epoch, request.row);
        if (blob.signedBitmap & (1 << index) == 0) revert RowNotSigned(request.row, signer);
    }

    function _open(bytes32 id) private view returns (CustodyChallenge memory challenge) {
        challenge = _challenges[id];
        if (challenge.reader == address(0)) revert ChallengeUnknown(id);
    }

    function _close(bytes32 id, CustodyChallenge memory challenge) private {
        delete _challenges[id];
        openChallenges[challenge.signer] -= 1;
    }

    function _setTerms(uint256 answerBlocks, uint256 bondPerSubline, uint256 penaltyWei) private {
        _inBounds("answerBlocks", answerBlocks, _MIN_ANSWER_BLOCKS, _MAX_ANSWER_BLOCKS);
        _inBounds("bondPerSubline", bondPerSubline, 1, _MAX_BOND);
        _inBounds("penaltyWei", penaltyWei, 1, _MAX_PENALTY);
        // Within their widths by the bounds above.
        _terms = Terms(uint32(answerBlocks), uint96(bondPerSubline), uint128(penaltyWei));
        emit CustodyTermsChanged(answerBlocks, bondPerSubline, penaltyWei);
    }

    function _inBounds(string memory field, uint256 value, uint256 min, uint256 max) private pure {
        if (value < min || value > max) revert TermsOutOfBounds(field, value, min, max);
    }
}
