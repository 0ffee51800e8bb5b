// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import { G1Point, G2Point } from "../da/BN254.sol";
import { IDASampling } from "./IDASampling.sol";

/// @notice A blob to be stored: its size, for how long, and the two roots that commit to it. They give its data root
/// `sha256("weightless-da-1" ‖ u8 1 ‖ u32 1024 ‖ u32 2048 ‖ u32 rowBytes ‖ u64 sizeBytes ‖ rowRoot ‖ rlcRoot)`,
/// numbers big-endian.
struct BlobSubmission {
    /// Bytes of the payload: 1 to 32 MiB.
    uint64 sizeBytes;
    /// Epochs after the current one for which the signers must keep it.
    uint32 retentionEpochs;
    /// Root over the 3072 rows.
    bytes32 rowRoot;
    /// Root over the combinations of the data rows.
    bytes32 rlcRoot;
}

/// @notice A quorum's signature for a blob, in the shape 0G's contract takes it.
struct CommitRootSubmission {
    bytes32 dataRoot;
    uint256 epoch;
    uint256 quorumId;
    /// X = uint(rowRoot), Y = uint(rlcRoot).
    G1Point erasureCommitment;
    /// One bit for each signer in the epoch's order: 1 has signed.
    bytes quorumBitmap;
    G2Point aggPkG2;
    G1Point signature;
}

/// @notice What is known about a blob of an epoch.
struct Blob {
    uint32 sizeBytes;
    /// The last epoch in which it must be kept.
    uint64 expiryEpoch;
    bytes32 rowRoot;
    bytes32 rlcRoot;
    /// Who signed, by position in the epoch's order; 0 until it is confirmed.
    uint256 signedBitmap;
}

/// @title Where blobs are paid for and confirmed
/// @notice A blob is submitted with its fee and belongs to the current epoch's quorum. Its signers get the rows off
/// chain, check them, keep them until the blob expires and sign; whoever has signatures for two thirds of the stake
/// confirms the blob here. A blob that was not paid for cannot be confirmed.
///
/// Fee: `billedBytes * retentionEpochs * pricePerByteEpoch` wei, billedBytes = `65536 * ceil(sizeBytes / 65536)`.
/// Fees pay sampling responses ({IDASampling}); whether rows can be had is enforced by the custody contract.
/// A blob that did not find its quorum in time may be moved to the current epoch without a further fee.
interface IDAEntrance is IDASampling {
    /// @notice 0G's event: a blob was submitted. `blobPrice` is the fee, wei.
    event DataUpload(address sender, bytes32 dataRoot, uint256 epoch, uint256 quorumId, uint256 blobPrice);
    /// @notice A blob was submitted, with what its signers need to know.
    event BlobSubmitted(
        bytes32 indexed dataRoot,
        uint256 indexed epoch,
        uint256 quorumId,
        address sender,
        uint64 sizeBytes,
        uint32 retentionEpochs,
        bytes32 rowRoot,
        bytes32 rlcRoot,
        uint256 feeWei
    );
    /// @notice 0G's event: a blob was confirmed.
    event ErasureCommitmentVerified(bytes32 dataRoot, uint256 epoch, uint256 quorumId);
    /// @notice A blob was confirmed by these signers.
    event BlobConfirmed(bytes32 indexed dataRoot, uint256 indexed epoch, uint256 signedBitmap);
    /// @notice The price changed, wei per byte and epoch.
    event PriceChanged(uint256 pricePerByteEpoch);
    /// @notice New submissions are refused, or taken again. Everything else goes on.
    event IntakePaused(bool paused);

    error BlobSizeOutOfBounds(uint256 sizeBytes, uint256 max);
    error RetentionOutOfBounds(uint256 retentionEpochs, uint256 min, uint256 max);
    error FeeTooLow(uint256 paidWei, uint256 feeWei);
    error NoSubmissions();
    error TooManyItems(uint256 count, uint256 max);
    error NoQuorum(uint256 epoch);
    /// @notice It was never submitted in this epoch, so it was not paid for.
    error BlobNotSubmitted(bytes32 dataRoot, uint256 epoch, uint256 quorumId);
    /// @notice The commitment is not that of the submission.
    error CommitmentMismatch(bytes32 dataRoot, uint256 rowRoot, uint256 rlcRoot);
    /// @notice The blob is confirmed: there is nothing to move.
    error BlobConfirmedAlready(bytes32 dataRoot, uint256 epoch);
    /// @notice The blob is of the current epoch: its quorum can still sign.
    error EpochNotOver(uint256 epoch);
    /// @notice The epoch's blobs have expired or its submissions can no longer be confirmed.
    error EpochTooOld(uint256 epoch, uint256 oldest);
    error PriceTooHigh(uint256 price, uint256 max);
    error IntakeIsPaused();
    error RefundRefused(address payee, uint256 amount);

    /// @notice Submits blobs to the current epoch's quorum. Overpayment is returned. A blob that is there already
    /// costs what the longer retention costs, and nothing when it is not longer. At most 64 at once.
    function submitBlobs(BlobSubmission[] calldata blobs) external payable;

    /// @notice Moves a blob that was not confirmed in `fromEpoch` to the current epoch. Free, for anybody.
    function resubmit(bytes32 dataRoot, uint256 fromEpoch) external;

    /// @notice Confirms blobs by the signatures of their quorum; those confirmed already are skipped. At most 64.
    function submitVerifiedCommitRoots(CommitRootSubmission[] calldata submissions) external;

    /// @notice The fee of a blob, wei.
    function quote(uint256 sizeBytes, uint256 retentionEpochs) external view returns (uint256 feeWei);

    /// @notice Fee of the largest blob for the shortest retention, wei: 0G's getter, for orientation.
    function blobPrice() external view returns (uint256);

    /// @notice Wei per byte and epoch.
    function pricePerByteEpoch() external view returns (uint256);

    /// @notice Bound of the price, fixed at deployment.
    function maxPricePerByteEpoch() external view returns (uint256);

    /// @notice Shortest and longest retention, epochs.
    function retentionBounds() external view returns (uint256 min, uint256 max);

    /// @notice What is known about a blob; all zero when it was not submitted in this epoch.
    function blobOf(bytes32 dataRoot, uint256 epoch, uint256 quorumId) external view returns (Blob memory);

    /// @notice The commitment of a confirmed blob, X = uint(rowRoot), Y = uint(rlcRoot); zeros for others.
    function verifiedErasureCommitment(
        bytes32 dataRoot,
        uint256 epoch,
        uint256 quorumId
    ) external view returns (G1Point memory);

    /// @notice Whether a blob is confirmed.
    function commitmentExists(bytes32 dataRoot, uint256 epoch, uint256 quorumId) external view returns (bool);

    /// @notice The data root of a size and two roots.
    function dataRootOf(uint64 sizeBytes, bytes32 rowRoot, bytes32 rlcRoot) external pure returns (bytes32);

    /// @notice The contract that knows the signers.
    function signers() external view returns (address);

    /// @notice Whether new submissions are refused.
    function paused() external view returns (bool);

    /// @notice Sets the price of submissions from now on. Governance only.
    function setPricePerByteEpoch(uint256 price) external;

    /// @notice Refuses new submissions. Governance or its guardian only; confirming, sampling, paying go on.
    function pause() external;

    /// @notice Takes submissions again. Governance only.
    function unpause() external;
}
