// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import { IDecayReward } from "../../../contracts/interfaces/IDecayReward.sol";
import { DecayReward } from "../../../contracts/storage/DecayReward.sol";
import { PowHalf } from "../../../contracts/storage/PowHalf.sol";
import { StorageTest } from "../support/StorageTest.sol";

/// @notice Pools that decay, and the powers behind them.
contract DecayRewardTest is StorageTest {
    uint256 private constant ONE = 1 << 96;

    /// The values of `test/vectors/storage-reward.json`.
    function test_PowHalfVectors() public pure {
        eq(PowHalf.powHalf64X96(0), 79228162514264337593543950336, "2^-(0 / 2^64)");
        eq(PowHalf.powHalf64X96(1), 79228162514264337590566905864, "2^-(1 / 2^64)");
        eq(PowHalf.powHalf64X96(1000000), 79228162514261360549072130819, "2^-(1000000 / 2^64)");
        eq(PowHalf.powHalf64X96(18014398509481984), 79174550995675418297349306542, "2^-(18014398509481984 / 2^64)");
        eq(PowHalf.powHalf64X96(18446744073709551616), 39614081257132168796771975168, "2^-(18446744073709551616 / 2^64)");
        eq(PowHalf.powHalf64X96(9223372036854775808), 56022770974786139918731938227, "2^-(9223372036854775808 / 2^64)");
        eq(PowHalf.powHalf64X96(27670116110564327424), 28011385487393069959365969113, "2^-(27670116110564327424 / 2^64)");
        eq(PowHalf.powHalf64X96(36893488147419103232), 19807040628566084398385987584, "2^-(36893488147419103232 / 2^64)");
        eq(PowHalf.powHalf64X96(1234567890123456789), 75636745260177485759395663456, "2^-(1234567890123456789 / 2^64)");
        eq(PowHalf.powHalf64X96(184467440737095516160), 77371252455336267181195264, "2^-(184467440737095516160 / 2^64)");
        eq(PowHalf.powHalf64X96(590295810358705651712), 18446744073709551616, "2^-(590295810358705651712 / 2^64)");
    }

    /// A larger exponent never gives a larger power, up to the rounding of the series; whole exponents shift.
    function testFuzz_PowHalfFalls(uint256 exponent, uint256 more) public pure {
        exponent = bound(exponent, 0, 100 << 64);
        more = bound(more, 1 << 20, 1 << 64);
        isTrue(PowHalf.powHalf64X96(exponent + more) <= PowHalf.powHalf64X96(exponent), "falls");
        eq(PowHalf.powHalf64X96(exponent + (1 << 64)), PowHalf.powHalf64X96(exponent) >> 1, "halves");
        isTrue(PowHalf.powHalf64X96(exponent) <= ONE, "at most one");
    }

    /// Time in one step or in two releases the same, up to rounding, and never more than there is.
    function testFuzz_DecayIsSteady(uint256 first, uint256 second) public {
        first = bound(first, 1, 3650 days);
        second = bound(second, 1, 3650 days);
        DecayReward once = _decaying(1e24);
        DecayReward twice = _decaying(1e24);
        vm.warp(vm.getBlockTimestamp() + first);
        _claim(twice);
        vm.warp(vm.getBlockTimestamp() + second);
        _claim(twice);
        _claim(once);
        (uint128 lockedOnce, , , , ) = once.rewards(0);
        (uint128 lockedTwice, , , , ) = twice.rewards(0);
        uint256 difference = lockedOnce > lockedTwice ? lockedOnce - lockedTwice : lockedTwice - lockedOnce;
        atMost(difference, 1e24 / 1e12, "one step or two");
    }

    function test_RateIsBounded() public {
        vm.expectRevert(abi.encodeWithSelector(IDecayReward.DecayRateOutOfBounds.selector, 0, 1, 1000));
        new DecayReward(address(governance), ALICE, BOB, MINE, 1 << 25, 0);
        vm.expectRevert(abi.encodeWithSelector(IDecayReward.DecayRateOutOfBounds.selector, 1001, 1, 1000));
        new DecayReward(address(governance), ALICE, BOB, MINE, 1 << 25, 1001);
    }

    /// Pool 0, full and started now, decaying 4 % a year.
    function _decaying(uint256 value) private returns (DecayReward decaying) {
        decaying = new DecayReward(address(governance), address(this), BOB, MINE, 1 << 25, 40);
        vm.deal(address(this), value);
        decaying.fillReward{ value: value }(0, 0, 1 << 25, 0);
    }

    function _claim(DecayReward decaying) private {
        vm.prank(MINE);
        decaying.claimMineReward(0, BOB, "id");
    }
}
