import { parseAbi } from 'viem'

/**
 * The part of LedgerManager that a user calls, with the errors it may answer with.
 */
export const ledgerAbi = parseAbi([
  'struct Ledger { address user; uint256 availableBalance; uint256 totalBalance; string additionalInfo; }',
  'function MIN_ACCOUNT_BALANCE() view returns (uint256)',
  'function MIN_TRANSFER_AMOUNT() view returns (uint256)',
  'function depositFund() payable',
  'function getLedger(address user) view returns (Ledger)',
  'function getLedgerProviders(address user, string serviceName) view returns (address[])',
  'function getRecommendedService(string serviceType) view returns (string version, address serviceAddress)',
  'function getServiceAddressByName(string serviceName) view returns (address)',
  'function refund(uint256 amount)',
  'function retrieveFund(address[] providers, string serviceName)',
  'function transferFund(address provider, string serviceName, uint256 amount)',
  'error CallFailed()',
  'error InsufficientAvailableBalance(uint256 available, uint256 required)',
  'error InsufficientBalance(address user)',
  'error LedgerLocked()',
  'error LedgerNotExists(address user)',
  'error MinimumDepositRequired(uint256 provided, uint256 required)',
  'error NoRecommendedService(string serviceType)',
  'error ServiceNotFound(address serviceAddress)',
  'error TooManyProviders(uint256 requested, uint256 maximum)',
  'error TooManyProvidersForService(uint256 current, uint256 maximum)',
  'error TransferFailed()',
  'error ZeroAmountNotAllowed()',
])

/** The part of InferenceServing that a user calls, with the errors it may answer with. */
export const inferenceAbi = parseAbi([
  'struct Service { address provider; string serviceType; string url; uint256 inputPrice; uint256 outputPrice; uint256 updatedAt; string model; string verifiability; string additionalInfo; address teeSignerAddress; bool teeSignerAcknowledged; }',
  'struct Refund { uint256 index; uint256 amount; uint256 createdAt; bool processed; }',
  'struct Account { address user; address provider; uint256 nonce; uint256 balance; uint256 pendingRefund; Refund[] refunds; string additionalInfo; bool acknowledged; uint256 validRefundsLength; uint256 generation; uint256 revokedBitmap; }',
  'function accountExists(address user, address provider) view returns (bool)',
  'function getAccount(address user, address provider) view returns (Account)',
  'function getAccountsByUser(address user, uint256 offset, uint256 limit) view returns (Account[] accounts, uint256 total)',
  'function getAllServices(uint256 offset, uint256 limit) view returns (Service[] services, uint256 total)',
  'function getService(address provider) view returns (Service service)',
  'function ledgerAddress() view returns (address)',
  'function lockTime() view returns (uint256)',
  'function revokeAllTokens(address provider)',
  'function setSignedChargesOnly(address provider, bool enabled)',
  'function signedChargesOnlyFrom(address user, address provider) view returns (uint256)',
  'function serviceModel(address provider) view returns (bytes32)',
  'function voucherPaid(address user, address provider) view returns (uint128)',
  'error AccountNotExists(address user, address provider)',
  'error InvalidAddress(address addr)',
  'error ProviderCannotBeUser()',
  'error ServiceNotExist(address provider)',
  'error TooManyRefunds(address user, address provider)',
])
