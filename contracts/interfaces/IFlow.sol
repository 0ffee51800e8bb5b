// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @notice One subtree of a submission: the Merkle root of 2^height sectors.
struct SubmissionNode {
    bytes32 root;
    uint256 height;
}

/// @notice What is stored: `length` is the exact size in bytes, `tags` is opaque and emitted byte for byte.
struct SubmissionData {
    uint256 length;
    bytes tags;
    SubmissionNode[] nodes;
}

/// @notice A submission with the account it is labelled with. The label is the caller's claim, nothing checks it.
struct Submission {
    SubmissionData data;
    address submitter;
}

/// @notice What is mined against in one epoch. `digest` is `keccak256(blockDigest || flowRoot || flowLength)`, or the
/// empty hash `keccak256("")` if the block hash at the epoch's start could not be read; such a context is not mined.
struct MineContext {
    uint256 epoch;
    uint256 mineStart;
    bytes32 flowRoot;
    uint256 flowLength;
    bytes32 blockDigest;
    bytes32 digest;
}

/// @notice Sectors [start, end) that became part of the flow during one recorded epoch.
struct EpochRange {
    uint128 start;
    uint128 end;
}

/// @notice The same with the digest of the context that recorded it.
struct EpochRangeWithContextDigest {
    uint128 start;
    uint128 end;
    bytes32 digest;
}

/// @title The flow: one append-only sequence of sectors (256 bytes each) that every submission becomes part of
/// @notice Positions and lengths are in sectors, fees in wei, times in blocks.
///
/// Placing: a submission of nodes with heights h_0 > h_1 > ... starts at the next multiple of 2^h_0, or, where it would
/// straddle a segment of 1024 sectors from its middle, at the next segment. The sectors in between are empty and free.
///
/// Root: the Merkle tree over all sectors, filled with empty sectors to a power of two. Leaf 0 is reserved and zero.
///
/// Fee: `sectors * market.pricePerSector()`. What is sent beyond it returns to the payer in the same transaction.
interface IFlow {
    /* EVENTS */

    /// @notice A submission became part of the flow. `sender` is the submitter named by the caller (a label).
    /// @param identity `keccak256` of the node roots, one after the other.
    /// @param submissionIndex 0, 1, 2, ... without gaps, in the order of the logs.
    /// @param startPos First sector of the first node.
    /// @param length Sectors covered by the nodes.
    event Submit(
        address indexed sender,
        bytes32 indexed identity,
        uint256 submissionIndex,
        uint256 startPos,
        uint256 length,
        SubmissionData submission
    );

    /// @notice Epoch `index` began with the flow as it was then. After idle epochs one event stands for all of them.
    event NewEpoch(
        address indexed sender,
        uint256 indexed index,
        bytes32 startMerkleRoot,
        uint256 submissionIndex,
        uint256 flowLength,
        bytes32 context
    );

    /// @notice New submissions were halted. Contexts, mining and payouts go on.
    event Paused(address account);

    /// @notice New submissions were let in again.
    event Unpaused(address account);

    /* ERRORS */

    /// @notice A submission must be sent with gas for the worst case: at least `floor` left when the contract begins.
    error GasBelowFloor(uint256 gasLeft, uint256 floor);
    /// @notice The value sent does not cover the fee of `amount` sectors at `price` wei each; `paid` wei were left.
    error NotEnoughFee(uint256 price, uint256 amount, uint256 paid);
    /// @notice The submitter is the zero address.
    error SubmitterMissing();
    /// @notice The submission names no node.
    error NodesMissing();
    /// @notice The first node is 2^64 sectors or more.
    error NodeTooHigh(uint256 height);
    /// @notice Heights must fall from node to node; node `index` is not lower than the one before it.
    error NodesNotDescending(uint256 index, uint256 before, uint256 height);
    /// @notice First and last height must differ by less than 4.
    error NodesTooFarApart(uint256 first, uint256 last);
    /// @notice The nodes hold more than `above` and at most `atMost` bytes, and `length` is not such a size.
    error LengthMismatch(uint256 length, uint256 above, uint256 atMost);
    /// @notice The flow ends at 2^63 - 1 sectors.
    error FlowFull(uint256 length);
    /// @notice Submissions start at block `firstBlock`.
    error NotLaunched(uint256 firstBlock);
    /// @notice New submissions are halted.
    error EnforcedPause();
    /// @notice The position is not part of the flow yet.
    error PositionOutOfFlow(uint256 position, uint256 length);
    /// @notice The epoch in which the position was added has not ended.
    error NoContextForPosition(uint256 position);
    /// @notice There is no such recorded epoch.
    error UnknownEpochRange(uint256 index, uint256 count);
    /// @notice The payer refused its change.
    error RefundRefused(address payer, uint256 amount);
    /// @notice Only the market may set terms.
    error CallerIsNotMarket(address caller);
    /// @notice An epoch needs at least one block.
    error ZeroBlocksPerEpoch();

