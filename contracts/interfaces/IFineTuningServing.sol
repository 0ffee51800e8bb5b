// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

// solhint-disable gas-struct-packing

import { IStakedService } from "./IStakedService.sol";
import { IServingAccounts } from "./IServingAccounts.sol";
import { ISignerApproval } from "./ISignerApproval.sol";

/// @notice The machine behind a service.
struct Quota {
    uint256 cpuCount;
    uint256 nodeMemory;
    uint256 gpuCount;
    uint256 nodeStorage;
    string gpuType;
}

/// @notice What a provider offers. The price in wei per token.
struct FineTuningService {
    address provider;
    string url;
    Quota quota;
    uint256 pricePerToken;
    bool occupied;
    string[] models;
    address teeSignerAddress;
    bool teeSignerAcknowledged;
}

/// @notice A pending refund.
struct FineTuningRefund {
    uint256 index;
    uint256 amount;
    uint256 createdAt;
    bool processed;
}

/// @notice A model that a provider made for a user. `timestamp`: when it was added, in seconds.
struct Deliverable {
    string id;
    bytes modelRootHash;
    bytes encryptedSecret;
    bool acknowledged;
    uint248 timestamp;
    bool settled;
}

/// @notice A sub-account with its deliverables, oldest first.
struct FineTuningAccount {
    address user;
    address provider;
    uint256 nonce;
    uint256 balance;
    uint256 pendingRefund;
    FineTuningRefund[] refunds;
    string additionalInfo;
    Deliverable[] deliverables;
    uint256 validRefundsLength;
    uint256 deliverablesHead;
    uint256 deliverablesCount;
    bool acknowledged;
}

/// @notice A sub-account without what is long.
struct FineTuningAccountSummary {
    address user;
    address provider;
    uint256 nonce;
    uint256 balance;
    uint256 pendingRefund;
    string additionalInfo;
    uint256 validRefundsLength;
    uint256 deliverablesCount;
    bool acknowledged;
}

/// @notice A charge signed by the provider's approved signer; see settleFees.
struct VerifierInput {
    string id;
    bytes encryptedSecret;
    bytes modelRootHash;
    uint256 nonce;
    bytes signature;
    uint256 taskFee;
    address user;
}

/// @title Fine-tuning: services, sub-accounts, deliverables and what providers charge
/// @notice Amounts in wei, times in seconds.
///
/// A provider adds a deliverable (the root of an encrypted model), the user acknowledges that it has it, the provider
/// settles: it is paid and the key is stored for the user. Without acknowledgement the provider settles for a part of
/// the fee and keeps the key. A settled deliverable, acknowledged or not, makes way for the next.
///
/// A user can bound fee and time of a task with terms; see {ITaskBook}.
///
/// **Signed fee**: domain {name "0G Fine-Tuning Serving", version "1", ...}, type `VerifierMessage(string id,bytes
/// encryptedSecret,bytes modelRootHash,uint256 nonce,uint256 taskFee,address user)`. The message does not name the
/// provider, so a signer, once approved for a provider, belongs to it for good: no other provider's service can have
/// it approved, and no message can be replayed from one provider to another.
interface IFineTuningServing is IServingAccounts, IStakedService, ISignerApproval {
    /* EVENTS */

    event DeliverableAbandoned(
        address indexed user,
        address indexed provider,
        string deliverableId,
        uint256 timestamp
    );
    event DeliverableAcknowledged(
        address indexed user,
        address indexed provider,
        string deliverableId,
        uint256 timestamp
    );
    event DeliverableAdded(
        address indexed user,
        address indexed provider,
        string deliverableId,
        bytes modelRootHash,
        uint256 timestamp
    );
    event DeliverableEvicted(
        address indexed provider,
        address indexed user,
        string evictedDeliverableId,
        string newDeliverableId,
        uint256 timestamp
    );
    event FeesSettled(
        address indexed user,
        address indexed provider,
        string deliverableId,
        uint256 fee,
        bool acknowledged,
        uint256 nonce
    );
    event ServiceRemoved(address indexed provider);
    event ServiceUpdated(
        address indexed provider,
        string url,
        Quota quota,
        uint256 pricePerToken,
        address teeSignerAddress,
        bool occupied
    );
    /// @notice Governance changed what an unacknowledged deliverable pays.
    event PenaltyPercentageUpdated(uint256 before, uint256 percentage);

    /* ERRORS */

