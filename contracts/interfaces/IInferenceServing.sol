// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

// solhint-disable gas-struct-packing

import { IStakedService } from "./IStakedService.sol";
import { IServingAccounts } from "./IServingAccounts.sol";
import { ISignerApproval } from "./ISignerApproval.sol";

/// @notice What a provider offers. Prices in wei per token (or per unit of the service's type), `updatedAt` in seconds.
struct InferenceService {
    address provider;
    string serviceType;
    string url;
    uint256 inputPrice;
    uint256 outputPrice;
    uint256 updatedAt;
    string model;
    string verifiability;
    string additionalInfo;
    address teeSignerAddress;
    bool teeSignerAcknowledged;
}

/// @notice What a provider says of its service.
struct InferenceServiceParams {
    string serviceType;
    string url;
    string model;
    string verifiability;
    uint256 inputPrice;
    uint256 outputPrice;
    string additionalInfo;
    address teeSignerAddress;
}

/// @notice A pending refund.
struct InferenceRefund {
    uint256 index;
    uint256 amount;
    uint256 createdAt;
    bool processed;
}

/// @notice A sub-account. The generation counts how often all session tokens were revoked, the bitmap names those
/// revoked since.
struct InferenceAccount {
    address user;
    address provider;
    uint256 nonce;
    uint256 balance;
    uint256 pendingRefund;
    InferenceRefund[] refunds;
    string additionalInfo;
    bool acknowledged;
    uint256 validRefundsLength;
    uint256 generation;
    uint256 revokedBitmap;
}

/// @notice A charge signed by the provider's approved signer; see settleFeesWithTEE.
struct TEESettlementData {
    address user;
    address provider;
    uint256 totalFee;
    bytes32 requestsHash;
    uint256 nonce;
    bytes signature;
}

/// @notice A voucher signed by the user, and what the provider claims of it; see settleVouchers.
struct VoucherSettlement {
    address user;
    uint128 cumulativeFee;
    uint128 claim;
    uint64 expiry;
    uint64 generation;
    bytes signature;
}

/// @title Inference: services, sub-accounts and what providers charge
/// @notice Amounts in wei, times in seconds.
///
/// A provider charges in two ways. **By voucher**: the user signed how much the provider may have charged in all, over
/// the whole life of the sub-account; the provider claims what it served of that. Settling a voucher again pays
/// nothing, settling it after the balance grew pays the rest. **By signer**: the provider's approved signing key signed
/// the fee; a user can refuse this way with `setSignedChargesOnly`.
///
/// Voucher: EIP-712, domain {name "Weightless Inference", version "1", chainId, verifyingContract}, type
/// `Voucher(address user,address provider,uint128 cumulativeFee,uint64 expiry,uint64 generation)`; the signature has 65
/// bytes (r, s, v), or 64 (EIP-2098), or is what the user's contract accepts (EIP-1271).
/// Signed fee: domain {name "0G Inference Serving", version "1", ...}, type
/// `TEESettlement(bytes32 requestsHash,uint256 nonce,address provider,address user,uint256 totalFee)`.
interface IInferenceServing is IServingAccounts, IStakedService, ISignerApproval {
    /* EVENTS */

    event AllTokensRevoked(address indexed user, address indexed provider, uint256 newGeneration);
    /// @notice Part of the known surface; not emitted.
    event BatchBalanceUpdated(address[] users, uint256[] balances, uint256[] pendingRefunds);
    event ContractInitialized(address indexed owner, uint256 lockTime, address ledgerAddress);
    event ServiceRemoved(address indexed service);
    event ServiceUpdated(
        address indexed service,
        string serviceType,
        string url,
        uint256 inputPrice,
        uint256 outputPrice,
        uint256 updatedAt,
        string model,
        string verifiability
    );
    /// @notice A service serves the model whose weights have this storage root.
    event ServiceModelSet(address indexed provider, bytes32 indexed weightsRoot);
    /// @notice What became of one signed fee; `unsettledAmount` of it was not paid.
    event TEESettlementResult(address indexed user, uint8 status, uint256 unsettledAmount);
    event TokenRevoked(address indexed user, address indexed provider, uint8 tokenId);
    event TokensRevoked(address indexed user, address indexed provider, uint8[] tokenIds);
    /// @notice Vouchers were paid: 32 bytes for each, the user (20 bytes) and what it paid now (12 bytes, wei).
    event VouchersSettled(address indexed provider, bytes payments);

    /* ERRORS */