    /* SUBMITTING */

    /// @notice Adds a submission and pays for it. Whoever calls pays.
    /// @dev Reverts with one of the errors above if the submission is not valid, the fee is not covered, submissions
    /// are halted, or the payer is owed change and refuses it.
    /// @return index Number of the submission.
    /// @return digest Its identity.
    /// @return startIndex Its first sector.
    /// @return length Sectors it covers.
    function submit(
        Submission calldata submission
    ) external payable returns (uint256 index, bytes32 digest, uint256 startIndex, uint256 length);

    /// @notice The older form of {submit}: the submitter is the caller.
    function submit(
        SubmissionData calldata data
    ) external payable returns (uint256 index, bytes32 digest, uint256 startIndex, uint256 length);

    /// @notice Adds several submissions, paid from one value. All of them or none.
    function batchSubmit(
        Submission[] calldata submissions
    )
        external
        payable
        returns (
            uint256[] memory indexes,
            bytes32[] memory digests,
            uint256[] memory startIndexes,
            uint256[] memory lengths
        );

    /// @notice The older form of {batchSubmit}: the submitter is the caller.
    function batchSubmit(
        SubmissionData[] calldata datas
    )
        external
        payable
        returns (
            uint256[] memory indexes,
            bytes32[] memory digests,
            uint256[] memory startIndexes,
            uint256[] memory lengths
        );

    /* EPOCHS */

    /// @notice Brings the context up to the epoch that is running. Anyone may call; submitting does it too.
    /// @dev However many epochs were idle, this costs the same: the last one is recorded, and data of the ones between
    /// belongs to its range. An epoch whose block hash cannot be read is not recorded; its data waits for the next.
    function makeContext() external;

    /// @notice The same as {makeContext}. Takes a bound for callers used to one.
    function makeContextFixedTimes(uint256 count) external;

    /// @notice {makeContext}, then the context.
    function makeContextWithResult() external returns (MineContext memory context);

    /// @notice {makeContext}, then the recorded epoch that added sector `position`. Meant for eth_call.
    function queryContextAtPosition(uint128 position) external returns (EpochRangeWithContextDigest memory range);

    /// @notice The context as it was last made.
    function getContext() external view returns (MineContext memory);

    /// @notice The range recorded with a context digest; zeros if there is none.
    function getEpochRange(bytes32 digest) external view returns (EpochRange memory);

    /// @notice The recorded epoch number `index`, counted without those that were skipped.
    function getEpochRangeHistory(uint256 index) external view returns (EpochRangeWithContextDigest memory);

    /// @notice How many epochs were recorded.
    function epochRangeCount() external view returns (uint256);

    /// @notice Number of the epoch of {getContext}.
    function epoch() external view returns (uint256);

    /// @notice Where the next recorded range starts.
    function epochStartPosition() external view returns (uint256);

    /// @notice Block from which submissions are taken, and the origin of epochs.
    function firstBlock() external view returns (uint256);

    /// @notice Blocks between deployment and {firstBlock}.
    function deployDelay() external view returns (uint256);

    /// @notice Length of an epoch.
    function blocksPerEpoch() external view returns (uint256);

    /* STATE */

    /// @notice The root after submission number `txSeq`; 0 if there is none.
    function getFlowRootByTxSeq(uint256 txSeq) external view returns (bytes32);

    /// @notice The root of the flow as it is now.
    function computeFlowRoot() external view returns (bytes32);

    /// @notice Length of the flow, and the depth of its tree plus one.
    function tree() external view returns (uint256 currentLength, uint256 unstagedHeight);

    /// @notice Number of submissions so far.
    function numSubmissions() external view returns (uint256);

    /// @notice Number the next submission gets.
    function submissionIndex() external view returns (uint256);

    /// @notice The market that names the price.
    function market() external view returns (address);

    /// @notice The contract that receives the fees.
    function reward() external view returns (address);

    /* TERMS */

    /// @notice Wei per sector, and the part of each fee (in hundredths of a per cent) that goes to the treasury.
    function terms() external view returns (uint64 pricePerSector, uint16 serviceFeeRateBps);

    /// @notice Takes the market's terms for submissions from now on. Market only, which bounds them.
    /// @dev They are kept here, beside what every submission reads anyway, and nowhere else.
    function setTerms(uint64 pricePerSector, uint16 serviceFeeRateBps) external;

    /* GOVERNANCE */

    /// @notice Whether new submissions are halted.
    function paused() external view returns (bool);

    /// @notice Halts new submissions. Guardian only.
    function pause() external;

    /// @notice Lets submissions in again. Governance only.
    function unpause() external;
}
