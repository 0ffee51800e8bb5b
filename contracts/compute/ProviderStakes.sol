// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import { AccessManaged } from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import { ReentrancyGuardTransient } from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import { IProviderStakes } from "../interfaces/IProviderStakes.sol";
import { IStakedService } from "../interfaces/IStakedService.sol";

/// @title ProviderStakes
/// @notice See {IProviderStakes}. What lies here is the sum of all that is bonded and unbonding.
contract ProviderStakes is IProviderStakes, AccessManaged, ReentrancyGuardTransient {
    /* TYPES */

    struct Stake {
        uint128 bonded;
        uint128 unbonding;
        uint64 releaseAt;
        uint64 slashedAt;
    }

    /* CONSTANTS AND IMMUTABLES */

    uint256 private constant _SLASH_INTERVAL = 1 days;
    /// @dev At most a quarter is taken at a time.
    uint256 private constant _SLASH_DIVISOR = 4;
    address private constant _BURN = address(0xdEaD);

    /// @inheritdoc IProviderStakes
    uint256 public immutable unbondingSeconds;

    /* STORAGE */

    mapping(address service => mapping(address provider => Stake)) private _stakes;
    address private _slasher;
    address private _nextSlasher;
    uint256 private _nextSlasherFrom;

    /// @param authority_ Who governs; see {Governance}.
    constructor(address authority_, uint256 unbondingSeconds_) AccessManaged(authority_) {
        unbondingSeconds = unbondingSeconds_;
    }

    /* SERVICE CONTRACTS */

    /// @inheritdoc IProviderStakes
    function bond(address provider) external payable {
        _bond(msg.sender, provider);
    }

    /// @inheritdoc IProviderStakes
    function unbondAll(address provider) external {
        _unbond(msg.sender, provider, _stakes[msg.sender][provider].bonded);
    }

    /* PROVIDERS */

    /// @inheritdoc IProviderStakes
    function addStake(address service) external payable {
        if (_stakes[service][msg.sender].bonded == 0) revert NotStaked(service, msg.sender);
        _bond(service, msg.sender);
    }

    /// @inheritdoc IProviderStakes
    function requestUnstake(address service, uint256 amount) external {
        uint256 bonded = _stakes[service][msg.sender].bonded;
        uint256 minimum = IStakedService(service).MIN_PROVIDER_STAKE();
        uint256 left = amount > bonded ? 0 : bonded - amount;
        if (amount > bonded || left < minimum) revert InsufficientStake(left, minimum);
        _unbond(service, msg.sender, amount);
    }

    /// @inheritdoc IProviderStakes
    function claimStake(address service) external nonReentrant {
        Stake storage stake = _stakes[service][msg.sender];
        uint256 amount = stake.unbonding;
        if (amount == 0 || block.timestamp < stake.releaseAt) revert StakeNotReleased(amount, stake.releaseAt);
        stake.unbonding = 0;
        emit ProviderStakeReturned(msg.sender, amount);
        _send(msg.sender, amount);
    }

    /// @inheritdoc IProviderStakes
    function stakeOf(
        address service,
        address provider
    ) external view returns (uint256 bonded, uint256 unbonding, uint256 releaseAt) {
        Stake storage stake = _stakes[service][provider];
        return (stake.bonded, stake.unbonding, stake.releaseAt);
    }

    /* SLASHING */

    /// @inheritdoc IProviderStakes
    function slash(address service, address provider, uint256 amount) external nonReentrant {
        if (msg.sender != slasher()) revert CallerNotSlasher(msg.sender);
        Stake storage stake = _stakes[service][provider];
        uint256 bonded = stake.bonded;
        uint256 unbonding = stake.unbonding;
        uint256 max = (bonded + unbonding) / _SLASH_DIVISOR;
        uint256 from = stake.slashedAt == 0 ? 0 : stake.slashedAt + _SLASH_INTERVAL;
        if (amount == 0 || amount > max || block.timestamp < from) revert SlashNotAllowed(amount, max, from);

        uint256 fromBonded = amount < bonded ? amount : bonded;
        // Parts of what the fields held fit the fields.
        stake.bonded = uint128(bonded - fromBonded);
        stake.unbonding = uint128(unbonding - (amount - fromBonded));
        stake.slashedAt = uint64(block.timestamp);
        uint256 reward = amount / 2;
        emit StakeSlashed(service, provider, amount, reward);
        if (bonded - fromBonded < IStakedService(service).MIN_PROVIDER_STAKE()) {
            IStakedService(service).onStakeShort(provider);
        }
        _send(_BURN, amount - reward);
        _send(msg.sender, reward);
    }

    /// @inheritdoc IProviderStakes
    function slasher() public view returns (address) {
        return block.timestamp < _nextSlasherFrom ? _slasher : _nextSlasher;
    }

    /// @inheritdoc IProviderStakes
    function announcedSlasher() external view returns (address slasher_, uint256 from) {
        return (_nextSlasher, _nextSlasherFrom);
    }

    /// @inheritdoc IProviderStakes
    function announceSlasher(address slasher_) external restricted {
        _slasher = slasher();
        _nextSlasher = slasher_;
        _nextSlasherFrom = block.timestamp + 2 * unbondingSeconds;
        emit SlasherAnnounced(slasher_, _nextSlasherFrom);
    }

    /* INTERNAL */

    function _bond(address service, address provider) private {
        // More than 2^128 wei do not exist.
        _stakes[service][provider].bonded += uint128(msg.value);
        emit StakeBonded(service, provider, msg.value);
    }

    function _unbond(address service, address provider, uint256 amount) private {
        Stake storage stake = _stakes[service][provider];
        // The amount is at most what is bonded.
        stake.bonded -= uint128(amount);
        stake.unbonding += uint128(amount);
        stake.releaseAt = uint64(block.timestamp + unbondingSeconds);
        emit StakeUnbonding(service, provider, amount, stake.releaseAt);
    }

    function _send(address to, uint256 amount) private {
        // solhint-disable-next-line avoid-low-level-calls
        (bool ok, ) = to.call{ value: amount }("");
        if (!ok) revert TransferFailed();
    }
}
