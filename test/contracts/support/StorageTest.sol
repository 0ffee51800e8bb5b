// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import { Governance } from "../../../contracts/governance/Governance.sol";
import { Submission, SubmissionData, SubmissionNode } from "../../../contracts/interfaces/IFlow.sol";
import { FixedPriceMarket } from "../../../contracts/storage/FixedPriceMarket.sol";
import { Flow } from "../../../contracts/storage/Flow.sol";
import { MineParameters } from "../../../contracts/interfaces/IPoraMine.sol";
import { PoraMine } from "../../../contracts/storage/PoraMine.sol";
import { StorageReward } from "../../../contracts/storage/StorageReward.sol";
import { Test } from "./Test.sol";

/// @notice The storage contracts, deployed and governed by the test itself without delay.
abstract contract StorageTest is Test {
    uint256 internal constant PRICE = 1_000;
    uint256 internal constant BLOCKS_PER_EPOCH = 100;
    uint256 internal constant RELEASE_SECONDS = 372 days;
    address internal constant MINE = address(0x1111);
    address internal constant ALICE = address(0xA11CE);
    address internal constant BOB = address(0xB0B);

    Governance internal governance;
    Flow internal flow;
    FixedPriceMarket internal market;
    StorageReward internal reward;
    PoraMine internal mine;
    uint256 internal deployedPrice;
    /// @dev Whether rewards are claimed by a real mine, or by {MINE} in its place.
    bool internal deployMine;

    function setUp() public virtual {
        deploy(PRICE, BLOCKS_PER_EPOCH, 0);
        vm.deal(ALICE, 1e36);
        vm.deal(BOB, 1e36);
    }

    function deploy(uint256 price, uint256 blocksPerEpoch, uint256 deployDelay) internal {
        deployedPrice = price;
        uint256 nonce = vm.getNonce(address(this));
        address flow_ = vm.computeCreateAddress(address(this), nonce + 1);
        address market_ = vm.computeCreateAddress(address(this), nonce + 2);
        address reward_ = vm.computeCreateAddress(address(this), nonce + 3);
        address[] memory pausable = new address[](1);
        pausable[0] = flow_;
        governance = new Governance(address(this), BOB, 0, pausable);
        flow = new Flow(address(governance), market_, reward_, blocksPerEpoch, deployDelay);
        market = new FixedPriceMarket(address(governance), flow_, reward_, price, 1e18);
        address mine_ = deployMine ? vm.computeCreateAddress(address(this), nonce + 4) : MINE;
        reward = new StorageReward(address(governance), flow_, market_, mine_, 1 << 25, RELEASE_SECONDS);
        if (deployMine) mine = new PoraMine(address(governance), flow_, reward_, mineParameters());
    }

    function mineParameters() internal pure returns (MineParameters memory) {
        return
            MineParameters({
                difficulty: 1000,
                minDifficulty: 0,
                targetMineBlocks: 50,
                targetSubmissions: 10,
                maxShards: 32,
                nSubtasks: 1,
                subtaskInterval: 10,
                difficultyAdjustRatio: 20
            });
    }

    /// @notice A valid submission of one node.
    function one(uint256 height, bytes32 root, address submitter) internal pure returns (Submission memory submission) {
        SubmissionNode[] memory nodes = new SubmissionNode[](1);
        nodes[0] = SubmissionNode(root, height);
        return Submission(SubmissionData((1 << height) * 256, "", nodes), submitter);
    }

    /// @notice A submission of nodes of these heights, of the greatest size they hold.
    function ofHeights(uint256[] memory heights, address submitter) internal pure returns (Submission memory) {
        SubmissionNode[] memory nodes = new SubmissionNode[](heights.length);
        uint256 sectors;
        for (uint256 i = 0; i < heights.length; ++i) {
            nodes[i] = SubmissionNode(keccak256(abi.encode("node", i, heights[i])), heights[i]);
            if (heights[i] < 64) sectors += 1 << heights[i];
        }
        return Submission(SubmissionData(sectors * 256, "", nodes), submitter);
    }

    /// @notice Heights as the reference splits a file of so many sectors: at most 4 nodes, minimal padding.
    function split(uint256 chunks) internal pure returns (uint256[] memory heights, uint256 sectors) {
        uint256 power = 1;
        uint256 height;
        while (power < chunks) {
            power <<= 1;
            ++height;
        }
        uint256 unit = power == chunks ? 1 : power < 16 ? 1 : power / 16;
        sectors = ((chunks + unit - 1) / unit) * unit;
        uint256[] memory found = new uint256[](64);
        uint256 count;
        uint256 rest = sectors;
        while (rest > 0) {
            if (rest >= power) {
                found[count++] = height;
                rest -= power;
            }
            power >>= 1;
            if (height > 0) --height;
        }
        heights = new uint256[](count);
        for (uint256 i = 0; i < count; ++i) heights[i] = found[i];
    }

    /// @dev Makes no call, so that it can stand between a cheat code and the call that the code is for.
    function fee(uint256 sectors) internal view returns (uint256) {
        return sectors * deployedPrice;
    }
}