    error BatchSizeTooLarge(uint256 size, uint256 max);
    error CallerNotLedger(address caller);
    error InvalidAddress(address addr);
    /// @notice Part of the known surface; not raised.
    error InvalidTEESignature(string reason);
    error LimitTooLarge(uint256 limit, uint256 max);
    error LockTimeOutOfRange(uint256 lockTime, uint256 min, uint256 max);
    error NoSettlementsProvided();
    /// @notice Packed vouchers have 117 bytes each.
    error PackedLengthInvalid(uint256 length);
    error ProviderCannotBeUser();
    error TooManySettlements(uint256 count, uint256 max);
    error TransferFailed();

    /* SERVICES */

    /// @notice Registers or changes the caller's service. A new one bonds the value sent, at least
    /// MIN_PROVIDER_STAKE; a change takes no value. A change of type, model, verifiability, signer or additional info
    /// ends the signer's approval, a change of URL or prices does not.
    function addOrUpdateService(InferenceServiceParams calldata params) external payable;

    /// @notice Says which weights the caller's service runs: their storage root, zero for unknown. A change ends the
    /// signer's approval.
    function setServiceModel(bytes32 weightsRoot) external;

    /// @notice Ends the caller's service. Its stake begins to unbond.
    function removeService() external;

    function getService(address provider) external view returns (InferenceService memory service);

    /// @notice Storage root of the weights that the service runs; zero if it does not say.
    function serviceModel(address provider) external view returns (bytes32 weightsRoot);

    function serviceExists(address provider) external view returns (bool);

    function getAllServices(
        uint256 offset,
        uint256 limit
    ) external view returns (InferenceService[] memory services, uint256 total);

    /* SESSION TOKENS */

    /// @notice Revokes one of the caller's session tokens with a provider, in force at once.
    function revokeToken(address provider, uint8 tokenId) external;

    function revokeTokens(address provider, uint8[] calldata tokenIds) external;

    /// @notice Revokes all session tokens and vouchers signed so far: the generation rises by one. Vouchers of the
    /// generation before can still be settled for the lock time, as they may pay for what was served.
    function revokeAllTokens(address provider) external;

    function isTokenRevoked(address user, address provider, uint8 tokenId) external view returns (bool);

    /* CHARGING */

    /// @notice Settles up to 100 vouchers given to the caller, and pays it. No item reverts the others.
    /// @return statuses For each item: 0 paid in full, 1 paid as far as the balance went, 2 no sub-account, 3 expired,
    /// 4 wrong generation, 5 wrong signature, 6 claim above the voucher.
    function settleVouchers(VoucherSettlement[] calldata items) external returns (uint8[] memory statuses);

    /// @notice The same with less calldata: 117 bytes for each voucher, user (20), cumulative fee (12), claim (12),
    /// expiry (5), generation (4), signature in the form of EIP-2098 (64). Keys alone sign here, no contracts.
    /// @return statuses One byte for each item.
    function settlePackedVouchers(bytes calldata items) external returns (bytes memory statuses);

    /// @notice What vouchers of the user have paid the provider so far, over the whole life of the sub-account.
    function voucherPaid(address user, address provider) external view returns (uint128);

    /// @notice Settles up to 50 fees that the caller's approved signer signed, and pays it. No item reverts the others.
    /// @return statuses For each item: 0 paid, 1 paid as far as the balance went, 2 wrong provider or no service,
    /// 3 no acknowledged signer or the user takes vouchers only, 4 nonce not above the last, 5 wrong signature or no
    /// sub-account.
    function settleFeesWithTEE(TEESettlementData[] calldata settlements) external returns (uint8[] memory statuses);

    /// @notice What settleFeesWithTEE called by the same account would do; every item against the state as it is.
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
        );

    /* VIEWS */

    function getAccount(address user, address provider) external view returns (InferenceAccount memory);

    function getAccountsByProvider(
        address provider,
        uint256 offset,
        uint256 limit
    ) external view returns (InferenceAccount[] memory accounts, uint256 total);

    function getAccountsByUser(
        address user,
        uint256 offset,
        uint256 limit
    ) external view returns (InferenceAccount[] memory accounts, uint256 total);

    function getAllAccounts(
        uint256 offset,
        uint256 limit
    ) external view returns (InferenceAccount[] memory accounts, uint256 total);

    /// @notice The users' sub-accounts with the caller; all zero where there is none.
    function getBatchAccountsByUsers(
        address[] calldata users
    ) external view returns (InferenceAccount[] memory accounts);
}
