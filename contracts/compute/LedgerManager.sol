// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

// solhint-disable no-empty-blocks

import { AccessManaged } from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import { ILedgerManager, Ledger, ServiceRegistration } from "../interfaces/ILedgerManager.sol";
import { IServing } from "../interfaces/IServing.sol";
import { ISubAccounts } from "../interfaces/ISubAccounts.sol";
import { ServiceRegistry } from "./ServiceRegistry.sol";

/// @title LedgerManager
/// @notice See {ILedgerManager}. What lies here is the sum of all available balances.
contract LedgerManager is ServiceRegistry {
    /* TYPES */

    struct Record {
        uint128 available;
        /// Place in the list of users, counted from 1; 0: no ledger.
        uint64 position;
        /// Bit i: the user has used the registered service i.
        uint64 services;
        string additionalInfo;
    }

    /* CONSTANTS AND IMMUTABLES */

    /// @inheritdoc ILedgerManager
    uint256 public constant MAX_ADDITIONAL_INFO_LENGTH = 4096;
    /// @inheritdoc ILedgerManager
    uint256 public constant MAX_PROVIDERS_PER_BATCH = 20;
    /// @inheritdoc ILedgerManager
    uint256 public constant MAX_PROVIDERS_PER_USER_PER_SERVICE = 50;
    uint256 private constant _DEFAULT_PAGE = 50;

    /// @inheritdoc ILedgerManager
    uint256 public immutable MIN_ACCOUNT_BALANCE;
    /// @inheritdoc ILedgerManager
    uint256 public immutable MIN_TRANSFER_AMOUNT;

    /* STORAGE */

    bool private transient _locked;

    /// @inheritdoc ILedgerManager
    bool public paused;
    address[] private _users;
    mapping(address user => Record) private _records;

    /* CONSTRUCTOR, MODIFIERS */

    /// @param authority_ Who governs; see {Governance}.
    /// @param minAccountBalance What a ledger is opened with at least, and keeps unless it is emptied. Wei.
    /// @param minTransferAmount What a sub-account is opened with at least. Wei.
    /// @param services The service contracts, may be deployed later at their addresses.
    constructor(
        address authority_,
        uint256 minAccountBalance,
        uint256 minTransferAmount,
        ServiceRegistration[] memory services
    ) AccessManaged(authority_) {
        MIN_ACCOUNT_BALANCE = minAccountBalance;
        MIN_TRANSFER_AMOUNT = minTransferAmount;
        for (uint256 i = 0; i < services.length; ++i) {
            ServiceRegistration memory service = services[i];
            _register(service.serviceType, service.version, service.serviceAddress, service.description);
            if (service.recommended) _recommend(service.serviceType, service.version);
        }
        emit OwnershipTransferred(address(0), authority_);
        emit Initialized(1);
    }

    /// @dev No operation begins while another is under way, whoever calls.
    modifier locked() {
        if (_locked) revert LedgerLocked();
        _locked = true;
        _;
        _locked = false;
    }

    modifier taking() {
        if (paused) revert EnforcedPause();
        _;
    }

    receive() external payable {
        if (!_isRegistered(msg.sender)) revert DirectDepositsDisabled();
    }

    /* DEPOSITS */

    /// @inheritdoc ILedgerManager
    function addLedger(string calldata additionalInfo) external payable locked taking returns (uint256, uint256) {
        if (msg.value < MIN_ACCOUNT_BALANCE) revert MinimumDepositRequired(msg.value, MIN_ACCOUNT_BALANCE);
        _checkInfo(additionalInfo);
        if (_records[msg.sender].position != 0) revert LedgerExists(msg.sender);
        _open(msg.sender);
        if (bytes(additionalInfo).length > 0) _records[msg.sender].additionalInfo = additionalInfo;
        return (msg.value, 0);
    }

    /// @inheritdoc ILedgerManager
    function depositFund() external payable locked taking {
        _deposit(msg.sender);
    }

    /// @inheritdoc ILedgerManager
    function depositFundFor(address recipient) external payable locked taking {
        if (recipient == address(0)) revert ZeroAddressNotAllowed();
        _deposit(recipient);
    }

    /// @inheritdoc ILedgerManager
    function updateAdditionalInfo(string calldata additionalInfo) external locked {
        Record storage record = _existing(msg.sender);
        _checkInfo(additionalInfo);
        record.additionalInfo = additionalInfo;
        emit LedgerInfoUpdated(msg.sender, additionalInfo);
    }

    /* SETTING ASIDE */

    /// @inheritdoc ILedgerManager
    function transferFund(address provider, string calldata serviceName, uint256 amount) external locked {
        Record storage record = _existing(msg.sender);
        (address service, uint256 bit) = _serviceCalled(serviceName);
        if (IServing(service).accountExists(msg.sender, provider)) {
            uint256 pending = IServing(service).getPendingRefund(msg.sender, provider);
            uint256 cancelled = amount < pending ? amount : pending;
            _take(record, amount - cancelled, bit);
            try
                IServing(service).depositFund{ value: amount - cancelled }(msg.sender, provider, cancelled)
            {} catch (bytes memory reason) {
                _failWith(reason);
            }
        } else {
            if (amount < MIN_TRANSFER_AMOUNT) revert MinimumDepositRequired(amount, MIN_TRANSFER_AMOUNT);
            _take(record, amount, bit);
            try IServing(service).addAccount{ value: amount }(msg.sender, provider, record.additionalInfo) {} catch (
                bytes memory reason
            ) {
                _failWith(reason);
            }
        }
    }

    /// @inheritdoc ILedgerManager
    function retrieveFund(address[] calldata providers, string calldata serviceName) external locked {
        Record storage record = _existing(msg.sender);
        if (providers.length > MAX_PROVIDERS_PER_BATCH) {
            revert TooManyProviders(providers.length, MAX_PROVIDERS_PER_BATCH);
        }
        (address service, ) = _serviceCalled(serviceName);
        // What counts is the money that arrived, whatever a service contract says.
        uint256 before = address(this).balance;
        for (uint256 i = 0; i < providers.length; ++i) _retrieve(service, providers[i]);
        // More than 2^128 wei do not exist.
        record.available += uint128(address(this).balance - before);
    }

    /* DRAWING */

    /// @inheritdoc ILedgerManager
    function refund(uint256 amount) external locked {
        Record storage record = _existing(msg.sender);
        if (amount > record.available) revert InsufficientBalance(msg.sender);
        uint256 left = record.available - amount;
        if (left != 0 && left < MIN_ACCOUNT_BALANCE) revert MinimumDepositRequired(left, MIN_ACCOUNT_BALANCE);
        // Less than what the field held.
        record.available = uint128(left);
        if (left == 0) {
            (uint256 total, bool known) = _total(msg.sender, record);
            if (total == 0 && known) _close(msg.sender, record);
        }
        // solhint-disable-next-line avoid-low-level-calls
        (bool ok, ) = msg.sender.call{ value: amount }("");
        if (!ok) revert TransferFailed();
    }

    /// @inheritdoc ILedgerManager
    function deleteLedger() external locked {
        Record storage record = _existing(msg.sender);
        (uint256 total, bool known) = _total(msg.sender, record);
        if (total != 0 || !known) revert MustWithdrawAllFundsFirst(total);
        _close(msg.sender, record);
    }

    /* SERVICE CONTRACTS */

    /// @inheritdoc ILedgerManager
    function spendFund(address user, uint256 amount) external {
        if (!_isRegistered(msg.sender)) revert CallerNotRegisteredService(msg.sender);
        emit FundSpent(user, msg.sender, amount);
    }

    /// @inheritdoc ILedgerManager
    function returnFund(address user) external payable locked {
        if (!_isRegistered(msg.sender)) revert CallerNotRegisteredService(msg.sender);
        // More than 2^128 wei do not exist.
        _existing(user).available += uint128(msg.value);
        emit FundReturned(user, msg.sender, msg.value);
    }

    /* VIEWS */

    /// @inheritdoc ILedgerManager
    function getLedger(address user) external view returns (Ledger memory) {
        return _ledger(user, _existing(user));
    }

    /// @inheritdoc ILedgerManager
    function getAllLedgers(
        uint256 offset,
        uint256 limit
    ) external view returns (Ledger[] memory ledgers, uint256 total) {
        total = _users.length;
        if (limit == 0) limit = _DEFAULT_PAGE;
        if (offset > total) offset = total;
        ledgers = new Ledger[](total - offset < limit ? total - offset : limit);
        for (uint256 i = 0; i < ledgers.length; ++i) {
            address user = _users[offset + i];
            ledgers[i] = _ledger(user, _records[user]);
        }
    }

    /// @inheritdoc ILedgerManager
    function getLedgerProviders(address user, string calldata serviceName) external view returns (address[] memory) {
        (address service, ) = _serviceCalled(serviceName);
        return ISubAccounts(service).providersOf(user);
    }

    /* GOVERNANCE */

    /// @inheritdoc ILedgerManager
    function pause() external restricted {
        paused = true;
        emit Paused(msg.sender);
    }

    /// @inheritdoc ILedgerManager
    function unpause() external restricted {
        paused = false;
        emit Unpaused(msg.sender);
    }

    /* INTERNAL */

    function _deposit(address user) private {
        if (msg.value == 0) revert ZeroAmountNotAllowed();
        Record storage record = _records[user];
        if (record.position != 0) {
            // More than 2^128 wei do not exist.
            record.available += uint128(msg.value);
            return;
        }
        if (msg.value < MIN_ACCOUNT_BALANCE) revert MinimumDepositRequired(msg.value, MIN_ACCOUNT_BALANCE);
        _open(user);
    }

    function _open(address user) private {
        _users.push(user);
        Record storage record = _records[user];
        // More than 2^128 wei or 2^64 users do not exist.
        record.available = uint128(msg.value);
        record.position = uint64(_users.length);
    }

    function _take(Record storage record, uint256 amount, uint256 bit) private {
        uint256 available = record.available;
        if (available < amount) revert InsufficientAvailableBalance(available, amount);
        // Less than what the field held; there are 64 services at most.
        record.available = uint128(available - amount);
        record.services |= uint64(bit);
    }

    /// @dev A service contract that fails for one provider does not keep the others' money.
    function _retrieve(address service, address provider) private {
        try IServing(service).accountExists(msg.sender, provider) returns (bool exists) {
            if (!exists) return;
            try IServing(service).processRefund(msg.sender, provider) returns (uint256, uint256, uint256) {} catch {
                emit RetrievalSkipped(msg.sender, provider);
            }
            try IServing(service).requestRefundAll(msg.sender, provider) {} catch {
                emit RetrievalSkipped(msg.sender, provider);
            }
        } catch {
            emit RetrievalSkipped(msg.sender, provider);
        }
    }

    /// @dev Removes the ledger and its empty sub-accounts.
    function _close(address user, Record storage record) private {
        uint256 services = record.services;
        for (uint256 i = 0; services != 0; ++i) {
            if (services & 1 == 1) _deleteAccounts(_services[i].serviceAddress, user);
            services >>= 1;
        }
        uint256 place = record.position - 1;
        address last = _users[_users.length - 1];
        _users[place] = last;
        _users.pop();
        // Fewer than 2^64 users.
        _records[last].position = uint64(place + 1);
        delete _records[user];
    }

    function _deleteAccounts(address service, address user) private {
        try ISubAccounts(service).providersOf(user) returns (address[] memory providers) {
            for (uint256 i = 0; i < providers.length; ++i) {
                // An account that cannot be removed is empty, and harms nobody.
                try IServing(service).deleteAccount(user, providers[i]) {} catch {}
            }
        } catch {}
    }

    /// @dev What is available and what lies in sub-accounts; `known` is false if a service contract did not answer.
    function _total(address user, Record storage record) private view returns (uint256 total, bool known) {
        total = record.available;
        known = true;
        uint256 services = record.services;
        for (uint256 i = 0; services != 0; ++i) {
            if (services & 1 == 1) {
                try ISubAccounts(_services[i].serviceAddress).lockedBalance(user) returns (uint256 locked_) {
                    total += locked_;
                } catch {
                    known = false;
                }
            }
            services >>= 1;
        }
    }

    function _ledger(address user, Record storage record) private view returns (Ledger memory) {
        (uint256 total, ) = _total(user, record);
        return Ledger(user, record.available, total, record.additionalInfo);
    }

    function _existing(address user) private view returns (Record storage record) {
        record = _records[user];
        if (record.position == 0) revert LedgerNotExists(user);
    }

    function _checkInfo(string calldata info) private pure {
        uint256 length = bytes(info).length;
        if (length > MAX_ADDITIONAL_INFO_LENGTH) revert AdditionalInfoTooLong(length, MAX_ADDITIONAL_INFO_LENGTH);
    }

    /// @dev Passes the reason on as it is; clients decode it.
    function _failWith(bytes memory reason) private pure {
        if (reason.length < 4) revert CallFailed();
        assembly ("memory-safe") {
            revert(add(reason, 0x20), mload(reason))
        }
    }
}
