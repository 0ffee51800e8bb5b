// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

// solhint-disable gas-struct-packing

/// @notice A user's ledger. `totalBalance` includes what lies in sub-accounts. Wei.
struct Ledger {
    address user;
    uint256 availableBalance;
    uint256 totalBalance;
    string additionalInfo;
}

/// @notice A registered service contract; `registeredAt` in seconds.
struct ServiceInfo {
    address serviceAddress;
    address serviceContract;
    string serviceType;
    string version;
    string fullName;
    string description;
    bool isRecommended;
    uint256 registeredAt;
}

/// @notice A service contract that the constructor registers, deployed before or after at this address.
struct ServiceRegistration {
    string serviceType;
    string version;
    address serviceAddress;
    string description;
    bool recommended;
}

/// @title Users' money before it is set aside for a provider
/// @notice Users deposit here, set money aside in service contracts for one provider each, and draw it again. Only the
/// user moves its money: governance registers service contracts and may halt deposits, nothing else. Amounts in wei.
interface ILedgerManager {
    /* EVENTS */

    /// @notice A provider charged so much by its signer. What vouchers pay is announced by the service contract alone.
    event FundSpent(address indexed user, address indexed service, uint256 amount);
    /// @notice The contract was set up by its constructor.
    event Initialized(uint8 version);
    /// @notice The user changed its additional info.
    event LedgerInfoUpdated(address indexed user, string additionalInfo);
    /// @notice Who governs; said once, at deployment.
    event OwnershipTransferred(address indexed previousOwner, address indexed newOwner);
    /// @notice The recommended version of a type of service.
    event RecommendedServiceUpdated(string serviceType, string version, address serviceAddress);
    /// @notice A service contract was registered.
    event ServiceRegistered(address indexed serviceAddress, string serviceName);
    /// @notice A provider was skipped in a retrieval because its service contract failed.
    event RetrievalSkipped(address indexed user, address indexed provider);
    /// @notice A service contract returned money that was held for something that did not come.
    event FundReturned(address indexed user, address indexed service, uint256 amount);
    /// @notice Deposits were halted.
    event Paused(address account);
    /// @notice Deposits are taken again.
    event Unpaused(address account);

    /* ERRORS */

    error AdditionalInfoTooLong(uint256 length, uint256 max);
    error AlreadyInitialized();
    /// @notice A service contract failed without a reason. With a reason, that reason is passed on.
    error CallFailed();
    error CallerNotRegisteredService(address caller);
    error DirectDepositsDisabled();
    /// @notice Deposits are halted.
    error EnforcedPause();
    error InsufficientAvailableBalance(uint256 available, uint256 required);
    error InsufficientBalance(address user);
    error InvalidServiceAddress(address serviceAddress);
    error InvalidServiceType(string serviceType);
    error LedgerExists(address user);
    /// @notice Another operation is under way.
    error LedgerLocked();
    error LedgerNotExists(address user);
    error MinimumDepositRequired(uint256 provided, uint256 required);
    error MustWithdrawAllFundsFirst(uint256 remainingBalance);
    error NoRecommendedService(string serviceType);
    error ServiceAlreadyRegistered(address serviceAddress);
    /// @notice The contract does not answer ERC-165 for IServing and ISubAccounts.
    error ServiceMustImplementIServing(address serviceAddress);
    error ServiceNameExists(string serviceName);
    error ServiceNotFound(address serviceAddress);
    error ServiceNotRegistered(address serviceAddress);
    error ServiceRegistryLimitReached(uint256 limit);
    error ServiceTypeRequired();
    error TooManyProviders(uint256 requested, uint256 maximum);
    /// @notice Raised by service contracts and passed on.
    error TooManyProvidersForService(uint256 current, uint256 maximum);
    error TransferFailed();
    error VersionRequired();
    error ZeroAddressNotAllowed();
    error ZeroAmountNotAllowed();

    /* USERS */

    /// @notice Opens the caller's ledger with the value sent, at least MIN_ACCOUNT_BALANCE.
    /// @return The available balance, and 0.
    function addLedger(string calldata additionalInfo) external payable returns (uint256, uint256);

