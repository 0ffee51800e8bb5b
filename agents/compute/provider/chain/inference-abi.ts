import { parseAbi } from 'viem'

/** What a provider calls and reads of InferenceServing (compute.md §1.4, with vouchers). */
export const inferenceServingAbi = parseAbi([
  'struct Refund { uint256 index; uint256 amount; uint256 createdAt; bool processed; }',
  'struct Account { address user; address provider; uint256 nonce; uint256 balance; uint256 pendingRefund; Refund[] refunds; string additionalInfo; bool acknowledged; uint256 validRefundsLength; uint256 generation; uint256 revokedBitmap; }',
  'struct Service { address provider; string serviceType; string url; uint256 inputPrice; uint256 outputPrice; uint256 updatedAt; string model; string verifiability; string additionalInfo; address teeSignerAddress; bool teeSignerAcknowledged; }',
  'struct ServiceParams { string serviceType; string url; string model; string verifiability; uint256 inputPrice; uint256 outputPrice; string additionalInfo; address teeSignerAddress; }',
  'struct TEESettlementData { address user; address provider; uint256 totalFee; bytes32 requestsHash; uint256 nonce; bytes signature; }',
  'struct VoucherSettlement { address user; uint128 cumulativeFee; uint128 claim; uint64 expiry; uint64 generation; bytes signature; }',
  'function getAccount(address user, address provider) view returns (Account)',
  'function getService(address provider) view returns (Service)',
  'function serviceExists(address provider) view returns (bool)',
  'function voucherPaid(address user, address provider) view returns (uint128)',
  'function signedChargesOnlyFrom(address user, address provider) view returns (uint256)',
  'function lockTime() view returns (uint256)',
  'function MIN_PROVIDER_STAKE() view returns (uint256)',
  'function setServiceModel(bytes32 weightsRoot)',
  'function serviceModel(address provider) view returns (bytes32)',
  'function stakes() view returns (address)',
  'function addOrUpdateService(ServiceParams params) payable',
  'function removeService()',
  'function settleFeesWithTEE(TEESettlementData[] settlements) returns (uint8[] statuses)',
  'function previewSettlementResults(TEESettlementData[] settlements) view returns (address[] failedUsers, uint8[] failureReasons, address[] partialUsers, uint256[] partialAmounts)',
  'function settleVouchers(VoucherSettlement[] items) returns (uint8[] statuses)',
  'event TEESettlementResult(address indexed user, uint8 status, uint256 unsettledAmount)',
  'error AccountNotExists(address user, address provider)',
  'error ServiceNotExist(address provider)',
  'error InsufficientStake(uint256 provided, uint256 required)',
  'error CannotAddStakeWhenUpdating()',
  'error NoSettlementsProvided()',
  'error AdditionalInfoTooLong()',
  'error TooManySettlements(uint256 count, uint256 max)',
])

/** Events after which what was known of an account, or of the own service, no longer counts. */
export const watchedEvents = parseAbi([
  'event BalanceUpdated(address indexed user, address indexed provider, uint256 amount, uint256 pendingRefund)',
  'event RefundRequested(address indexed user, address indexed provider, uint256 indexed index, uint256 timestamp)',
  'event AccountDeleted(address indexed user, address indexed provider, uint256 refundedAmount)',
  'event TokenRevoked(address indexed user, address indexed provider, uint8 tokenId)',
  'event TokensRevoked(address indexed user, address indexed provider, uint8[] tokenIds)',
  'event AllTokensRevoked(address indexed user, address indexed provider, uint256 newGeneration)',
  'event ServiceUpdated(address indexed provider, string serviceType, string url, uint256 inputPrice, uint256 outputPrice, uint256 updatedAt, string model, string verifiability)',
  'event ProviderTEESignerAcknowledged(address indexed provider, address indexed teeSignerAddress, bool acknowledged)',
  'event SignedChargesOnly(address indexed user, address indexed provider, uint256 from)',
  'event VouchersSettled(address indexed provider, bytes32[] payments)',
  'event ServiceRemoved(address indexed service)',
])

/** What a provider calls and reads of the contract that holds the stakes (`stakes()` of InferenceServing). */
export const providerStakesAbi = parseAbi([
  'function addStake(address service) payable',
  'function requestUnstake(address service, uint256 amount)',
  'function claimStake(address service)',
  'function stakeOf(address service, address provider) view returns (uint256 bonded, uint256 unbonding, uint256 releaseAt)',
  'function unbondingSeconds() view returns (uint256)',
  'error InsufficientStake(uint256 provided, uint256 required)',
  'error StakeNotReleased(uint256 amount, uint256 releaseAt)',
  'error NotStaked(address service, address provider)',
])
