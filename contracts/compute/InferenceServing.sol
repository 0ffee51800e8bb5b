// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

// solhint-disable gas-small-strings

import { AccessManaged } from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {
    IInferenceServing,
    InferenceAccount,
    InferenceRefund,
    InferenceService,
    TEESettlementData
} from "../interfaces/IInferenceServing.sol";
import { ILedgerManager } from "../interfaces/ILedgerManager.sol";
import { ServingParameters } from "../interfaces/IServingAccounts.sol";
import { AccountWord } from "./AccountWord.sol";
import { ServingAccounts } from "./ServingAccounts.sol";
import { Signatures } from "./Signatures.sol";
import { StakedService } from "./StakedService.sol";
import { VoucherSettlements } from "./VoucherSettlements.sol";

/// @title InferenceServing
/// @notice See {IInferenceServing}. What lies here is the sum of all balances.
contract InferenceServing is VoucherSettlements {
    /* CONSTANTS */

    uint8 private constant _SUCCESS = 0;
    uint8 private constant _PARTIAL = 1;
    uint8 private constant _PROVIDER_MISMATCH = 2;
    uint8 private constant _NO_TEE_SIGNER = 3;
    uint8 private constant _INVALID_NONCE = 4;
    uint8 private constant _INVALID_SIGNATURE = 5;

    uint256 private constant _MAX_SETTLEMENTS = 50;
    uint256 private constant _MAX_USERS = 500;

    bytes32 private constant _DOMAIN_NAME = keccak256("0G Inference Serving");
    bytes32 private constant _SETTLEMENT_TYPE =
        keccak256("TEESettlement(bytes32 requestsHash,uint256 nonce,address provider,address user,uint256 totalFee)");

    constructor(
        ServingParameters memory parameters
    )
        AccessManaged(parameters.authority)
        ServingAccounts(parameters)
        StakedService(parameters.minProviderStake, parameters.stakes)
    {
        emit ContractInitialized(parameters.authority, parameters.lockTime, parameters.ledger);
    }

    /* CHARGING */

    /// @inheritdoc IInferenceServing
    function settleFeesWithTEE(
        TEESettlementData[] calldata settlements
    ) external nonReentrant returns (uint8[] memory statuses) {
        _checkCount(settlements.length);
        statuses = new uint8[](settlements.length);
        bytes32 domain = Signatures.domain(_DOMAIN_NAME);
        uint256 sum;
        for (uint256 i = 0; i < settlements.length; ++i) {
            TEESettlementData calldata item = settlements[i];
            (uint8 status, uint256 amount) = _judge(item, domain);
            statuses[i] = status;
            if (status <= _PARTIAL) _take(item, amount);
            sum += amount;
            emit TEESettlementResult(item.user, status, item.totalFee - amount);
        }
        if (sum != 0) _send(msg.sender, sum);
    }

    /// @inheritdoc IInferenceServing
    function previewSettlementResults(
        TEESettlementData[] calldata settlements
    )
        external
        view
        returns (
            address[] memory failedUsers,
            uint8[] memory failureReasons,
            address[] memory partialUsers,
            uint256[] memory partialAmounts
        )
    {
        uint256 count = settlements.length;
        _checkCount(count);
        (failedUsers, failureReasons) = (new address[](count), new uint8[](count));
        (partialUsers, partialAmounts) = (new address[](count), new uint256[](count));
        uint256 failed;
        uint256 partly;
        bytes32 domain = Signatures.domain(_DOMAIN_NAME);
        for (uint256 i = 0; i < count; ++i) {
            TEESettlementData calldata item = settlements[i];
            (uint8 status, uint256 amount) = _judge(item, domain);
            if (status == _PARTIAL) {
                partialUsers[partly] = item.user;
                partialAmounts[partly++] = item.totalFee - amount;
            } else if (status != _SUCCESS) {
                failedUsers[failed] = item.user;
                failureReasons[failed++] = status;
            }
        }
        assembly ("memory-safe") {
            // None is longer than it was made.
            mstore(failedUsers, failed)
            mstore(failureReasons, failed)
            mstore(partialUsers, partly)
            mstore(partialAmounts, partly)
        }
    }

    /* SESSION TOKENS */

    /// @inheritdoc IInferenceServing
    function revokeToken(address provider, uint8 tokenId) external {
        _existing(msg.sender, provider).revoked |= 1 << tokenId;
        emit TokenRevoked(msg.sender, provider, tokenId);
    }

    /// @inheritdoc IInferenceServing
    function revokeTokens(address provider, uint8[] calldata tokenIds) external {
        uint256 bits;
        for (uint256 i = 0; i < tokenIds.length; ++i) bits |= 1 << tokenIds[i];
        _existing(msg.sender, provider).revoked |= bits;
        emit TokensRevoked(msg.sender, provider, tokenIds);
    }

    /// @inheritdoc IInferenceServing
    function revokeAllTokens(address provider) external {
        Account storage account = _existing(msg.sender, provider);
        AccountWord word = account.word;
        uint256 generation = word.generation();
        // The lock time runs anew for every generation that is still in it; older ones stay dead.
        if (block.timestamp > account.graceUntil) account.graceFrom = uint32(generation);
        account.graceUntil = uint40(block.timestamp + lockTime);
        account.word = word.withGeneration(generation + 1);
        account.revoked = 0;
        emit AllTokensRevoked(msg.sender, provider, generation + 1);
    }

    /// @inheritdoc IInferenceServing
    function isTokenRevoked(address user, address provider, uint8 tokenId) external view returns (bool) {
        return (_accounts[provider][user].revoked >> tokenId) & 1 == 1;
    }

    /* VIEWS */

    /// @inheritdoc IInferenceServing
    function getAccount(address user, address provider) external view returns (InferenceAccount memory) {
        _existing(user, provider);
        return _view(user, provider);
    }

    /// @inheritdoc IInferenceServing
    function getAccountsByProvider(
        address provider,
        uint256 offset,
        uint256 limit
    ) external view returns (InferenceAccount[] memory accounts, uint256 total) {
        Pair[] memory pairs;
        (pairs, total) = _pageByProvider(provider, offset, limit);
        accounts = _viewAll(pairs);
    }

    /// @inheritdoc IInferenceServing
    function getAccountsByUser(
        address user,
        uint256 offset,
        uint256 limit
    ) external view returns (InferenceAccount[] memory accounts, uint256 total) {
        Pair[] memory pairs;
        (pairs, total) = _pageByUser(user, offset, limit);
        accounts = _viewAll(pairs);
    }

    /// @inheritdoc IInferenceServing
    function getAllAccounts(
        uint256 offset,
        uint256 limit
    ) external view returns (InferenceAccount[] memory accounts, uint256 total) {
        Pair[] memory pairs;
        (pairs, total) = _pageOfAll(offset, limit);
        accounts = _viewAll(pairs);
    }

    /// @inheritdoc IInferenceServing
    function getBatchAccountsByUsers(
        address[] calldata users
    ) external view returns (InferenceAccount[] memory accounts) {
        if (users.length > _MAX_USERS) revert BatchSizeTooLarge(users.length, _MAX_USERS);
        accounts = _viewAll(_pairsWithCaller(users));
    }

    /* INTERNAL: CHARGING */

    /// @dev What becomes of an item, and what it pays, against the state as it is.
    function _judge(
        TEESettlementData calldata item,
        bytes32 domain
    ) private view returns (uint8 status, uint256 amount) {
        if (item.provider != msg.sender) return (_PROVIDER_MISMATCH, 0);
        Account storage account = _accounts[msg.sender][item.user];
        AccountWord word = account.word;
        if (word.position() == 0) return (_INVALID_SIGNATURE, 0);
        if (!serviceExists(msg.sender)) return (_PROVIDER_MISMATCH, 0);
        InferenceService storage service = _services[msg.sender];
        address signer = service.teeSignerAddress;
        if (
            !word.acknowledged() ||
            !service.teeSignerAcknowledged ||
            signer == address(0) ||
            _takesSignedChargesOnly(account)
        ) return (_NO_TEE_SIGNER, 0);
        if (item.nonce <= account.nonce || item.nonce > type(uint128).max) return (_INVALID_NONCE, 0);
        bytes32 message = keccak256(
            abi.encode(_SETTLEMENT_TYPE, item.requestsHash, item.nonce, item.provider, item.user, item.totalFee)
        );
        if (Signatures.recover(Signatures.digest(domain, message), item.signature) != signer) {
            return (_INVALID_SIGNATURE, 0);
        }
        uint256 balance = word.balance();
        return item.totalFee <= balance ? (_SUCCESS, item.totalFee) : (_PARTIAL, balance);
    }

    function _take(TEESettlementData calldata item, uint256 amount) private {
        Account storage account = _accounts[msg.sender][item.user];
        // Checked to have 128 bits.
        account.nonce = uint128(item.nonce);
        _store(item.user, msg.sender, _charge(account, account.word, amount, 0));
        if (amount != 0) ILedgerManager(ledgerAddress).spendFund(item.user, amount);
    }

    function _checkCount(uint256 count) private pure {
        if (count == 0) revert NoSettlementsProvided();
        if (count > _MAX_SETTLEMENTS) revert TooManySettlements(count, _MAX_SETTLEMENTS);
    }

    /* INTERNAL: ACCOUNTS */

    function _viewAll(Pair[] memory pairs) private view returns (InferenceAccount[] memory accounts) {
        accounts = new InferenceAccount[](pairs.length);
        for (uint256 i = 0; i < pairs.length; ++i) accounts[i] = _view(pairs[i].user, pairs[i].provider);
    }

    function _view(address user, address provider) private view returns (InferenceAccount memory result) {
        Account storage account = _accounts[provider][user];
        AccountWord word = account.word;
        uint256 count = word.refunds();
        result.user = user;
        result.provider = provider;
        result.nonce = account.nonce;
        result.balance = word.balance();
        result.pendingRefund = _pendingSum(account, word);
        result.refunds = new InferenceRefund[](count);
        for (uint256 i = 0; i < count; ++i) {
            PendingRefund storage pending = account.pending[i];
            result.refunds[i] = InferenceRefund(i, pending.amount, pending.createdAt, false);
        }
        result.additionalInfo = account.additionalInfo;
        result.acknowledged = word.acknowledged();
        result.validRefundsLength = count;
        result.generation = word.generation();
        result.revokedBitmap = account.revoked;
    }

    function _checkParties(address user, address provider) internal pure override {
        if (user == address(0)) revert InvalidAddress(user);
        if (provider == address(0)) revert InvalidAddress(provider);
        if (user == provider) revert ProviderCannotBeUser();
    }

    function _held(address, address) internal pure override returns (uint256) {
        return 0;
    }

    function _afterDeletion(AccountWord word) internal pure override returns (AccountWord) {
        return word;
    }

    /* INTERNAL: ERRORS */

    function _send(address to, uint256 amount) internal override {
        // solhint-disable-next-line avoid-low-level-calls
        (bool ok, ) = to.call{ value: amount }("");
        if (!ok) revert TransferFailed();
    }

    function _checkLockTime(uint256 lockTime_, uint256 min, uint256 max) internal pure override {
        if (lockTime_ < min || lockTime_ > max) revert LockTimeOutOfRange(lockTime_, min, max);
    }

    function _revertNotLedger() internal view override {
        revert CallerNotLedger(msg.sender);
    }

    function _revertLedgerRefused() internal pure override {
        revert TransferFailed();
    }

    function _revertLimit(uint256 limit, uint256 max) internal pure override {
        revert LimitTooLarge(limit, max);
    }
}
