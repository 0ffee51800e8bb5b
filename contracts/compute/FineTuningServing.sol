// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

// solhint-disable no-empty-blocks, gas-small-strings

import { AccessManaged } from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {
    FineTuningAccount,
    FineTuningAccountSummary,
    FineTuningRefund,
    IFineTuningServing,
    VerifierInput
} from "../interfaces/IFineTuningServing.sol";
import { ILedgerManager } from "../interfaces/ILedgerManager.sol";
import { ServingParameters } from "../interfaces/IServingAccounts.sol";
import { ITaskBook } from "../interfaces/ITaskBook.sol";
import { AccountWord } from "./AccountWord.sol";
import { Deliverables } from "./Deliverables.sol";
import { FineTuningDeliverables } from "./FineTuningDeliverables.sol";
import { ServingAccounts } from "./ServingAccounts.sol";
import { Signatures } from "./Signatures.sol";
import { StakedService } from "./StakedService.sol";

/// @title FineTuningServing
/// @notice See {IFineTuningServing}. What lies here is the sum of all balances.
contract FineTuningServing is FineTuningDeliverables {
    using Deliverables for Deliverables.Ring;

    /* CONSTANTS */

    uint256 private constant _MAX_USERS = 50;

    bytes32 private constant _DOMAIN_NAME = keccak256("0G Fine-Tuning Serving");
    bytes32 private constant _MESSAGE_TYPE =
        keccak256(
            "VerifierMessage(string id,bytes encryptedSecret,bytes modelRootHash,"
            "uint256 nonce,uint256 taskFee,address user)"
        );

    /// @param taskBook_ {TaskBook}, may be deployed later at this address.
    /// @param percentage What an unacknowledged deliverable pays at first, in per cent of its fee.
    constructor(
        ServingParameters memory parameters,
        address taskBook_,
        uint256 percentage
    )
        AccessManaged(parameters.authority)
        ServingAccounts(parameters)
        StakedService(parameters.minProviderStake, parameters.stakes)
        FineTuningDeliverables(taskBook_)
    {
        if (parameters.ledger == address(0)) revert InvalidLedgerAddress();
        _setPenalty(percentage);
    }

    /* CHARGING */

    /// @inheritdoc IFineTuningServing
    function settleFees(VerifierInput calldata input) external nonReentrant {
        address user = input.user;
        Account storage account = _existing(user, msg.sender);
        Deliverables.Item storage item = _deliverable(user, msg.sender, input.id);
        _checkInput(input, account, item);
        bool agreed = ITaskBook(taskBook).settle(
            user,
            msg.sender,
            keccak256(bytes(input.id)),
            input.taskFee,
            item.timestamp,
            item.acknowledged
        );
        if (!agreed && _takesSignedChargesOnly(account)) _invalid("the user takes signed terms only");
        uint256 held = _held(user, msg.sender);
        if (input.taskFee > account.word.balance() - held) _invalid("insufficient balance");

        uint256 fee = input.taskFee;
        if (item.acknowledged) {
            if (input.encryptedSecret.length == 0) revert SecretShouldNotBeEmpty();
            item.encryptedSecret = input.encryptedSecret;
        } else {
            if (input.encryptedSecret.length != 0) revert SecretShouldBeEmpty();
            fee = (fee * item.penalty) / 100;
        }
        item.settled = true;
        // Checked to have 128 bits.
        account.nonce = uint128(input.nonce);
        emit FeesSettled(user, msg.sender, input.id, fee, item.acknowledged, input.nonce);
        _store(user, msg.sender, _charge(account, account.word, fee, held));
        if (fee == 0) return;
        ILedgerManager(ledgerAddress).spendFund(user, fee);
        _send(msg.sender, fee);
    }

    /* VIEWS */

    /// @inheritdoc IFineTuningServing
    function getAccount(
        address user,
        address provider
    ) external view returns (FineTuningAccount memory result) {
        Account storage account = _existing(user, provider);
        AccountWord word = account.word;
        Deliverables.Ring storage ring = _ring(user, provider);
        uint256 count = word.refunds();
        result.user = user;
        result.provider = provider;
        result.nonce = account.nonce;
        result.balance = word.balance();
        result.pendingRefund = _pendingSum(account, word);
        result.refunds = new FineTuningRefund[](count);
        for (uint256 i = 0; i < count; ++i) {
            PendingRefund storage pending = account.pending[i];
            result.refunds[i] = FineTuningRefund(i, pending.amount, pending.createdAt, false);
        }
        result.additionalInfo = account.additionalInfo;
        result.deliverables = ring.list();
        result.validRefundsLength = count;
        result.deliverablesHead = ring.head;
        result.deliverablesCount = ring.count;
        result.acknowledged = word.acknowledged();
    }

    /// @inheritdoc IFineTuningServing
    function getAccountsByProvider(
        address provider,
        uint256 offset,
        uint256 limit
    ) external view returns (FineTuningAccountSummary[] memory accounts, uint256 total) {
        Pair[] memory pairs;
        (pairs, total) = _pageByProvider(provider, offset, limit);
        accounts = _summaryAll(pairs);
    }

    /// @inheritdoc IFineTuningServing
    function getAccountsByUser(
        address user,
        uint256 offset,
        uint256 limit
    ) external view returns (FineTuningAccountSummary[] memory accounts, uint256 total) {
        Pair[] memory pairs;
        (pairs, total) = _pageByUser(user, offset, limit);
        accounts = _summaryAll(pairs);
    }

    /// @inheritdoc IFineTuningServing
    function getAllAccounts(
        uint256 offset,
        uint256 limit
    ) external view returns (FineTuningAccountSummary[] memory accounts, uint256 total) {
        Pair[] memory pairs;
        (pairs, total) = _pageOfAll(offset, limit);
        accounts = _summaryAll(pairs);
    }

    /// @inheritdoc IFineTuningServing
    function getBatchAccountsByUsers(
        address[] calldata users
    ) external view returns (FineTuningAccountSummary[] memory accounts) {
        if (users.length > _MAX_USERS) revert BatchSizeTooLarge(users.length, _MAX_USERS);
        accounts = _summaryAll(_pairsWithCaller(users));
    }

    /* INTERNAL: CHARGING */

    function _checkInput(
        VerifierInput calldata input,
        Account storage account,
        Deliverables.Item storage item
    ) private view {
        address signer = _approvedSigner(msg.sender);
        if (!account.word.acknowledged() || signer == address(0)) _invalid("TEE signer not acknowledged");
        if (input.nonce <= account.nonce || input.nonce > type(uint128).max) _invalid("nonce not above the last");
        if (item.settled) revert DeliverableAlreadySettled(input.id);
        if (keccak256(input.modelRootHash) != keccak256(item.modelRootHash)) _invalid("model root hash mismatch");
        bytes32 message = keccak256(
            abi.encode(
                _MESSAGE_TYPE,
                keccak256(bytes(input.id)),
                keccak256(input.encryptedSecret),
                keccak256(input.modelRootHash),
                input.nonce,
                input.taskFee,
                input.user
            )
        );
        bytes32 digest = Signatures.digest(Signatures.domain(_DOMAIN_NAME), message);
        if (Signatures.recover(digest, input.signature) != signer) _invalid("signature");
    }

    function _invalid(string memory reason) private pure {
        revert InvalidVerifierInput(reason);
    }

    /* INTERNAL: ACCOUNTS */

    function _summaryAll(Pair[] memory pairs) private view returns (FineTuningAccountSummary[] memory accounts) {
        accounts = new FineTuningAccountSummary[](pairs.length);
        for (uint256 i = 0; i < pairs.length; ++i) accounts[i] = _summary(pairs[i].user, pairs[i].provider);
    }

    function _summary(
        address user,
        address provider
    ) private view returns (FineTuningAccountSummary memory result) {
        Account storage account = _accounts[provider][user];
        AccountWord word = account.word;
        result.user = user;
        result.provider = provider;
        result.nonce = account.nonce;
        result.balance = word.balance();
        result.pendingRefund = _pendingSum(account, word);
        result.additionalInfo = account.additionalInfo;
        result.validRefundsLength = word.refunds();
        result.deliverablesCount = _ring(user, provider).count;
        result.acknowledged = word.acknowledged();
    }

    function _checkParties(address, address) internal pure override {}

    /* INTERNAL: ERRORS */

    function _send(address to, uint256 amount) private {
        // solhint-disable-next-line avoid-low-level-calls
        (bool ok, ) = to.call{ value: amount }("");
        if (!ok) revert ETHTransferFailed();
    }

    function _checkLockTime(uint256 lockTime_, uint256 min, uint256 max) internal pure override {
        if (lockTime_ < min || lockTime_ > max) revert LockTimeOutOfRange(lockTime_);
    }

    function _revertNotLedger() internal pure override {
        revert CallerNotLedger();
    }

    function _revertLedgerRefused() internal pure override {
        revert TransferToLedgerFailed();
    }

    function _revertLimit(uint256 limit, uint256) internal pure override {
        revert LimitTooLarge(limit);
    }
}
