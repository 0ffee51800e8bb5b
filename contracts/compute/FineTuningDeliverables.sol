// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import { Deliverable, IFineTuningServing } from "../interfaces/IFineTuningServing.sol";
import { ILedgerManager } from "../interfaces/ILedgerManager.sol";
import { ITaskBook } from "../interfaces/ITaskBook.sol";
import { AccountWord } from "./AccountWord.sol";
import { Deliverables } from "./Deliverables.sol";
import { FineTuningServices } from "./FineTuningServices.sol";

/// @title FineTuningDeliverables
/// @notice What providers deliver; see {IFineTuningServing}.
abstract contract FineTuningDeliverables is FineTuningServices {
    using Deliverables for Deliverables.Ring;

    /* CONSTANTS AND IMMUTABLES */

    uint256 private constant _MAX_ID = 256;

    /// @inheritdoc IFineTuningServing
    address public immutable taskBook;

    /* STORAGE */

    /// @inheritdoc IFineTuningServing
    uint256 public penaltyPercentage;

    /// @dev A sub-account that is removed and opened again begins with an empty ring.
    mapping(address provider => mapping(address user => mapping(uint256 generation => Deliverables.Ring)))
        private _rings;

    constructor(address taskBook_) {
        taskBook = taskBook_;
    }

    /* TASKS */

    /// @inheritdoc IFineTuningServing
    function freeBalance(address user, address provider) external view returns (uint256) {
        Account storage account = _existing(user, provider);
        AccountWord word = account.word;
        return word.balance() - _pendingSum(account, word) - _held(user, provider);
    }

    /// @inheritdoc IFineTuningServing
    function deliveredAt(address user, address provider, string calldata id) external view returns (uint256) {
        (bool found, Deliverables.Item storage item) = _ring(user, provider).find(keccak256(bytes(id)));
        return found ? item.timestamp : 0;
    }

    /// @inheritdoc IFineTuningServing
    function returnHeld(address user, address provider, uint256 amount) external nonReentrant {
        if (msg.sender != taskBook) revert CallerNotTaskBook(msg.sender);
        AccountWord word = _existing(user, provider).word;
        _store(user, provider, word.withBalance(word.balance() - amount));
        ILedgerManager(ledgerAddress).returnFund{ value: amount }(user);
    }

    /* DELIVERABLES */

    /// @inheritdoc IFineTuningServing
    function addDeliverable(address user, string calldata id, bytes calldata modelRootHash) external {
        _checkId(id);
        _existing(user, msg.sender);
        Deliverables.Ring storage ring = _ring(user, msg.sender);
        (bool found, ) = ring.find(keccak256(bytes(id)));
        if (found) revert DeliverableAlreadyExists(id);
        (bool any, Deliverables.Item storage newest) = ring.newest();
        // A settled deliverable is done with, whether the user acknowledged it or not.
        if (any && !newest.acknowledged && !newest.settled) revert PreviousDeliverableNotAcknowledged(newest.id);
        (bool full, Deliverables.Item storage oldest) = ring.oldest();
        if (full) {
            string memory evicted = oldest.id;
            if (!oldest.settled) revert CannotEvictUnsettledDeliverable(evicted);
            ring.evict();
            emit DeliverableEvicted(msg.sender, user, evicted, id, block.timestamp);
        }
        // At most 100.
        ring.add(id, modelRootHash, uint8(penaltyPercentage));
        emit DeliverableAdded(user, msg.sender, id, modelRootHash, block.timestamp);
    }

    /// @inheritdoc IFineTuningServing
    function acknowledgeDeliverable(address provider, string calldata id) external {
        Deliverables.Item storage item = _deliverable(msg.sender, provider, id);
        if (item.settled) revert CannotAcknowledgeSettledDeliverable(id);
        if (item.acknowledged) return;
        item.acknowledged = true;
        emit DeliverableAcknowledged(msg.sender, provider, id, block.timestamp);
    }

    /// @inheritdoc IFineTuningServing
    function abandonDeliverable(address user, string calldata id) external {
        Deliverables.Item storage item = _deliverable(user, msg.sender, id);
        if (item.settled) revert CannotAbandonSettledDeliverable(id);
        item.settled = true;
        ITaskBook(taskBook).abandon(user, msg.sender, keccak256(bytes(id)));
        emit DeliverableAbandoned(user, msg.sender, id, block.timestamp);
    }

    /// @inheritdoc IFineTuningServing
    function getDeliverable(
        address user,
        address provider,
        string calldata id
    ) external view returns (Deliverable memory) {
        return Deliverables.show(_deliverable(user, provider, id));
    }

    /// @inheritdoc IFineTuningServing
    function getDeliverables(address user, address provider) external view returns (Deliverable[] memory) {
        _existing(user, provider);
        return _ring(user, provider).list();
    }

    /* GOVERNANCE */

    /// @inheritdoc IFineTuningServing
    function updatePenaltyPercentage(uint256 percentage) external restricted {
        emit PenaltyPercentageUpdated(penaltyPercentage, percentage);
        _setPenalty(percentage);
    }

    /* INTERNAL */

    function _setPenalty(uint256 percentage) internal {
        if (percentage > 100) revert PenaltyPercentageTooHigh(percentage);
        penaltyPercentage = percentage;
    }

    function _deliverable(
        address user,
        address provider,
        string calldata id
    ) internal view returns (Deliverables.Item storage item) {
        bool found;
        (found, item) = _ring(user, provider).find(keccak256(bytes(id)));
        if (!found) revert DeliverableNotExists(id);
    }

    function _ring(address user, address provider) internal view returns (Deliverables.Ring storage) {
        return _rings[provider][user][_accounts[provider][user].word.generation()];
    }

    function _held(address user, address provider) internal view override returns (uint256) {
        return ITaskBook(taskBook).heldOf(user, provider);
    }

    function _afterDeletion(AccountWord word) internal pure override returns (AccountWord) {
        return word.withGeneration(word.generation() + 1);
    }

    function _checkId(string calldata id) private pure {
        uint256 length = bytes(id).length;
        if (length == 0 || length > _MAX_ID) revert DeliverableIdInvalidLength(length);
    }
}
