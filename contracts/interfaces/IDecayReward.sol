// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import { IRewardPools } from "./IRewardPools.sol";

/// @title Reward pools that are never empty: what is locked decays exponentially
/// @notice `locked(t) = locked * e^(-rate * t)`, with `t` in years of 372 days. The base reward is always paid. For
/// data that is paid for once and kept for ever.
interface IDecayReward is IRewardPools {
    /// @notice A rate outside of its bounds.
    error DecayRateOutOfBounds(uint256 rate, uint256 min, uint256 max);

    /// @notice Decay per year in thousandths: 1 .. 1000; 40 means 4 %, a half-life of 17.3 years.
    function annualMilliDecayRate() external view returns (uint16);
}
