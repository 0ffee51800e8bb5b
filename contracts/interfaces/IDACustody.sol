// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @notice Which pieces are asked for: sub-lines [fromSubline, toSubline) of one row.
struct CustodyRequest {
    bytes32 dataRoot;
    uint64 epoch;
    uint64 quorumId;
    uint32 row;
    uint32 fromSubline;
    uint32 toSubline;
}

/// @notice A request that is open.
struct CustodyChallenge {
    address reader;
    /// The last block in which the signer may answer.
    uint64 deadlineBlock;
    uint32 fromSubline;
    address signer;
    uint32 toSubline;
    uint32 row;
    uint32 rowBytes;
    bytes32 rowRoot;
    uint128 bondWei;
    /// What the signer loses when it does not answer, as it was when the request was made.
    uint128 penaltyWei;
}

/// @title The custody game
/// @notice Whoever cannot get a row from the signer that signed for it asks for it here, with a bond that pays for the
/// answer. The signer answers on chain, for all to read, and gets the bond. When it does not answer in time it loses
/// stake: the reader gets the bond back and 30 % of the penalty; 70 % is burnt, so that a signer gains nothing by
/// asking itself before others do.
interface IDACustody {
    event CustodyChallenged(
        bytes32 indexed id,
        address indexed signer,
        address indexed reader,
        CustodyRequest request,
        uint256 deadlineBlock,
        uint256 bondWei
    );
    event CustodyAnswered(bytes32 indexed id, address indexed signer);
    event CustodyFailed(bytes32 indexed id, address indexed signer, address indexed reader, uint256 slashedWei);
    event CustodyTermsChanged(uint256 answerBlocks, uint256 bondPerSubline, uint256 penaltyWei);
    event Withdrawn(address indexed payee, uint256 amount);

    error BlobNotConfirmed(bytes32 dataRoot, uint256 epoch, uint256 quorumId);
    error BlobExpired(bytes32 dataRoot, uint256 expiryEpoch);
    error RowNotSigned(uint256 row, address signer);
    error SublinesOutOfBounds(uint256 from, uint256 to, uint256 count);
    error BondTooLow(uint256 paidWei, uint256 bondWei);
    /// @notice The same request is open.
    error ChallengeOpen(bytes32 id);
    /// @notice The signer has as many open requests as it must answer at a time.
    error SignerBusy(address signer, uint256 max);
    error ChallengeUnknown(bytes32 id);
    error AnswerLate(bytes32 id, uint256 deadlineBlock);
    error AnswerStillPossible(bytes32 id, uint256 deadlineBlock);
    error AnswerWrong(bytes32 id, uint256 subline);
    error AnswerLength(uint256 sublines, uint256 wanted);
    error NothingDue(address payee);
    error PaymentRefused(address payee, uint256 amount);
    error TermsOutOfBounds(string field, uint256 value, uint256 min, uint256 max);
    error DirectDeposit(address sender);

    /// @notice Asks for pieces of a row of a confirmed blob. Overpayment of the bond is returned to be drawn.
    function challengeCustody(CustodyRequest calldata request) external payable returns (bytes32 id);

    /// @notice Answers with the pieces in order, each with its path (from the piece to the row, then to the row root).
    /// Anybody may answer; the signer gets the bond.
    function answerCustody(bytes32 id, bytes[] calldata sublines, bytes32[][] calldata proofs) external;

    /// @notice Ends a request that was not answered in time: the signer is slashed.
    function expireCustody(bytes32 id) external;

    /// @notice Pays what is due to `payee`.
    function withdrawPayments(address payable payee) external;

    /// @notice An open request; all zero when there is none.
    function challengeOf(bytes32 id) external view returns (CustodyChallenge memory);

    /// @notice The id of a request.
    function challengeId(CustodyRequest calldata request) external pure returns (bytes32);

    /// @notice Requests that a signer has yet to answer.
    function openChallenges(address signer) external view returns (uint256);

    /// @notice What is due to an account, wei.
    function payments(address payee) external view returns (uint256);

    /// @notice Blocks a signer has to answer, bond per piece (wei), and what not answering costs (wei).
    function terms() external view returns (uint256 answerBlocks, uint256 bondPerSubline, uint256 penaltyWei);

    /// @notice The contract that knows the signers.
    function signers() external view returns (address);

    /// @notice The contract that knows the blobs.
    function entrance() external view returns (address);

    /// @notice Sets the terms of later requests. Governance only, within bounds.
    function setTerms(uint256 answerBlocks, uint256 bondPerSubline, uint256 penaltyWei) external;
}
