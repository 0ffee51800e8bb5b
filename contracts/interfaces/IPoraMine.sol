// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import { MineContext } from "./IFlow.sol";

/// @notice What a miner mines: sectors [startPosition, startPosition + mineLength), and of them the load chunks (1024
/// sectors) whose index agrees with `shardId` in the bits that `shardMask` clears.
struct RecallRange {
    uint256 startPosition;
    uint256 mineLength;
    uint64 shardId;
    uint64 shardMask;
}

/// @notice One proof of random access.
struct PoraAnswer {
    bytes32 contextDigest;
    bytes32 nonce;
    bytes32 minerId;
    RecallRange range;
    /// First sector of the seal (16 sectors) that was hit.
    uint256 recallPosition;
    /// Its number in its load chunk, 0 .. 63.
    uint256 sealOffset;
    /// Digest of the context it is sealed with: that of the epoch in which its last sector was added.
    bytes32 sealedContextDigest;
    bytes32[128] sealedData;
    /// Siblings from the seal's subtree up to the flow root.
    bytes32[] merkleProof;
}

/// @notice What a miner needs to start. Outside its window `poraTarget` and `subtaskDigest` are 0.
struct WorkerContext {
    MineContext context;
    uint256 poraTarget;
    bytes32 subtaskDigest;
    uint64 maxShards;
}

/// @notice The parameters of mining. Times in blocks.
struct MineParameters {
    /// Attempts that an answer takes on average, at the beginning. 1 or more.
    uint256 difficulty;
    /// Difficulty never falls below this. 0: no floor.
    uint256 minDifficulty;
    /// How long a miner may answer from the start of its window: 1 .. 8191.
    uint256 targetMineBlocks;
    /// Answers per epoch that the difficulty aims at: 1 .. 65535. Twice as many are accepted.
    uint256 targetSubmissions;
    /// Into how many parts a miner may split its range: a power of two, at most 2^31.
    uint64 maxShards;
    /// Windows per epoch: 1 .. 65535.
    uint256 nSubtasks;
    /// From the start of one window to the next: 1 .. 2^32 - 1.
    uint256 subtaskInterval;
    /// How slowly difficulty follows the answers, 1 .. 32767.
    uint256 difficultyAdjustRatio;
}

/// @title Mining: proofs of random access (PoRA) over the stored data
/// @notice In each epoch a miner draws nonces. A nonce gives a scratchpad and, from it, one load chunk (256 KiB) to
/// read; each seal (4 KiB) of it, mixed with the scratchpad, hashes to a number, and a number below the target wins.
/// The answer shows the sealed bytes, so that anyone can unseal them, prove them against the flow root of the epoch,
/// and repeat the hash. The reward goes to the beneficiary of the miner's id, whoever sends the answer.
///
/// Windows: the id and the context give one of `nSubtasks` windows, starting at
/// `mineStart + index * subtaskInterval`. Windows must fit the epoch:
/// `(nSubtasks - 1) * subtaskInterval + targetMineBlocks + 1 < blocksPerEpoch`.
///
/// Target: `2^256 / difficulty`, made easier in proportion for a miner that splits its range.
///
/// Difficulty: after an epoch with `n` answers the target moves a `1 / difficultyAdjustRatio`-th of the way to
/// `target * targetSubmissions / n`, at most by a factor of two; each epoch without any answer doubles it. After
/// doublings it goes all of that way where an epoch had more answers than aimed at, once for each doubling.
interface IPoraMine {
    /* EVENTS */

    /// @notice An answer was accepted: number `epochIndex` of its epoch.
    event NewSubmission(uint256 indexed epoch, bytes32 indexed minerId, uint256 epochIndex, uint256 recallPosition);
    /// @notice A miner's id was given out.
    event NewMinerId(bytes32 indexed minerId, address indexed beneficiary);
    /// @notice A miner's rewards go to somebody else from now on.
    event UpdateMinerId(bytes32 indexed minerId, address indexed from, address indexed to);
    /// @notice A parameter changed, some of them from the next mined epoch on.
    event ParameterChanged(bytes32 indexed name, uint256 value);