    /// @notice Adds the value to the caller's ledger; opens it if it is missing (then at least MIN_ACCOUNT_BALANCE).
    function depositFund() external payable;

    /// @notice Adds the value to another's ledger, as depositFund does.
    function depositFundFor(address recipient) external payable;

    /// @notice Changes what the caller keeps with its ledger: at most MAX_ADDITIONAL_INFO_LENGTH bytes.
    function updateAdditionalInfo(string calldata additionalInfo) external;

    /// @notice Sets money aside for a provider. Refunds pending there are taken back first, up to the amount. A new
    /// sub-account takes at least MIN_TRANSFER_AMOUNT.
    function transferFund(address provider, string calldata serviceName, uint256 amount) external;

    /// @notice For each provider: takes what has left its lock, then asks for all that is left. Providers without a
    /// sub-account and service contracts that fail are skipped.
    function retrieveFund(address[] calldata providers, string calldata serviceName) external;

    /// @notice Pays the caller out of its available balance, of which nothing or MIN_ACCOUNT_BALANCE must remain.
    /// When nothing is left anywhere the ledger and its sub-accounts are removed.
    function refund(uint256 amount) external;

    /// @notice Removes the caller's ledger and sub-accounts, all of them empty.
    function deleteLedger() external;

    /* SERVICE CONTRACTS */

    /// @notice Announces a charge. The total falls because the sub-account's balance did. Service contracts only.
    function spendFund(address user, uint256 amount) external;

    /// @notice Adds the value to the user's available balance. Service contracts only.
    function returnFund(address user) external payable;

    /* VIEWS */

    function MAX_ADDITIONAL_INFO_LENGTH() external view returns (uint256);

    function MAX_PROVIDERS_PER_BATCH() external view returns (uint256);

    function MAX_PROVIDERS_PER_USER_PER_SERVICE() external view returns (uint256);

    function MAX_SERVICES() external view returns (uint256);

    function MIN_ACCOUNT_BALANCE() external view returns (uint256);

    function MIN_TRANSFER_AMOUNT() external view returns (uint256);

    /// @notice The user's ledger; reverts with LedgerNotExists if there is none.
    function getLedger(address user) external view returns (Ledger memory);

    /// @notice Ledgers from `offset` on, at most `limit` (0: 50) of them, and their number.
    function getAllLedgers(
        uint256 offset,
        uint256 limit
    ) external view returns (Ledger[] memory ledgers, uint256 total);

    /// @notice The providers for whom the user has a sub-account in the service.
    function getLedgerProviders(address user, string calldata serviceName) external view returns (address[] memory);

    function getAllActiveServices() external view returns (ServiceInfo[] memory);

    /// @notice The versions registered of a type.
    function getAllVersions(
        string calldata serviceType
    )
        external
        view
        returns (string[] memory versions, address[] memory addresses, bool[] memory isRecommendedFlags);

    function getRecommendedService(
        string calldata serviceType
    ) external view returns (string memory version, address serviceAddress);

    /// @notice The service contract called `type-version`.
    function getServiceAddressByName(string calldata serviceName) external view returns (address);

    /// @notice All zero if it is not registered.
    function getServiceInfo(address serviceAddress) external view returns (ServiceInfo memory);

    function isRecommendedVersion(string calldata serviceType, string calldata version) external view returns (bool);

    /// @notice The governance contract.
    function owner() external view returns (address);

    /// @notice Always true.
    function initialized() external view returns (bool);

    /// @notice Whether deposits are halted. Everything else goes on.
    function paused() external view returns (bool);

    /* GOVERNANCE */

    /// @notice Registers a service contract for users to choose.
    function registerService(
        string calldata serviceType,
        string calldata version,
        address serviceAddress,
        string calldata description
    ) external;

    /// @notice Recommends a version of a type of service.
    function setRecommendedService(string calldata serviceType, string calldata version) external;

    /// @notice Halts deposits.
    function pause() external;

    /// @notice Takes deposits again.
    function unpause() external;
}
