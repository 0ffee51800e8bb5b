// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import { AccessManaged } from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import { SafeCast } from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import { IRewardPools } from "../interfaces/IRewardPools.sol";

/// @title RewardPools
/// @notice See {IRewardPools}. How fast a pool is released is left to the contract that inherits.
/// @dev balance = sum of pools (locked + claimable) + totalBaseReward + serviceFees + sum of payments, at any time.
abstract contract RewardPools is IRewardPools, AccessManaged {
    using SafeCast for uint256;

    /* TYPES */

    struct Pool {
        // One word: all that a fee touches.
        uint128 locked;
        uint40 startTime;
        uint40 lastUpdate;
        // One word: what claims add.
        uint128 claimable;
        uint128 distributed;
    }

    /* CONSTANTS AND IMMUTABLES */

    uint256 private constant _MIN_POOL_SECTORS = 1 << 10;
    uint256 private constant _MAX_POOL_SECTORS = 1 << 25;
    uint256 private constant _BPS = 10_000;
    uint256 private constant _MAX_BASE_REWARD = 1_000 ether;

    /// @inheritdoc IRewardPools
    address public immutable flow;
    /// @inheritdoc IRewardPools
    address public immutable market;
    /// @inheritdoc IRewardPools
    address public immutable mine;
    /// @inheritdoc IRewardPools
    uint256 public immutable poolSectors;

    /* STORAGE */

    mapping(uint256 pricingIndex => Pool) internal _pools;
    /// @inheritdoc IRewardPools
    uint256 public serviceFees;
    /// @inheritdoc IRewardPools
    address public treasury;
    /// @inheritdoc IRewardPools
    uint256 public baseReward;
    /// @inheritdoc IRewardPools
    uint256 public totalBaseReward;
    /// @inheritdoc IRewardPools
    mapping(address payee => uint256) public payments;

    constructor(
        address authority_,
        address flow_,
        address market_,
        address mine_,
        uint256 poolSectors_
    ) AccessManaged(authority_) {
        bool isPowerOfTwo = poolSectors_ != 0 && poolSectors_ & (poolSectors_ - 1) == 0;
        if (!isPowerOfTwo || poolSectors_ < _MIN_POOL_SECTORS || poolSectors_ > _MAX_POOL_SECTORS) {
            revert PoolSectorsOutOfBounds(poolSectors_, _MIN_POOL_SECTORS, _MAX_POOL_SECTORS);
        }
        flow = flow_;
        market = market_;
        mine = mine_;
        poolSectors = poolSectors_;
    }

    /* FILLING */

    /// @inheritdoc IRewardPools
    function fillReward(
        uint256 beforeLength,
        uint256 paddingSectors,
        uint256 uploadSectors,
        uint256 serviceFeeRateBps
    ) external payable {
        if (msg.sender != flow) revert CallerIsNotFlow(msg.sender);
        uint256 kept;
        uint256 upload = msg.value;
        if (paddingSectors > 0) {
            uint256 padding = (msg.value * paddingSectors) / (uploadSectors + paddingSectors);
            upload -= padding;
            kept = _fill(beforeLength, paddingSectors, padding, serviceFeeRateBps);
        }
        kept += _fill(beforeLength + paddingSectors, uploadSectors, upload, serviceFeeRateBps);
        if (kept > 0) serviceFees += kept;
    }

    /// @inheritdoc IRewardPools
    function donate() external payable {
        totalBaseReward += msg.value;
        emit Donated(msg.sender, msg.value);
    }

    /* CLAIMING */

    /// @inheritdoc IRewardPools
    function claimMineReward(uint256 pricingIndex, address beneficiary, bytes32 minerId) external {
        if (msg.sender != mine) revert CallerIsNotMine(msg.sender);
        Pool memory pool = _pools[pricingIndex];
        uint256 amount;
        if (pool.startTime != 0) {
            uint256 released = _released(pool);
            pool.locked -= released.toUint128();
            uint256 claimable = pool.claimable + released;
            amount = claimable / 2;
            pool.claimable = (claimable - amount).toUint128();
            pool.distributed += amount.toUint128();
        }
        uint256 base = _basePaid(pool) ? baseReward : 0;
        // Seconds fit 40 bits for another 34,000 years.
        pool.lastUpdate = uint40(block.timestamp);
        _pools[pricingIndex] = pool;

        if (base > 0) {
            uint256 donations = totalBaseReward;
            if (base > donations) base = donations;
            totalBaseReward = donations - base;
            amount += base;
        }
        if (amount > 0) {
            payments[beneficiary] += amount;
            emit DistributeReward(pricingIndex, beneficiary, minerId, amount);
        }
    }

    /// @inheritdoc IRewardPools
    function withdrawPayments(address payable payee) external {
        uint256 amount = payments[payee];
        if (amount == 0) revert NothingDue(payee);
        payments[payee] = 0;
        emit Withdrawn(payee, amount);
        // solhint-disable-next-line avoid-low-level-calls
        (bool ok, ) = payee.call{ value: amount }("");
        if (!ok) revert PaymentRefused(payee, amount);
    }

    /// @inheritdoc IRewardPools
    function collectServiceFees() external {
        if (treasury == address(0)) revert TreasuryMissing();
        _creditTreasury();
    }

    /* GOVERNANCE */

    /// @inheritdoc IRewardPools
    function setBaseReward(uint256 amount) external restricted {
        if (amount > _MAX_BASE_REWARD) revert BaseRewardTooHigh(amount, _MAX_BASE_REWARD);
        emit BaseRewardChanged(baseReward, amount);
        baseReward = amount;
    }

    /// @inheritdoc IRewardPools
    function setTreasury(address treasury_) external restricted {
        if (treasury_ == address(0)) revert TreasuryMissing();
        if (treasury != address(0)) _creditTreasury();
        emit TreasuryChanged(treasury, treasury_);
        treasury = treasury_;
    }

    /* VIEWS */

    /// @inheritdoc IRewardPools
    function rewards(uint256 pricingIndex) external view returns (uint128, uint128, uint128, uint40, uint40) {
        Pool memory pool = _pools[pricingIndex];
        return (pool.locked, pool.claimable, pool.distributed, pool.startTime, pool.lastUpdate);
    }

    /* RULES OF RELEASE */

    /// @dev What a started pool releases now; at most what it has locked.
    function _released(Pool memory pool) internal view virtual returns (uint256);

    /// @dev Whether a proof in this pool earns the base reward.
    function _basePaid(Pool memory pool) internal view virtual returns (bool);

    /* INTERNAL */

    /// @dev Spreads a value over the pools of `sectors` sectors from `start`. Returns what stays outside of them: the
    /// service fee and the rounding dust (less than a wei per pool).
    function _fill(uint256 start, uint256 sectors, uint256 value, uint256 rateBps) private returns (uint256 kept) {
        kept = (value * rateBps) / _BPS;
        uint256 rest = value - kept;
        uint256 end = start + sectors;
        uint256 first = start / poolSectors;
        uint256 last = (end - 1) / poolSectors;
        bool finishesLast = end % poolSectors == 0;
        if (first == last) {
            _add(first, rest, finishesLast);
            return kept;
        }
        uint256 perPool = (rest * poolSectors) / sectors;
        uint256 firstShare = (perPool * (poolSectors - (start % poolSectors))) / poolSectors;
        uint256 lastShare = (perPool * (end - last * poolSectors)) / poolSectors;
        _add(first, firstShare, true);
        for (uint256 i = first + 1; i < last; ++i) _add(i, perPool, true);
        _add(last, lastShare, finishesLast);
        kept += rest - firstShare - (last - first - 1) * perPool - lastShare;
    }

    function _add(uint256 pricingIndex, uint256 amount, bool finished) private {
        Pool storage pool = _pools[pricingIndex];
        if (pool.startTime != 0) revert PoolStarted(pricingIndex);
        pool.locked += amount.toUint128();
        if (finished) {
            // Seconds fit 40 bits for another 34,000 years.
            pool.startTime = uint40(block.timestamp);
            pool.lastUpdate = uint40(block.timestamp);
        }
    }

    function _creditTreasury() private {
        payments[treasury] += serviceFees;
        serviceFees = 0;
    }
}