    /* ERRORS: IDENTITIES */

    /// @notice The id is zero.
    error MinerIdMissing();
    /// @notice Nobody registered this id.
    error MinerIdUnknown(bytes32 minerId);
    /// @notice This id was given out already.
    error MinerIdTaken(bytes32 minerId);
    /// @notice Only the beneficiary may hand an id on.
    error CallerIsNotBeneficiary(bytes32 minerId, address caller);
    /// @notice Rewards must go to somebody.
    error BeneficiaryMissing();
    /// @notice {computeWorkerContext} is for eth_call from the address 0xA or zero.
    error CallerIsNotWorker(address caller);

    /* ERRORS: WINDOWS */

    /// @notice The miner's window starts after block `start`.
    error WindowNotOpen(uint256 start, uint256 blockNumber);
    /// @notice The miner's window ended with block `end`.
    error WindowClosed(uint256 end, uint256 blockNumber);
    /// @notice The hash of the block at the window's start cannot be read.
    error BlockHashUnavailable(uint256 blockNumber);
    /// @notice The answer is for another context than the one that is mined.
    error ContextMismatch(bytes32 answered, bytes32 mined);
    /// @notice The context of this epoch cannot be mined.
    error ContextNotMinable();
    /// @notice The epoch has all the answers it takes.
    error EpochFull(uint256 submissions);

    /* ERRORS: ANSWERS */

    /// @notice The range starts off a pricing chunk (2^25 sectors).
    error RangeNotAligned(uint256 startPosition);
    /// @notice The range must be `mineLength` sectors long and end inside the flow.
    error RangeMismatch(uint256 startPosition, uint256 mineLength, uint256 expectedLength, uint256 flowLength);
    /// @notice Too little data to mine.
    error FlowTooShort(uint256 flowLength);
    /// @notice The shard id sets bits that the mask says are not its own.
    error ShardIdMasked(uint64 shardId, uint64 shardMask);
    /// @notice The range is split into more parts than allowed.
    error TooManyShards(uint256 shards, uint256 max);
    /// @notice A load chunk has 64 seals.
    error SealOffsetTooHigh(uint256 sealOffset);
    /// @notice The seal is not sealed with the context of the epoch in which its data was added.
    error SealContextMismatch(bytes32 sealedContextDigest, uint256 recallPosition);
    /// @notice The nonce draws a load chunk behind the range.
    error RecallOutOfRange(uint256 chunk, uint256 chunks);
    /// @notice The nonce draws another position.
    error RecallMismatch(uint256 recallPosition, uint256 drawn);
    /// @notice The proof must have one sibling for each level above the seal.
    error ProofLengthMismatch(uint256 length, uint256 expected);
    /// @notice The data is not what the flow holds there.
    error FlowRootMismatch(bytes32 computed, bytes32 flowRoot);
    /// @notice The hash is not below the target.
    error QualityTooLow(uint256 quality, uint256 target);
    /// @notice The answer was accepted before.
    error AnswerUsed(bytes32 quality);

    /* ERRORS: PARAMETERS */

    /// @notice A parameter is outside its bounds.
    error ParameterOutOfBounds(bytes32 name, uint256 value, uint256 min, uint256 max);
    /// @notice `maxShards` is not a power of two.
    error NotPowerOfTwo(uint256 value);
    /// @notice The windows do not fit the epoch.
    error WindowsTooLong(uint256 blocks, uint256 blocksPerEpoch);
    /// @notice The contracts do not name each other.
    error NotWired(address counterpart);

    /* MINERS */

    /// @notice Gives out an id for the caller's mining; `keccak256(parent block hash || caller || seed)`. Free.
    function requestMinerId(address beneficiary, uint64 seed) external;

    /// @notice Sends the rewards of an id to somebody else from now on. Its beneficiary only.
    function transferBeneficial(address to, bytes32 minerId) external;

    /// @notice Who receives the rewards of an id.
    function beneficiaries(bytes32 minerId) external view returns (address);

