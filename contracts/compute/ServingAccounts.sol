// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import { AccessManaged } from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import { ReentrancyGuardTransient } from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import { IERC165 } from "@openzeppelin/contracts/utils/introspection/IERC165.sol";
import { IServing } from "../interfaces/IServing.sol";
import { IServingAccounts, ServingParameters } from "../interfaces/IServingAccounts.sol";
import { ISubAccounts } from "../interfaces/ISubAccounts.sol";
import { AccountIndex } from "./AccountIndex.sol";
import { AccountWord } from "./AccountWord.sol";

/// @title ServingAccounts
/// @notice See {IServingAccounts}.
abstract contract ServingAccounts is IServingAccounts, IERC165, AccountIndex, AccessManaged, ReentrancyGuardTransient {
    /* TYPES */

    /// @dev A refund that waits for its release. Times in seconds. One word.
    struct PendingRefund {
        uint96 amount;
        uint40 createdAt;
        uint40 releaseAt;
    }

    struct Account {
        AccountWord word;
        /// Last nonce that the provider's signer used.
        uint128 nonce;
        /// From when on only signed charges are allowed; 0: never. Seconds, as below.
        uint40 signedOnlyFrom;
        /// Until when vouchers of generations from `graceFrom` on are still settled.
        uint40 graceUntil;
        uint32 graceFrom;
        /// Session tokens revoked in this generation.
        uint256 revoked;
        PendingRefund[5] pending;
        string additionalInfo;
    }

    /// @dev Names a sub-account.
    struct Pair {
        address user;
        address provider;
    }

    /* CONSTANTS AND IMMUTABLES */

    uint256 internal constant _MAX_ADDITIONAL_INFO = 4096;
    uint256 private constant _MAX_REFUNDS = 5;
    uint256 private constant _MAX_PROVIDERS = 50;
    uint256 private constant _MAX_PAGE = 50;

    /// @inheritdoc IServingAccounts
    uint256 public constant MAX_LOCKTIME = 7 days;
    /// @inheritdoc IServingAccounts
    uint256 public immutable MIN_LOCKTIME;
    /// @inheritdoc IServingAccounts
    address public immutable ledgerAddress;

    /* STORAGE */

    /// @inheritdoc IServingAccounts
    uint256 public lockTime;

    mapping(address provider => mapping(address user => Account)) internal _accounts;

    /* CONSTRUCTOR, MODIFIERS */

    constructor(ServingParameters memory parameters) {
        ledgerAddress = parameters.ledger;
        MIN_LOCKTIME = parameters.minLockTime;
        _checkLockTime(parameters.lockTime, parameters.minLockTime, MAX_LOCKTIME);
        lockTime = parameters.lockTime;
        emit OwnershipTransferred(address(0), parameters.authority);
        emit Initialized(1);
    }

    modifier onlyLedger() {
        if (msg.sender != ledgerAddress) _revertNotLedger();
        _;
    }

    receive() external payable {
        revert DirectDepositsDisabled();
    }

    /* LEDGER */

    /// @inheritdoc IServing
    function addAccount(
        address user,
        address provider,
        string calldata additionalInfo
    ) external payable onlyLedger {
        _checkParties(user, provider);
        Account storage account = _accounts[provider][user];
        AccountWord word = account.word;
        if (word.position() != 0) revert AccountExists(user, provider);
        if (bytes(additionalInfo).length > _MAX_ADDITIONAL_INFO) revert AdditionalInfoTooLong();
        uint256 providers = _providersOf[user].length;
        if (providers == _MAX_PROVIDERS) revert TooManyProvidersForService(providers, _MAX_PROVIDERS);
        if (bytes(additionalInfo).length > 0) account.additionalInfo = additionalInfo;
        _fund(user, provider, word.withPosition(_indexAccount(user, provider)));
    }

    /// @inheritdoc IServing
    function depositFund(
        address user,
        address provider,
        uint256 cancelRetrievingAmount
    ) external payable onlyLedger {
        Account storage account = _existing(user, provider);
        _fund(user, provider, _cancelRefunds(account, account.word, cancelRetrievingAmount));
    }

    /// @inheritdoc IServing
    function requestRefundAll(address user, address provider) external onlyLedger {
        Account storage account = _existing(user, provider);
        AccountWord word = account.word;
        uint256 count = word.refunds();
        uint256 pending = _pendingSum(account, word);
        uint256 amount = word.balance() - pending - _held(user, provider);
        if (amount > 0) {
            // A full list takes no sixth entry: the newest grows, and waits anew.
            if (count == _MAX_REFUNDS) amount += account.pending[--count].amount;
            account.pending[count++] = PendingRefund({
                // Part of the balance, which has 96 bits.
                amount: uint96(amount),
                createdAt: uint40(block.timestamp),
                releaseAt: uint40(block.timestamp + lockTime)
            });
            account.word = word.withRefunds(count);
        }
        if (count > 0) emit RefundRequested(user, provider, count - 1, block.timestamp);
    }

    /// @inheritdoc IServing
    function processRefund(
        address user,
        address provider
    ) external onlyLedger nonReentrant returns (uint256 totalAmount, uint256 balance, uint256 pendingRefund) {
        Account storage account = _existing(user, provider);
        AccountWord word = account.word;
        uint256 kept;
        for (uint256 i = 0; i < word.refunds(); ++i) {
            PendingRefund memory entry = account.pending[i];
            if (block.timestamp >= entry.releaseAt) {
                totalAmount += entry.amount;
            } else {
                pendingRefund += entry.amount;
                if (kept != i) account.pending[kept] = entry;
                ++kept;
            }
        }
        balance = word.balance() - totalAmount;
        if (totalAmount == 0) return (0, balance, pendingRefund);
        _store(user, provider, word.withBalance(balance).withRefunds(kept));
        _sendToLedger(totalAmount);
    }

    /// @inheritdoc IServing
    function deleteAccount(address user, address provider) external onlyLedger {
        Account storage account = _accounts[provider][user];
        AccountWord word = account.word;
        if (word.position() != 0) {
            if (word.balance() != 0) revert AccountNotEmpty(user, provider, word.balance());
            _unindexAccount(user, provider);
            account.word = _afterDeletion(word.withPosition(0).withRefunds(0).withAcknowledged(false));
            delete account.revoked;
            delete account.additionalInfo;
        }
        emit AccountDeleted(user, provider, 0);
    }

    /* USERS */

    /// @inheritdoc IServingAccounts
    function acknowledgeTEESigner(address provider, bool acknowledged) external {
        Account storage account = _existing(msg.sender, provider);
        AccountWord word = account.word;
        if (word.acknowledged() == acknowledged) return;
        uint256 balance = word.balance();
        if (!acknowledged && balance != 0) revert CannotRevokeWithNonZeroBalance(msg.sender, provider, balance);
        account.word = word.withAcknowledged(acknowledged);
    }

    /// @inheritdoc IServingAccounts
    function setSignedChargesOnly(address provider, bool enabled) external {
        Account storage account = _accounts[provider][msg.sender];
        uint256 from = account.signedOnlyFrom;
        if (enabled != (from != 0)) {
            if (enabled) from = block.timestamp + (account.word.balance() == 0 ? 0 : lockTime);
            else from = 0;
            account.signedOnlyFrom = uint40(from);
        }
        emit SignedChargesOnly(msg.sender, provider, from);
    }

    /// @inheritdoc IServingAccounts
    function signedChargesOnlyFrom(address user, address provider) external view returns (uint256) {
        return _accounts[provider][user].signedOnlyFrom;
    }

    /* VIEWS */

    /// @inheritdoc IServing
    function accountExists(address user, address provider) external view returns (bool) {
        return _position(user, provider) != 0;
    }

    /// @inheritdoc IServing
    function getPendingRefund(address user, address provider) external view returns (uint256) {
        Account storage account = _accounts[provider][user];
        return _pendingSum(account, account.word);
    }

    /// @inheritdoc ISubAccounts
    function lockedBalance(address user) external view returns (uint256 sum) {
        uint256[] storage own = _providersOf[user];
        for (uint256 i = 0; i < own.length; ++i) sum += _accounts[address(uint160(own[i]))][user].word.balance();
    }

    /// @inheritdoc ISubAccounts
    function providersOf(address user) external view returns (address[] memory providers) {
        uint256[] storage own = _providersOf[user];
        providers = new address[](own.length);
        for (uint256 i = 0; i < own.length; ++i) providers[i] = address(uint160(own[i]));
    }

    /// @inheritdoc IServingAccounts
    function owner() external view returns (address) {
        return authority();
    }

    /// @inheritdoc IServingAccounts
    function initialized() external pure returns (bool) {
        return true;
    }

    /// @inheritdoc IERC165
    function supportsInterface(bytes4 interfaceId) external pure returns (bool) {
        return
            interfaceId == type(IERC165).interfaceId ||
            interfaceId == type(IServing).interfaceId ||
            interfaceId == type(ISubAccounts).interfaceId;
    }

    /* GOVERNANCE */

    /// @inheritdoc IServingAccounts
    function updateLockTime(uint256 lockTime_) external restricted {
        _checkLockTime(lockTime_, MIN_LOCKTIME, MAX_LOCKTIME);
        emit LockTimeUpdated(lockTime, lockTime_);
        lockTime = lockTime_;
    }

    /* INTERNAL: MONEY */

    /// @dev Takes `amount`, at most the balance, out of the word. Refunds give way, the newest first, as far as the
    /// rest of the balance does not cover them.
    function _charge(
        Account storage account,
        AccountWord word,
        uint256 amount,
        uint256 held
    ) internal returns (AccountWord) {
        uint256 balance = word.balance() - amount;
        if (word.refunds() != 0) {
            uint256 pending = _pendingSum(account, word);
            // What is held stays below the balance: charges that would reach it are refused before.
            if (pending + held > balance) word = _cancelRefunds(account, word, pending + held - balance);
        }
        return word.withBalance(balance);
    }

    /// @dev Takes back up to `amount` of pending refunds, the newest first.
    function _cancelRefunds(Account storage account, AccountWord word, uint256 amount) internal returns (AccountWord) {
        uint256 count = word.refunds();
        while (count > 0 && amount > 0) {
            PendingRefund storage newest = account.pending[count - 1];
            uint256 pending = newest.amount;
            if (pending > amount) {
                // Less than what the field held.
                newest.amount = uint96(pending - amount);
                break;
            }
            amount -= pending;
            --count;
        }
        return word.withRefunds(count);
    }

    function _pendingSum(Account storage account, AccountWord word) internal view returns (uint256 sum) {
        uint256 count = word.refunds();
        for (uint256 i = 0; i < count; ++i) sum += account.pending[i].amount;
    }

    function _sendToLedger(uint256 amount) private {
        // solhint-disable-next-line avoid-low-level-calls
        (bool ok, ) = ledgerAddress.call{ value: amount }("");
        if (!ok) _revertLedgerRefused();
    }

    /// @dev Adds the value sent.
    function _fund(address user, address provider, AccountWord word) private {
        uint256 balance = word.balance() + msg.value;
        if (balance > type(uint96).max) revert BalanceTooLarge(balance);
        _store(user, provider, word.withBalance(balance).withAcknowledged(true));
    }

    /// @dev Keeps and announces a balance.
    function _store(address user, address provider, AccountWord word) internal {
        Account storage account = _accounts[provider][user];
        account.word = word;
        emit BalanceUpdated(user, provider, word.balance(), _pendingSum(account, word));
    }

    /* INTERNAL: ACCOUNTS */

    function _existing(address user, address provider) internal view returns (Account storage account) {
        account = _accounts[provider][user];
        if (account.word.position() == 0) revert AccountNotExists(user, provider);
    }

    /// @dev Whether the provider's signer may not charge this account.
    function _takesSignedChargesOnly(Account storage account) internal view returns (bool) {
        uint256 from = account.signedOnlyFrom;
        return from != 0 && block.timestamp >= from;
    }

    function _position(address user, address provider) internal view override returns (uint256) {
        return _accounts[provider][user].word.position();
    }

    function _setPosition(address user, address provider, uint256 position) internal override {
        Account storage account = _accounts[provider][user];
        account.word = account.word.withPosition(position);
    }

    /// @dev A page of the sub-accounts with a provider.
    function _pageByProvider(
        address provider,
        uint256 offset,
        uint256 limit
    ) internal view returns (Pair[] memory pairs, uint256 total) {
        address[] storage users = _usersOf[provider];
        uint256 from;
        (from, pairs, total) = _pairs(offset, limit, users.length);
        for (uint256 i = 0; i < pairs.length; ++i) pairs[i] = Pair(users[from + i], provider);
    }

    /// @dev A page of a user's sub-accounts.
    function _pageByUser(
        address user,
        uint256 offset,
        uint256 limit
    ) internal view returns (Pair[] memory pairs, uint256 total) {
        uint256[] storage own = _providersOf[user];
        uint256 from;
        (from, pairs, total) = _pairs(offset, limit, own.length);
        for (uint256 i = 0; i < pairs.length; ++i) pairs[i] = Pair(user, address(uint160(own[from + i])));
    }

    /// @dev A page of all sub-accounts.
    function _pageOfAll(uint256 offset, uint256 limit) internal view returns (Pair[] memory pairs, uint256 total) {
        uint256 from;
        (from, pairs, total) = _pairs(offset, limit, _allAccounts.length);
        for (uint256 i = 0; i < pairs.length; ++i) {
            (address user, address provider) = _accountAt(from + i);
            pairs[i] = Pair(user, provider);
        }
    }

    /// @dev The users' sub-accounts with the caller; a zero pair, whose account is all zero, where there is none.
    function _pairsWithCaller(address[] calldata users) internal view returns (Pair[] memory pairs) {
        pairs = new Pair[](users.length);
        for (uint256 i = 0; i < users.length; ++i) {
            if (_position(users[i], msg.sender) != 0) pairs[i] = Pair(users[i], msg.sender);
        }
    }

    function _pairs(
        uint256 offset,
        uint256 limit,
        uint256 length
    ) private pure returns (uint256 from, Pair[] memory pairs, uint256 total) {
        uint256 count;
        (from, count) = _page(offset, limit, length);
        return (from, new Pair[](count), length);
    }

    /// @dev The bounds of a page. A limit of 0 means 50.
    function _page(uint256 offset, uint256 limit, uint256 total) internal pure returns (uint256 from, uint256 count) {
        if (limit > _MAX_PAGE) _revertLimit(limit, _MAX_PAGE);
        if (limit == 0) limit = _MAX_PAGE;
        if (offset >= total) return (0, 0);
        return (offset, total - offset < limit ? total - offset : limit);
    }

    /* INTERNAL: WHAT DIFFERS */

    /// @dev Who may have a sub-account with whom.
    function _checkParties(address user, address provider) internal pure virtual;

    /// @dev What of the balance is held for tasks.
    function _held(address user, address provider) internal view virtual returns (uint256);

    /// @dev What remains of a removed sub-account.
    function _afterDeletion(AccountWord word) internal virtual returns (AccountWord);

    function _checkLockTime(uint256 lockTime_, uint256 min, uint256 max) internal pure virtual;

    function _revertNotLedger() internal view virtual;

    function _revertLedgerRefused() internal pure virtual;

    function _revertLimit(uint256 limit, uint256 max) internal pure virtual;
}
