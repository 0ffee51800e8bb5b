// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

// solhint-disable gas-small-strings

import { IFineTuningServing } from "../interfaces/IFineTuningServing.sol";
import { ITaskBook, TaskTerms } from "../interfaces/ITaskBook.sol";
import { Signatures } from "./Signatures.sol";

/// @title TaskBook
/// @notice See {ITaskBook}.
contract TaskBook is ITaskBook {
    /* TYPES */

    /// @dev Never removed, so that terms open one task only. Two words.
    struct Task {
        uint128 maxFee;
        uint128 held;
        uint64 deliverBy;
        /// From when on what is held returns although it was delivered.
        uint64 settleBy;
    }

    /* CONSTANTS AND IMMUTABLES */

    uint256 private constant _MAX_ID = 256;
    uint256 private constant _MAX_TERM = 90 days;

    bytes32 private constant _DOMAIN_NAME = keccak256("Weightless Fine-Tuning");
    bytes32 private constant _TERMS_TYPE =
        keccak256("TaskTerms(address user,address provider,string id,uint256 maxFee,uint64 deliverBy)");

    /// @notice {FineTuningServing}, where the money is.
    address public immutable serving;

    /* STORAGE */

    mapping(address provider => mapping(address user => mapping(bytes32 idHash => Task))) private _tasks;
    mapping(address provider => mapping(address user => uint256)) private _held;

    /// @param serving_ {FineTuningServing}, may be deployed later at this address.
    constructor(address serving_) {
        serving = serving_;
    }

    modifier onlyServing() {
        if (msg.sender != serving) revert CallerNotServing(msg.sender);
        _;
    }

    /* TASKS */

    /// @inheritdoc ITaskBook
    function openTask(TaskTerms calldata terms, bytes calldata signature) external {
        address user = terms.user;
        uint256 length = bytes(terms.id).length;
        if (length == 0 || length > _MAX_ID) revert TaskIdInvalidLength(length);
        if (terms.maxFee == 0) revert TermsWithoutFee();
        if (terms.deliverBy <= block.timestamp || terms.deliverBy > block.timestamp + _MAX_TERM) {
            revert TermsDeadlineInvalid(terms.deliverBy);
        }
        bytes32 idHash = keccak256(bytes(terms.id));
        bytes32 message = keccak256(
            abi.encode(_TERMS_TYPE, user, msg.sender, idHash, terms.maxFee, terms.deliverBy)
        );
        bytes32 digest = Signatures.digest(Signatures.domain(_DOMAIN_NAME), message);
        if (!Signatures.isSignedBy(digest, signature, user)) revert TermsSignatureInvalid(user);
        Task storage task = _tasks[msg.sender][user][idHash];
        if (task.deliverBy != 0) revert TaskExists(terms.id);
        uint256 free = IFineTuningServing(serving).freeBalance(user, msg.sender);
        if (terms.maxFee > free) revert TermsNotCovered(free, terms.maxFee);

        // At most a balance, which has 96 bits.
        (task.maxFee, task.held) = (uint128(terms.maxFee), uint128(terms.maxFee));
        task.deliverBy = terms.deliverBy;
        task.settleBy = uint64(terms.deliverBy + IFineTuningServing(serving).lockTime());
        _held[msg.sender][user] += terms.maxFee;
        emit TaskOpened(user, msg.sender, terms.id, terms.maxFee, terms.deliverBy);
    }

    /// @inheritdoc ITaskBook
    function expireTask(address user, address provider, string calldata id) external {
        bytes32 idHash = keccak256(bytes(id));
        Task storage task = _tasks[provider][user][idHash];
        uint256 deliveredAt = IFineTuningServing(serving).deliveredAt(user, provider, id);
        bool inTime = deliveredAt != 0 && deliveredAt <= task.deliverBy;
        uint256 from = inTime ? task.settleBy : task.deliverBy;
        uint256 held = task.held;
        if (held == 0 || block.timestamp <= from) revert TaskNotExpired(id, from);
        _release(user, provider, idHash);
        emit TaskExpired(user, provider, id, held);
        IFineTuningServing(serving).returnHeld(user, provider, held);
    }

    /// @inheritdoc ITaskBook
    function taskOf(
        address user,
        address provider,
        string calldata id
    ) external view returns (uint256 maxFee, uint256 held, uint64 deliverBy) {
        Task storage task = _tasks[provider][user][keccak256(bytes(id))];
        return (task.maxFee, task.held, task.deliverBy);
    }

    /// @inheritdoc ITaskBook
    function heldOf(address user, address provider) external view returns (uint256) {
        return _held[provider][user];
    }

    /* FINE-TUNING CONTRACT */

    /// @inheritdoc ITaskBook
    function settle(
        address user,
        address provider,
        bytes32 idHash,
        uint256 fee,
        uint256 deliveredAt,
        bool acknowledged
    ) external onlyServing returns (bool agreed) {
        Task storage task = _tasks[provider][user][idHash];
        uint256 deliverBy = task.deliverBy;
        if (deliverBy == 0) return false;
        if (fee > task.maxFee) revert FeeAboveTerms(fee, task.maxFee);
        if (deliveredAt > deliverBy && !acknowledged) revert DeliveredLate(deliveredAt, deliverBy);
        _release(user, provider, idHash);
        return true;
    }

    /// @inheritdoc ITaskBook
    function abandon(address user, address provider, bytes32 idHash) external onlyServing {
        _release(user, provider, idHash);
    }

    /* INTERNAL */

    function _release(address user, address provider, bytes32 idHash) private {
        Task storage task = _tasks[provider][user][idHash];
        uint256 held = task.held;
        if (held == 0) return;
        task.held = 0;
        _held[provider][user] -= held;
        emit TaskClosed(user, provider, idHash);
    }
}