    /// @notice Checks an answer and credits its reward to the beneficiary of its id. Anyone may send it.
    function submit(PoraAnswer calldata answer) external;

    /// @notice What the id is to mine now. For eth_call from the address 0xA or zero.
    function computeWorkerContext(bytes32 minerId) external returns (WorkerContext memory);

    /// @notice Whether the epoch takes more answers. For eth_call.
    function canSubmit() external returns (bool);

    /// @notice The digest that the id mines with in its window. Reverts outside of it.
    function getSubtaskDigest(MineContext calldata context, bytes32 minerId) external view returns (bytes32);

    /// @notice The number that an answer hashes to, with the position it draws checked.
    function pora(PoraAnswer calldata answer, bytes32 subtaskDigest) external view returns (bytes32);

    /// @notice The flow root that an answer's data and proof lead to.
    function flowRootOf(PoraAnswer calldata answer) external view returns (bytes32);

    /// @notice Checks the range, shards and epoch of an answer; not its data.
    function basicCheck(PoraAnswer calldata answer, MineContext calldata context) external view;

    /* STATE */

    /// @notice Version of the rules that miners must know: 1.
    function poraVersion() external view returns (uint64);
    /// @notice The caller that {computeWorkerContext} expects.
    function computeWorkerContextCaller() external view returns (address);
    /// @notice The flow whose data is mined.
    function flow() external view returns (address);
    /// @notice The contract that pays.
    function reward() external view returns (address);
    /// @notice Below this an answer wins, for a range that is not split.
    function poraTarget() external view returns (uint256);
    /// @notice Epoch of the last accepted answer.
    function lastMinedEpoch() external view returns (uint256);
    /// @notice Answers accepted in that epoch.
    function currentSubmissions() external view returns (uint256);
    /// @notice See {MineParameters}.
    function targetMineBlocks() external view returns (uint256);
    /// @notice See {MineParameters}.
    function targetSubmissions() external view returns (uint256);
    /// @notice What {targetSubmissions} is from the next mined epoch on.
    function targetSubmissionsNextEpoch() external view returns (uint256);
    /// @notice See {MineParameters}.
    function difficultyAdjustRatio() external view returns (uint256);
    /// @notice See {MineParameters}.
    function maxShards() external view returns (uint64);
    /// @notice See {MineParameters}.
    function minDifficulty() external view returns (uint256);
    /// @notice See {MineParameters}.
    function nSubtasks() external view returns (uint256);
    /// @notice What {nSubtasks} is from the next mined epoch on.
    function nSubtasksNextEpoch() external view returns (uint256);
    /// @notice See {MineParameters}.
    function subtaskInterval() external view returns (uint256);
    /// @notice What {subtaskInterval} is from the next mined epoch on.
    function subtaskIntervalNextEpoch() external view returns (uint256);
    /// @notice Always true: seals are checked.
    function sealDataEnabled() external view returns (bool);
    /// @notice Always true: data is proven against the flow root.
    function dataProofEnabled() external view returns (bool);
    /// @notice Always false: difficulty follows the answers.
    function fixedDifficulty() external view returns (bool);

    /* GOVERNANCE */

    /// @notice Sets the length of the windows, at once. Governance only, like all of the following.
    function setTargetMineBlocks(uint256 blocks) external;
    /// @notice Sets the answers per epoch, from the next mined epoch on.
    function setTargetSubmissions(uint256 submissions) external;
    /// @notice Sets how slowly difficulty moves, at once.
    function setDifficultyAdjustRatio(uint256 ratio) external;
    /// @notice Sets into how many parts ranges may be split, at once.
    function setMaxShards(uint64 shards) external;
    /// @notice Sets the floor of the difficulty, at once.
    function setMinDifficulty(uint256 difficulty) external;
    /// @notice Sets the number of windows, from the next mined epoch on.
    function setNumSubtasks(uint256 count) external;
    /// @notice Sets the distance of windows, from the next mined epoch on.
    function setSubtaskInterval(uint256 blocks) external;
}
