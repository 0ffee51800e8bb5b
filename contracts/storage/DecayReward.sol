// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import { IDecayReward } from "../interfaces/IDecayReward.sol";
import { PowHalf } from "./PowHalf.sol";
import { RewardPools } from "./RewardPools.sol";

/// @title DecayReward
/// @notice See {IDecayReward}.
contract DecayReward is IDecayReward, RewardPools {
    /* CONSTANTS AND IMMUTABLES */

    /// @dev 2^128 / ln(2).
    uint256 private constant _INV_LN2_X128 = 490923683258796565746369346286093237521;
    /// @dev A year of 372 days.
    uint256 private constant _MILLISECONDS_PER_YEAR = 32_140_800_000;
    uint256 private constant _MAX_RATE = 1_000;

    /// @inheritdoc IDecayReward
    uint16 public immutable annualMilliDecayRate;

    constructor(
        address authority_,
        address flow_,
        address market_,
        address mine_,
        uint256 poolSectors_,
        uint16 annualMilliDecayRate_
    ) RewardPools(authority_, flow_, market_, mine_, poolSectors_) {
        if (annualMilliDecayRate_ == 0 || annualMilliDecayRate_ > _MAX_RATE) {
            revert DecayRateOutOfBounds(annualMilliDecayRate_, 1, _MAX_RATE);
        }
        annualMilliDecayRate = annualMilliDecayRate_;
    }

    /* RULES OF RELEASE */

    /// @inheritdoc RewardPools
    function _released(Pool memory pool) internal view override returns (uint256) {
        uint256 elapsedMs = (block.timestamp - pool.lastUpdate) * 1000;
        // 2^40 seconds at the highest rate stay below 2^190.
        uint256 scaled = (elapsedMs * _INV_LN2_X128 * annualMilliDecayRate) >> 64;
        uint256 halvingsX64 = scaled / _MILLISECONDS_PER_YEAR / 1000;
        return (((1 << 96) - PowHalf.powHalf64X96(halvingsX64)) * pool.locked) >> 96;
    }

    /// @inheritdoc RewardPools
    function _basePaid(Pool memory) internal pure override returns (bool) {
        return true;
    }
}
