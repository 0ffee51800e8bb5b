// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import { Blake2b } from "../../../contracts/storage/Blake2b.sol";
import { Difficulty } from "../../../contracts/storage/Difficulty.sol";
import { Pora } from "../../../contracts/storage/Pora.sol";
import { Test } from "../support/Test.sol";

/// @notice The maths of mining against the values of `test/vectors/storage-pora.json`, and in general.
contract PoraMathsTest is Test {
    /* BLAKE2B */

    function test_Blake2bVectors() public view {
        _hashes("", hex"786a02f742015903c6c6fd852552d272912f4740e15847618a86e217f71f5419d25e1031afee585313896444934eb04b903a685b1448b755d56f701afe9be2ce");
        _hashes("abc", hex"ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b74b12bb6fdbffa2d17d87c5392aab792dc252d5de4533cc9518d38aa8dbf1925ab92386edd4009923");
        _hashes(new bytes(128), hex"865939e120e6805438478841afb739ae4250cf372653078a065cdcfffca4caf798e6d462b65d658fc165782640eded70963449ae1500fb0f24981d7727e22c41");
        _hashes(new bytes(129), hex"a60edba343e7a6933c14d203d2e535f35e6deb6c8a4f8e624c1a6f6e2612860447cb4c37e5aa11bcf03b7c3eea7228eb8b998f922794f2d1b8f2dc63f03bd3fa");
    }

    /// Memory that was used before does not show in the hash.
    function testFuzz_Blake2bIgnoresOldMemory(bytes memory data, uint256 dirt) public view {
        (bytes32 high, bytes32 low) = Blake2b.hash(data);
        assembly ("memory-safe") {
            // Fills what the next allocation gets.
            let free := mload(0x40)
            for { let i := 0 } lt(i, 0x400) { i := add(i, 0x20) } {
                mstore(add(free, i), not(add(dirt, i)))
            }
        }
        (bytes32 again, bytes32 lowAgain) = Blake2b.hash(data);
        eq(high, again, "high");
        eq(low, lowAgain, "low");
    }

    /* DIFFICULTY */

    function test_DifficultyVectors() public pure {
        _adjusts(0x00022f3d9397b043b874df5e583356270c6cae376eba812918b66895a3f9fe16, 10, 10, 20, 0, 0x00022f3d9397b043b874df5e583356270c6cae376eba812918b66895a3f90000);
        _adjusts(0x00022f3d9397b043b874df5e583356270c6cae376eba812918b66895a3f9fe16, 20, 10, 20, 0, 0x000221426fe718a86d71f36262cba732df505d0fa58f7121ab4b72c519790000);
        _adjusts(0x00022f3d9397b043b874df5e583356270c6cae376eba812918b66895a3f9fe16, 1, 10, 20, 0, 0x00032ae61602592efea97715997da352386a630393c1a1aeca3bb13f60f50000);
        _adjusts(0x00022f3d9397b043b874df5e583356270c6cae376eba812918b66895a3f9fe16, 1, 100, 20, 0, 0x00045e7b272f608770e9bebcb066ac4e18d95c6edd750252316cd12b47f20000);
        _adjusts(0x00022f3d9397b043b874df5e583356270c6cae376eba812918b66895a3f9fe16, 1, 100, 1, 0, 0x00045e7b272f608770e9bebcb066ac4e18d95c6edd750252316cd12b47f20000);
        _adjusts(0x00022f3d9397b043b874df5e583356270c6cae376eba812918b66895a3f9fe16, 200, 1, 1, 0, 0x0001179ec9cbd821dc3a6faf2c19ab138636571bb75d40948c5b344ad1fc0000);
        _adjusts(0xffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff, 5, 10, 20, 0, 0xffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff0000);
        _adjusts(0x5555555555555555555555555555555555555555555555555555555555555555, 5, 10, 2, 2, 0x7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffff0000);
        _adjusts(0x000010c6f7a0b5ed8d36b4c7f34938583621fafc8b0079a2834d26fa3fcc9ea9, 137, 100, 20, 0, 0x0000108cf8353e7efdf23aef7b1e77c544b9709707d11970c31ddcbc02340000);
        _adjusts(0x00000000000000000000000000000000000000018ee90ff6c373e0ee4e3f0ad2, 99, 100, 20, 0, 0x00000000000000000000000000000000000000018f1ca37ec66553ba31100000);
    }

    /// A step moves the target in the right direction, by a factor of two at most, and never to zero.
    function testFuzz_DifficultyStepIsBounded(
        uint256 target,
        uint256 submissions,
        uint256 wanted,
        uint256 ratio
    ) public pure {
        target = bound(target, 1 << 16, type(uint256).max);
        submissions = bound(submissions, 0, 2 * Difficulty.MAX_WANTED);
        wanted = bound(wanted, 1, Difficulty.MAX_WANTED);
        ratio = bound(ratio, 1, Difficulty.MAX_RATIO);
        uint256 moved = Difficulty.adjust(target, submissions, wanted, ratio, 0);
        isTrue(moved > 0, "never zero");
        isTrue(moved >> 16 >= target >> 17, "half at least");
        isTrue(moved >> 17 <= target >> 16, "double at most");
        if (submissions > wanted) isTrue(moved >> 16 <= target >> 16, "harder after many");
        if (submissions < wanted) isTrue(moved >> 16 >= (target >> 16) - 1, "easier after few");
    }

    /// Easing is doubling, up to the floor of the difficulty, however many epochs it is for.
    function testFuzz_EasingDoubles(uint256 target, uint256 epochs, uint256 floor) public pure {
        epochs = bound(epochs, 0, 600);
        floor = bound(floor, 0, 1 << 40);
        uint256 max = Difficulty.maxTarget(floor);
        target = bound(target, 1, max);
        uint256 expected = target;
        uint256 count;
        for (uint256 i = 0; i < epochs; ++i) {
            if (expected <= max / 2) ++count;
            expected = expected > max / 2 ? max : expected * 2;
        }
        (uint256 eased, uint256 doublings) = Difficulty.easeAfter(target, epochs, floor);
        eq(eased, expected, "doubled");
        eq(doublings, count, "and counted, without the step to the floor");
    }

    /// However many epochs were silent: as many epochs with all the answers there may be bring the difficulty back to
    /// where it was, and no further than the rule of the specification from there on.
    function testFuzz_DoublingsAreTakenBack(uint256 target, uint256 silent, uint256 wanted, uint256 ratio) public pure {
        silent = bound(silent, 0, 100);
        target = bound(target, 1 << 16, type(uint256).max >> silent);
        wanted = bound(wanted, 1, Difficulty.MAX_WANTED);
        ratio = bound(ratio, 1, Difficulty.MAX_RATIO);
        (uint256 moved, uint256 doublings) = Difficulty.easeAfter(target, silent, 0);
        eq(doublings, silent, "as many as epochs");
        for (uint256 i = 0; i < silent; ++i) {
            (moved, doublings) = Difficulty.next(moved, doublings, 2 * wanted, wanted, ratio, 0);
        }
        eq(moved >> 16, target >> 16, "back where it was");
        eq(doublings, 0, "nothing left");
        uint256 expected = Difficulty.adjust(moved, 2 * wanted, wanted, ratio, 0);
        (moved, doublings) = Difficulty.next(moved, doublings, 2 * wanted, wanted, ratio, 0);
        eq(moved, expected, "from there on as specified");
    }

    /// With nothing to take back a step is that of the specification. With something, only an epoch with more answers
    /// than wanted moves further: not below half, and not past what its answers justify.
    function testFuzz_StepIsAsSpecifiedWithoutDoublings(
        uint256 target,
        uint256 doublings,
        uint256 submissions,
        uint256 wanted,
        uint256 ratio,
        uint256 floor
    ) public pure {
        floor = bound(floor, 0, 1 << 40);
        target = bound(target, 1 << 16, Difficulty.maxTarget(floor));
        wanted = bound(wanted, 1, Difficulty.MAX_WANTED);
        submissions = bound(submissions, 0, 2 * wanted);
        ratio = bound(ratio, 1, Difficulty.MAX_RATIO);
        doublings = bound(doublings, 0, 255);
        uint256 specified = Difficulty.adjust(target, submissions, wanted, ratio, floor);
        (uint256 moved, uint256 left) = Difficulty.next(target, 0, submissions, wanted, ratio, floor);
        eq(moved, specified, "as specified");
        (moved, left) = Difficulty.next(target, doublings, submissions, wanted, ratio, floor);
        if (submissions > wanted && doublings > 0) {
            eq(left, doublings - 1, "one is taken back");
            isTrue(moved <= specified && moved > 0, "further, and never to zero");
            isTrue(moved >> 16 >= target >> 17, "half at least");
            isTrue(moved == specified || (moved >> 16) + 1 >= ((target >> 16) * wanted) / submissions, "justified");
        } else {
            eq(moved, specified, "as specified");
            bool hasDoubled = submissions <= wanted && moved >> 16 >= 2 * (target >> 16);
            bool isProven = doublings > 0 && submissions <= wanted && 2 * submissions >= wanted;
            uint256 expected = hasDoubled ? doublings + 1 : isProven ? doublings - 1 : doublings;
            eq(left, expected, "a doubling counts, about as many answers as wanted prove one right");
        }
    }

    /* TARGET */

    function test_TargetScaleVectors() public pure {
        _scales(16384, 0xffffffffffffffff, 0x10000000000000000);
        _scales(16384, 0xfffffffffffffff8, 0x80000000000000000);
        _scales(16385, 0xfffffffffffffffe, 0x20008000000000000);
        _scales(68719476736, 0xffffffffffffffff, 0x10000000000000000);
        _scales(68719476736, 0xfffffffffffffffe, 0x10000000000000000);
        _scales(68719476736, 0xfffffffffffffffc, 0x20000000000000000);
        _scales(51539607552, 0xfffffffffffffffe, 0x15555555555555555);
    }

    function testFuzz_ShardsCountsClearedBits(uint8 bits) public pure {
        uint256 count = bound(bits, 0, 63);
        eq(Pora.shards(type(uint64).max << uint64(count)), 1 << count, "low bits");
        eq(Pora.shards(type(uint64).max >> uint64(count)), 1 << count, "high bits");
    }

    function _hashes(bytes memory data, bytes memory expected) private view {
        (bytes32 high, bytes32 low) = Blake2b.hash(data);
        eq(keccak256(abi.encodePacked(high, low)), keccak256(expected), "hash");
    }

    function _adjusts(
        uint256 target,
        uint256 submissions,
        uint256 wanted,
        uint256 ratio,
        uint256 floor,
        uint256 expected
    ) private pure {
        eq(Difficulty.adjust(target, submissions, wanted, ratio, floor), expected, "adjusted");
    }

    function _scales(uint256 flowLength, uint64 shardMask, uint256 expected) private pure {
        eq(Pora.targetScaleX64(flowLength, Pora.shards(shardMask)), expected, "scale");
    }
}
