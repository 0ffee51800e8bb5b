// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import { Math } from "@openzeppelin/contracts/utils/math/Math.sol";

/// @title Difficulty
/// @notice How the mining target moves. A higher target is easier. Targets move in steps of 2^16.
library Difficulty {
    /// @notice Bound of the adjustment ratio, so that all products below fit 256 bits.
    uint256 internal constant MAX_RATIO = (1 << 15) - 1;
    /// @notice Bound of the answers aimed at, for the same reason.
    uint256 internal constant MAX_WANTED = (1 << 16) - 1;

    uint256 private constant _STEP_BITS = 16;
    uint256 private constant _MAX = type(uint256).max >> _STEP_BITS;

    /// @notice The target for a difficulty (1 or more) in attempts per answer.
    function toTarget(uint256 difficulty) internal pure returns (uint256) {
        return type(uint256).max / difficulty;
    }

    /// @notice The highest target that a floor of the difficulty allows; a floor of 0 is none.
    function maxTarget(uint256 minDifficulty) internal pure returns (uint256) {
        return minDifficulty == 0 ? type(uint256).max : toTarget(minDifficulty);
    }

    /// @notice The target after an epoch with `submissions` answers where `wanted` were aimed at.
    function adjust(
        uint256 target,
        uint256 submissions,
        uint256 wanted,
        uint256 ratio,
        uint256 minDifficulty
    ) internal pure returns (uint256) {
        uint256 current = target >> _STEP_BITS;
        uint256 expected = submissions == 0 ? _MAX : (current * wanted) / submissions;
        // From here on the target doubles, which is the most it may.
        expected = Math.min(expected, current * (ratio + 1));
        uint256 moved = (current * (ratio - 1) + expected) / ratio;
        moved = Math.min(Math.max(moved, current / 2), _MAX);
        // Never to zero, from where there would be no way back.
        return Math.min(Math.max(moved, 1) << _STEP_BITS, maxTarget(minDifficulty));
    }

    /// @notice The target after a mined epoch, and how many of the doublings before it may still be taken back.
    /// @dev Doublings are a guess: whoever is silent for an epoch, by choice or by accident, causes one, and the rule
    /// of {adjust} alone would take eleven epochs or more to undo it, paying up to twice the answers meanwhile. While
    /// there are doublings, an epoch with more answers than wanted therefore moves the target all the way that these
    /// justify instead of one part of it: by half at most, once for each doubling, and thus never past where it came
    /// from. An epoch with as many answers as wanted, or down to half of them, proves one doubling right.
    function next(
        uint256 target,
        uint256 doublings,
        uint256 submissions,
        uint256 wanted,
        uint256 ratio,
        uint256 minDifficulty
    ) internal pure returns (uint256 moved, uint256 left) {
        moved = adjust(target, submissions, wanted, ratio, minDifficulty);
        uint256 current = target >> _STEP_BITS;
        if (submissions <= wanted) {
            bool hasDoubled = moved >> _STEP_BITS >= 2 * current;
            if (hasDoubled) return (moved, doublings + 1);
            bool isProven = doublings > 0 && 2 * submissions >= wanted;
            return (moved, isProven ? doublings - 1 : doublings);
        }
        if (doublings == 0) return (moved, 0);
        // The product fits: the target is shifted by as many bits as what is wanted has.
        uint256 justified = Math.max((current * wanted) / submissions, Math.max(current / 2, 1));
        return (Math.min(moved, justified << _STEP_BITS), doublings - 1);
    }

    /// @notice The target after so many epochs without any answer: doubled for each, as far as the floor of the
    /// difficulty allows. Also says how often it was doubled.
    function easeAfter(
        uint256 target,
        uint256 epochs,
        uint256 minDifficulty
    ) internal pure returns (uint256 eased, uint256 doublings) {
        uint256 max = maxTarget(minDifficulty);
        // What would be shifted out is above the maximum.
        if (epochs < 256 && target <= max >> epochs) return (target << epochs, epochs);
        return (max, Math.log2(max / target));
    }
}
