// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import { AccessManaged } from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import { Blob, BlobSubmission, CommitRootSubmission, IDAEntrance } from "../interfaces/IDAEntrance.sol";
import { IDASigners } from "../interfaces/IDASigners.sol";
import { G1Point } from "./BN254.sol";
import { DASampling } from "./DASampling.sol";
import { RowProof } from "./RowProof.sol";

/// @notice What the entrance is deployed with.
struct DAEntranceParameters {
    uint256 pricePerByteEpoch;
    uint256 maxPricePerByteEpoch;
    uint32 minRetentionEpochs;
    uint32 maxRetentionEpochs;
    uint256 samplePeriod;
    uint256 targetRoundSubmissions;
    uint256 rewardRatio;
}

/// @title DAEntrance
/// @notice See {IDAEntrance}.
contract DAEntrance is IDAEntrance, DASampling {
    /* TYPES */

    /// @dev Three words when submitted, the fourth when confirmed.
    struct Stored {
        uint32 sizeBytes;
        uint32 retentionEpochs;
        bytes32 rowRoot;
        bytes32 rlcRoot;
        uint256 signedBitmap;
    }

    /* CONSTANTS AND IMMUTABLES */

    uint256 private constant _MAX_ITEMS = 64;
    uint256 private constant _BILLED_UNIT = 65_536;
    /// @dev A late quorum may still confirm a blob of the epoch before.
    uint256 private constant _CONFIRM_EPOCHS = 1;

    /// @inheritdoc IDAEntrance
    address public immutable signers;
    /// @inheritdoc IDAEntrance
    uint256 public immutable maxPricePerByteEpoch;
    uint256 private immutable _minRetention;
    uint256 private immutable _maxRetention;

    /* STORAGE */

    /// @inheritdoc IDAEntrance
    uint256 public pricePerByteEpoch;
    /// @inheritdoc IDAEntrance
    bool public paused;
    mapping(bytes32 key => Stored) private _blobs;

    /// @param signers_ {DASigners}. Its unbonding must last longer than `maxRetentionEpochs`.
    constructor(
        address authority_,
        address signers_,
        DAEntranceParameters memory parameters
    )
        DASampling(parameters.samplePeriod, parameters.targetRoundSubmissions, parameters.rewardRatio)
        AccessManaged(authority_)
    {
        if (parameters.minRetentionEpochs == 0 || parameters.minRetentionEpochs > parameters.maxRetentionEpochs) {
            revert RetentionOutOfBounds(parameters.minRetentionEpochs, 1, parameters.maxRetentionEpochs);
        }
        signers = signers_;
        maxPricePerByteEpoch = parameters.maxPricePerByteEpoch;
        _minRetention = parameters.minRetentionEpochs;
        _maxRetention = parameters.maxRetentionEpochs;
        _setPrice(parameters.pricePerByteEpoch, parameters.maxPricePerByteEpoch);
    }

    /* SUBMITTING */

    /// @inheritdoc IDAEntrance
    function submitBlobs(BlobSubmission[] calldata blobs) external payable {
        if (paused) revert IntakeIsPaused();
        _checkCount(blobs.length);
        uint256 epoch = IDASigners(signers).epochNumber();
        if (IDASigners(signers).quorumCount(epoch) == 0) revert NoQuorum(epoch);
        uint256 total;
        for (uint256 i = 0; i < blobs.length; ++i) total += _submit(blobs[i], epoch);
        if (msg.value < total) revert FeeTooLow(msg.value, total);
        if (total > 0) _addFee(total);
        uint256 over = msg.value - total;
        if (over == 0) return;
        // solhint-disable-next-line avoid-low-level-calls
        (bool sent, ) = msg.sender.call{ value: over }("");
        if (!sent) revert RefundRefused(msg.sender, over);
    }

    /// @inheritdoc IDAEntrance
    function resubmit(bytes32 dataRoot, uint256 fromEpoch) external {
        uint256 epoch = IDASigners(signers).epochNumber();
        if (fromEpoch >= epoch) revert EpochNotOver(fromEpoch);
        if (IDASigners(signers).quorumCount(epoch) == 0) revert NoQuorum(epoch);
        bytes32 fromKey = _key(dataRoot, fromEpoch, 0);
        Stored memory stored = _blobs[fromKey];
        if (stored.sizeBytes == 0) revert BlobNotSubmitted(dataRoot, fromEpoch, 0);
        if (stored.signedBitmap != 0) revert BlobConfirmedAlready(dataRoot, fromEpoch);
        delete _blobs[fromKey];
        Stored storage target = _blobs[_key(dataRoot, epoch, 0)];
        // Submitted anew meanwhile: the longer retention stays, which both paid for.
        if (target.sizeBytes != 0) {
            if (target.retentionEpochs < stored.retentionEpochs) target.retentionEpochs = stored.retentionEpochs;
        } else {
            _blobs[_key(dataRoot, epoch, 0)] = stored;
        }
        _announce(dataRoot, epoch, stored, 0);
    }

    /* CONFIRMING */

    /// @inheritdoc IDAEntrance
    function submitVerifiedCommitRoots(CommitRootSubmission[] calldata submissions) external {
        _checkCount(submissions.length);
        uint256 current = IDASigners(signers).epochNumber();
        for (uint256 i = 0; i < submissions.length; ++i) _confirm(submissions[i], current);
    }

    /* GOVERNANCE */

    /// @inheritdoc IDAEntrance
    function setPricePerByteEpoch(uint256 price) external restricted {
        _setPrice(price, maxPricePerByteEpoch);
    }

    /// @inheritdoc IDAEntrance
    function pause() external restricted {
        paused = true;
        emit IntakePaused(true);
    }

    /// @inheritdoc IDAEntrance
    function unpause() external restricted {
        paused = false;
        emit IntakePaused(false);
    }

    /* VIEWS */

    /// @inheritdoc IDAEntrance
    function quote(uint256 sizeBytes, uint256 retentionEpochs) public view returns (uint256 feeWei) {
        if (sizeBytes == 0 || sizeBytes > RowProof.MAX_BLOB_BYTES) {
            revert BlobSizeOutOfBounds(sizeBytes, RowProof.MAX_BLOB_BYTES);
        }
        if (retentionEpochs < _minRetention || retentionEpochs > _maxRetention) {
            revert RetentionOutOfBounds(retentionEpochs, _minRetention, _maxRetention);
        }
        uint256 billed = _BILLED_UNIT * ((sizeBytes + _BILLED_UNIT - 1) / _BILLED_UNIT);
        return billed * retentionEpochs * pricePerByteEpoch;
    }

    /// @inheritdoc IDAEntrance
    function blobPrice() external view returns (uint256) {
        return quote(RowProof.MAX_BLOB_BYTES, _minRetention);
    }

    /// @inheritdoc IDAEntrance
    function retentionBounds() external view returns (uint256 min, uint256 max) {
        return (_minRetention, _maxRetention);
    }

    /// @inheritdoc IDAEntrance
    function blobOf(bytes32 dataRoot, uint256 epoch, uint256 quorumId) public view returns (Blob memory blob) {
        Stored memory stored = _blobs[_key(dataRoot, epoch, quorumId)];
        if (stored.sizeBytes == 0) return blob;
        return
            Blob({
                sizeBytes: stored.sizeBytes,
                // Epochs are counted in blocks: their numbers fit 64 bits.
                expiryEpoch: uint64(epoch) + stored.retentionEpochs,
                rowRoot: stored.rowRoot,
                rlcRoot: stored.rlcRoot,
                signedBitmap: stored.signedBitmap
            });
    }

    /// @inheritdoc IDAEntrance
    function verifiedErasureCommitment(
        bytes32 dataRoot,
        uint256 epoch,
        uint256 quorumId
    ) external view returns (G1Point memory) {
        Stored memory stored = _blobs[_key(dataRoot, epoch, quorumId)];
        if (stored.signedBitmap == 0) return G1Point(0, 0);
        return G1Point(uint256(stored.rowRoot), uint256(stored.rlcRoot));
    }

    /// @inheritdoc IDAEntrance
    function commitmentExists(bytes32 dataRoot, uint256 epoch, uint256 quorumId) external view returns (bool) {
        return _blobs[_key(dataRoot, epoch, quorumId)].signedBitmap != 0;
    }

    /// @inheritdoc IDAEntrance
    function dataRootOf(uint64 sizeBytes, bytes32 rowRoot, bytes32 rlcRoot) external pure returns (bytes32) {
        return RowProof.dataRoot(sizeBytes, rowRoot, rlcRoot);
    }

    /* FOR SAMPLING */

    function _signers() internal view override returns (IDASigners) {
        return IDASigners(signers);
    }

    function _liveBlob(bytes32 dataRoot, uint256 epoch, uint256 quorumId) internal view override returns (Blob memory) {
        Blob memory blob = blobOf(dataRoot, epoch, quorumId);
        if (blob.signedBitmap == 0) revert BlobNotConfirmed(dataRoot, epoch, quorumId);
        if (IDASigners(signers).epochNumber() > blob.expiryEpoch) revert BlobExpired(dataRoot, blob.expiryEpoch);
        return blob;
    }

    /* INTERNAL */

    /// @dev Stores one submission; returns what it costs. One that is there already pays for what it adds.
    function _submit(BlobSubmission calldata blob, uint256 epoch) private returns (uint256 fee) {
        fee = quote(blob.sizeBytes, blob.retentionEpochs);
        bytes32 dataRoot = RowProof.dataRoot(blob.sizeBytes, blob.rowRoot, blob.rlcRoot);
        Stored storage stored = _blobs[_key(dataRoot, epoch, 0)];
        uint256 before = stored.retentionEpochs;
        if (before >= blob.retentionEpochs) return 0;
        if (before != 0) fee -= quote(blob.sizeBytes, before);
        else {
            // At most 32 MiB by quote.
            stored.sizeBytes = uint32(blob.sizeBytes);
            stored.rowRoot = blob.rowRoot;
            stored.rlcRoot = blob.rlcRoot;
        }
        stored.retentionEpochs = blob.retentionEpochs;
        _announce(dataRoot, epoch, stored, fee);
    }

    function _announce(bytes32 dataRoot, uint256 epoch, Stored memory stored, uint256 fee) private {
        emit DataUpload(msg.sender, dataRoot, epoch, 0, fee);
        emit BlobSubmitted(
            dataRoot,
            epoch,
            0,
            msg.sender,
            stored.sizeBytes,
            stored.retentionEpochs,
            stored.rowRoot,
            stored.rlcRoot,
            fee
        );
    }

    function _confirm(CommitRootSubmission calldata item, uint256 current) private {
        Stored storage stored = _blobs[_key(item.dataRoot, item.epoch, item.quorumId)];
        if (stored.signedBitmap != 0) return;
        if (stored.sizeBytes == 0) revert BlobNotSubmitted(item.dataRoot, item.epoch, item.quorumId);
        if (item.epoch + _CONFIRM_EPOCHS < current) revert EpochTooOld(item.epoch, current - _CONFIRM_EPOCHS);
        uint256 x = uint256(stored.rowRoot);
        uint256 y = uint256(stored.rlcRoot);
        if (item.erasureCommitment.X != x || item.erasureCommitment.Y != y) {
            revert CommitmentMismatch(item.dataRoot, item.erasureCommitment.X, item.erasureCommitment.Y);
        }
        // The message of da.md A6, so that the quorum signs commitment, epoch and quorum at once.
        bytes32 digest = keccak256(abi.encode(item.dataRoot, item.epoch, item.quorumId, x, y));
        uint256 bitmap = IDASigners(signers).checkAggregate(
            item.epoch,
            item.quorumId,
            digest,
            item.quorumBitmap,
            item.aggPkG2,
            item.signature
        );
        stored.signedBitmap = bitmap;
        emit ErasureCommitmentVerified(item.dataRoot, item.epoch, item.quorumId);
        emit BlobConfirmed(item.dataRoot, item.epoch, bitmap);
    }

    function _setPrice(uint256 price, uint256 max) private {
        if (price > max) revert PriceTooHigh(price, max);
        pricePerByteEpoch = price;
        emit PriceChanged(price);
    }

    function _checkCount(uint256 count) private pure {
        if (count == 0) revert NoSubmissions();
        if (count > _MAX_ITEMS) revert TooManyItems(count, _MAX_ITEMS);
    }

    function _key(bytes32 dataRoot, uint256 epoch, uint256 quorumId) private pure returns (bytes32) {
        return keccak256(abi.encodePacked(dataRoot, epoch, quorumId));
    }
}
