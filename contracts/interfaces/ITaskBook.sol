// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

// solhint-disable gas-struct-packing

/// @notice What user and provider agree on for one task: at most `maxFee` wei, delivered by `deliverBy` (seconds).
struct TaskTerms {
    address user;
    string id;
    uint256 maxFee;
    uint64 deliverBy;
}

/// @title Fine-tuning on terms: a highest fee and a deadline
/// @notice A user may sign terms for a task. When the provider opens the task with them, the fee is held in the
/// sub-account: neither refunds nor other charges touch it, and the task can cost no more. If nothing is delivered by
/// the deadline, or nothing is settled within the lock time after it, anyone may call `expireTask`: what was held
/// returns to the user's ledger at once. The book holds no money. Amounts in wei, times in seconds.
///
/// Terms: EIP-712, domain {name "Weightless Fine-Tuning", version "1", chainId, verifyingContract: this book}, type
/// `TaskTerms(address user,address provider,string id,uint256 maxFee,uint64 deliverBy)`; a signature of 65 bytes
/// (r, s, v), or 64 (EIP-2098), or what the user's contract accepts (EIP-1271).
interface ITaskBook {
    /* EVENTS */

    /// @notice A task was opened on terms that the user signed; `maxFee` is held.
    event TaskOpened(address indexed user, address indexed provider, string id, uint256 maxFee, uint64 deliverBy);
    /// @notice What was held for a task is free again.
    event TaskClosed(address indexed user, address indexed provider, bytes32 indexed idHash);
    /// @notice A task missed its deadline; what was held is back in the user's ledger.
    event TaskExpired(address indexed user, address indexed provider, string id, uint256 returned);

    /* ERRORS */

    /// @notice Only the fine-tuning contract may say so.
    error CallerNotServing(address caller);
    /// @notice A task's id has 1 to 256 bytes.
    error TaskIdInvalidLength(uint256 length);
    /// @notice The user's signature does not fit the terms.
    error TermsSignatureInvalid(address user);
    /// @notice The terms' deadline is over, or lies beyond 90 days.
    error TermsDeadlineInvalid(uint256 deliverBy);
    /// @notice Less is free in the sub-account than the terms hold.
    error TermsNotCovered(uint256 free, uint256 maxFee);
    /// @notice The terms held nothing.
    error TermsWithoutFee();
    /// @notice The task was opened before.
    error TaskExists(string id);
    /// @notice Nothing is held for the task, or it is not past its time yet.
    error TaskNotExpired(string id, uint256 from);
    /// @notice The fee is above what the user agreed to.
    error FeeAboveTerms(uint256 fee, uint256 maxFee);
    /// @notice What was delivered late is paid for only if the user acknowledged it.
    error DeliveredLate(uint256 deliveredAt, uint256 deliverBy);

    /* TASKS */

    /// @notice Opens a task on terms that its user signed. Called by the provider they name.
    function openTask(TaskTerms calldata terms, bytes calldata signature) external;

    /// @notice Returns what is held for a task that missed its deadline. Anyone may call.
    function expireTask(address user, address provider, string calldata id) external;

    /// @notice What was agreed on for a task, and what of it is held now; all zero if it was not opened.
    function taskOf(
        address user,
        address provider,
        string calldata id
    ) external view returns (uint256 maxFee, uint256 held, uint64 deliverBy);

    /// @notice What is held of a sub-account's balance for open tasks.
    function heldOf(address user, address provider) external view returns (uint256);

    /* FINE-TUNING CONTRACT */

    /// @notice Ends what is held for a task, if there is any, and judges the charge against the terms.
    /// @param fee What the signer asks for.
    /// @param deliveredAt When the deliverable was added.
    /// @param acknowledged Whether the user acknowledged it.
    /// @return agreed Whether there are terms.
    function settle(
        address user,
        address provider,
        bytes32 idHash,
        uint256 fee,
        uint256 deliveredAt,
        bool acknowledged
    ) external returns (bool agreed);

    /// @notice Ends what is held for a task that the provider abandons.
    function abandon(address user, address provider, bytes32 idHash) external;
}