    error BatchSizeTooLarge(uint256 size, uint256 maxSize);
    error CallerNotLedger();
    error CannotAbandonSettledDeliverable(string id);
    error CannotAcknowledgeSettledDeliverable(string id);
    error CannotEvictUnsettledDeliverable(string id);
    error DeliverableAlreadyExists(string id);
    error DeliverableAlreadySettled(string id);
    error DeliverableIdInvalidLength(uint256 length);
    error DeliverableNotExists(string id);
    error ETHTransferFailed();
    error InvalidLedgerAddress();
    error InvalidVerifierInput(string reason);
    error LimitTooLarge(uint256 limit);
    error LockTimeOutOfRange(uint256 lockTime);
    error PenaltyPercentageTooHigh(uint256 percentage);
    error PreviousDeliverableNotAcknowledged(string id);
    error SecretShouldBeEmpty();
    error SecretShouldNotBeEmpty();
    /// @notice The signer belongs to another provider.
    error SignerBound(address signer, address provider);
    /// @notice Only the book of tasks may ask.
    error CallerNotTaskBook(address caller);
    error TransferToLedgerFailed();

    /* SERVICES */

    /// @notice Registers or changes the caller's service. A new one bonds the value sent, at least
    /// MIN_PROVIDER_STAKE; a change takes no value. A change of signer ends the approval.
    function addOrUpdateService(
        string calldata url,
        Quota calldata quota,
        uint256 pricePerToken,
        bool occupied,
        string[] calldata models,
        address teeSignerAddress
    ) external payable;

    /// @notice Ends the caller's service. Its stake begins to unbond.
    function removeService() external;

    function getService(address provider) external view returns (FineTuningService memory service);

    function getAllServices() external view returns (FineTuningService[] memory services);

    /* TASKS */

    /// @notice Where users and providers agree on terms.
    function taskBook() external view returns (address);

    /// @notice What of a sub-account's balance is neither pending as a refund nor held for a task.
    function freeBalance(address user, address provider) external view returns (uint256);

    /// @notice When a deliverable was added, in seconds; 0 if it is not there.
    function deliveredAt(address user, address provider, string calldata id) external view returns (uint256);

    /// @notice Returns what was held for an expired task to the user's ledger. The book of tasks only.
    function returnHeld(address user, address provider, uint256 amount) external;

    /* DELIVERABLES */

    /// @notice Adds a deliverable for a user of the caller. The one before must be acknowledged or settled. At most 20
    /// are kept; the oldest gives way if it is settled.
    function addDeliverable(address user, string calldata id, bytes calldata modelRootHash) external;

    /// @notice The caller has the deliverable.
    function acknowledgeDeliverable(address provider, string calldata id) external;

    /// @notice The caller, a provider, gives up its claim to a fee for a deliverable; it counts as settled.
    function abandonDeliverable(address user, string calldata id) external;

    function getDeliverable(
        address user,
        address provider,
        string calldata id
    ) external view returns (Deliverable memory);

    /// @notice Oldest first.
    function getDeliverables(address user, address provider) external view returns (Deliverable[] memory);

    /* CHARGING */

    /// @notice Settles a deliverable of the caller: all of the fee and the key if the user acknowledged it, else
    /// `penaltyPercentage` of the fee and no key.
    function settleFees(VerifierInput calldata verifierInput) external;

    /// @notice What an unacknowledged deliverable pays, in per cent of its fee.
    function penaltyPercentage() external view returns (uint256);

    /* VIEWS */

    function getAccount(address user, address provider) external view returns (FineTuningAccount memory);

    function getAccountsByProvider(
        address provider,
        uint256 offset,
        uint256 limit
    ) external view returns (FineTuningAccountSummary[] memory accounts, uint256 total);

    function getAccountsByUser(
        address user,
        uint256 offset,
        uint256 limit
    ) external view returns (FineTuningAccountSummary[] memory accounts, uint256 total);

    function getAllAccounts(
        uint256 offset,
        uint256 limit
    ) external view returns (FineTuningAccountSummary[] memory accounts, uint256 total);

    /// @notice The users' sub-accounts with the caller; all zero where there is none.
    function getBatchAccountsByUsers(
        address[] calldata users
    ) external view returns (FineTuningAccountSummary[] memory accounts);

    /* GOVERNANCE */

    /// @notice Sets what unacknowledged deliverables pay: 0..100 per cent.
    function updatePenaltyPercentage(uint256 percentage) external;
}
