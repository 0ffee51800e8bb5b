// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @notice One piece of a row and its proof, drawn by the round's seed.
struct SampleResponse {
    bytes32 sampleSeed;
    uint64 epoch;
    uint64 quorumId;
    /// Row, 0 to 3071.
    uint32 lineIndex;
    /// Piece of 1024 bytes within the row; the last one of a row may be shorter.
    uint32 sublineIndex;
    /// lineQuality + dataQuality.
    uint256 quality;
    bytes32 dataRoot;
    /// Path from the piece to the row, then from the row to the row root, siblings from the bottom up.
    bytes32[] proof;
    bytes data;
}

/// @title Proof of data availability by sampling
/// @notice In each round of `samplePeriod` blocks every stored piece is a ticket: its line quality is
/// `keccak256(seed ‖ u256 epoch ‖ u256 quorumId ‖ dataRoot ‖ u64 row)`, its data quality
/// `keccak256(u256 lineQuality ‖ u256 subline ‖ data)`; the piece wins when their sum does not overflow and is at most
/// the target (da.md, section A5). Anybody may answer; the signer that the row belongs to is paid, from the fees.
interface IDASampling {
    /// @notice A new round: its number, the height that it starts at, its seed, and its target.
    event NewSampleRound(uint256 indexed sampleRound, uint256 sampleHeight, bytes32 sampleSeed, uint256 podasTarget);
    /// @notice A sample was paid for.
    event DAReward(
        address indexed beneficiary,
        uint256 indexed sampleRound,
        uint256 indexed epoch,
        uint256 quorumId,
        bytes32 dataRoot,
        uint256 quality,
        uint256 lineIndex,
        uint256 sublineIndex,
        uint256 reward
    );
    event Withdrawn(address indexed payee, uint256 amount);
    event SamplingChanged(uint256 targetRoundSubmissions, uint256 rewardRatio);

    error SeedNotCurrent(bytes32 seed, bytes32 current);
    error QualityTooHigh(uint256 quality, uint256 target);
    error QualityWrong(uint256 claimed, uint256 computed);
    error SampleTaken(bytes32 id);
    error RoundFull(uint256 round, uint256 max);
    error BlobNotConfirmed(bytes32 dataRoot, uint256 epoch, uint256 quorumId);
    error BlobExpired(bytes32 dataRoot, uint256 expiryEpoch);
    error RowNotSigned(uint256 row, address signer);
    error ProofWrong();
    error NothingDue(address payee);
    error PaymentRefused(address payee, uint256 amount);
    error SamplingOutOfBounds(string field, uint256 value, uint256 min, uint256 max);

    /// @notice Answers the current round with a piece that won.
    function submitSamplingResponse(SampleResponse calldata response) external;

    /// @notice Pays what is due to `payee`.
    function withdrawPayments(address payable payee) external;

    /// @notice Adds to what samples are paid from.
    function donate() external payable;

    /// @notice The current round's seed, target, and how many answers it still takes. The seed is zero when the block
    /// that gives it is out of reach.
    function sampleTask()
        external
        view
        returns (bytes32 sampleHash, uint256 podasTarget, uint256 restSubmissions);

    /// @notice What is due to an account, wei.
    function payments(address payee) external view returns (uint256);

    /// @notice What samples are paid from now, and what joins it when the epoch is over, wei.
    function rewardPools() external view returns (uint256 active, uint256 pending);

    /// @notice Blocks of a round.
    function samplePeriod() external view returns (uint256);

    /// @notice Answers per round that the target aims at; twice as many are taken.
    function targetRoundSubmissions() external view returns (uint256);

    /// @notice A sample is paid the active pool divided by this.
    function rewardRatio() external view returns (uint256);

    /// @notice Sets the answers aimed at and the reward ratio. Governance only, within bounds.
    function setSampling(uint256 targetRoundSubmissions_, uint256 rewardRatio_) external;
}
