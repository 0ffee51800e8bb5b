// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import { G1Point } from "../../../contracts/da/BN254.sol";
import { DASigners } from "../../../contracts/da/DASigners.sol";
import { IDASigners, SignerDetail, SignerView } from "../../../contracts/interfaces/IDASigners.sol";
import { DaSignersTest } from "./DaSignersTest.sol";

/// @notice Signers that do whatever they may in any order, a custody contract that slashes them, and what each of them
/// should have by now.
contract SignerActors is DaSignersTest {
    uint256 public constant ACTORS = 6;

    mapping(address => uint256) public paidIn;
    mapping(address => uint256) public drawn;
    mapping(address => uint256) public slashed;
    uint256 public slashedTotal;

    constructor(DASigners signers_, address custody_) {
        (signers, custody) = (signers_, custody_);
    }

    /// @dev The actors are deployed by the test.
    function setUp() public override {}

    function register(uint256 who, uint256 stakeWei) external {
        address signer = account(who % ACTORS);
        if (bonded(signer) != 0) return;
        stakeWei = bound(stakeWei, MIN_STAKE, 100 ether);
        join(signer, stakeWei);
        paidIn[signer] += stakeWei;
    }

    function addStake(uint256 who, uint256 stakeWei) external {
        address signer = account(who % ACTORS);
        if (bonded(signer) == 0) return;
        stakeWei = bound(stakeWei, 0, 100 ether);
        vm.deal(signer, signer.balance + stakeWei);
        vm.prank(signer);
        signers.addStake{ value: stakeWei }();
        paidIn[signer] += stakeWei;
    }

    function requestUnbond(uint256 who, uint256 amountWei, bool all) external {
        address signer = account(who % ACTORS);
        uint256 has = bonded(signer);
        if (has == 0) return;
        if (!all && has == MIN_STAKE) return;
        vm.prank(signer);
        signers.requestUnbond(all ? has : bound(amountWei, 1, has - MIN_STAKE));
    }

    /// Nobody draws before the time of what unbonds, and then exactly that.
    function withdraw(uint256 who) external {
        address signer = account(who % ACTORS);
        (, uint256 amountWei, uint256 release) = signers.stakeOf(signer);
        bool due = amountWei != 0 && signers.epochNumber() >= release;
        uint256 before = signer.balance;
        vm.prank(signer);
        (bool ok, ) = address(signers).call(abi.encodeCall(signers.withdrawUnbonded, ()));
        isTrue(ok == due, "paid if and only if it is due");
        uint256 got = signer.balance - before;
        eq(got, due ? amountWei : 0, "the amount that unbonded");
        drawn[signer] += got;
    }

    /// Slashing takes what was asked for or all there is, from that signer alone.
    function slash(uint256 who, uint256 amountWei) external {
        address signer = account(who % ACTORS);
        amountWei = bound(amountWei, 0, 150 ether);
        uint256 has = bonded(signer) + unbonding(signer);
        uint256 before = custody.balance;
        vm.prank(custody);
        uint256 taken = signers.slash(signer, amountWei);
        eq(taken, amountWei < has ? amountWei : has, "taken");
        eq(custody.balance - before, taken, "sent to the custody contract");
        slashed[signer] += taken;
        slashedTotal += taken;
    }

    function passBlocks(uint256 blocks) external {
        vm.roll(vm.getBlockNumber() + bound(blocks, 1, 2 * EPOCH_BLOCKS));
    }

    function makeEpoch() external {
        signers.makeEpoch();
    }
}

/// @notice What holds after any sequence of actions.
contract DASignersInvariantsTest is DaSignersTest {
    SignerActors private actors;

    function setUp() public override {
        super.setUp();
        actors = new SignerActors(signers, custody);
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(actors);
    }

    /// All that is bonded and all that unbonds is what the contract holds.
    function invariant_StakesAreWhatIsHeld() public view {
        uint256 sum = 0;
        for (uint256 i = 0; i < actors.ACTORS(); ++i) sum += bonded(account(i)) + unbonding(account(i));
        eq(sum, address(signers).balance, "held");
    }

    /// Each signer has what it paid in, less what it drew, less what was slashed from it: nobody draws another's stake.
    function invariant_NobodyDrawsAnothersStake() public view {
        for (uint256 i = 0; i < actors.ACTORS(); ++i) {
            address signer = account(i);
            uint256 has = bonded(signer) + unbonding(signer);
            eq(has + actors.drawn(signer) + actors.slashed(signer), actors.paidIn(signer), "own stake");
        }
        eq(custody.balance, actors.slashedTotal(), "slashed");
    }

    /// The next epoch's table has exactly those with bonded stake, with that stake, and its total is their sum.
    function invariant_TheTableIsWhatIsBonded() public view {
        uint256 next = signers.epochNumber() + 1;
        SignerView[] memory table = signers.signersAt(next, 0, 256);
        uint256 sum = 0;
        for (uint256 i = 0; i < table.length; ++i) {
            eq(table[i].stakeWei, bonded(table[i].signer), "stake in the table");
            isTrue(table[i].stakeWei >= MIN_STAKE, "no less than the minimum");
            for (uint256 j = 0; j < i; ++j) isTrue(table[i].signer != table[j].signer, "each once");
            sum += table[i].stakeWei;
        }
        eq(signers.totalStake(next), sum, "total of the table");
        uint256 all = 0;
        for (uint256 i = 0; i < actors.ACTORS(); ++i) all += bonded(account(i));
        eq(sum, all, "nobody is missing");
    }

    /// Every row has one owner, in the order of the table, whether asked for one by one or by ranges.
    function invariant_EveryRowHasAnOwner() public view {
        uint256 next = signers.epochNumber() + 1;
        SignerView[] memory table = signers.signersAt(next, 0, 256);
        uint32 row = 0;
        for (uint256 i = 0; i < table.length; ++i) {
            eq(table[i].firstRow, row, "where the one before ends");
            row += table[i].rowCount;
            if (table[i].rowCount == 0) continue;
            for (uint256 edge = 0; edge < 2; ++edge) {
                uint32 asked = edge == 0 ? table[i].firstRow : row - 1;
                (address owner, uint256 index) = signers.signerOfRow(next, asked);
                eq(owner, table[i].signer, "owner of its first and last row");
                eq(index, i, "place of its owner");
            }
        }
        eq(row, table.length == 0 ? 0 : 3072, "all rows");
    }
}

/// @notice Taking over a place of a full table.
contract DASignersFullTest is DaSignersTest {
    address private constant ALICE = address(0xA11CE);

    function setUp() public override {
        super.setUp();
        for (uint256 i = 0; i < 256; ++i) join(account(i), i == 77 ? 5 ether : 6 ether + i);
    }

    function displace(address who, address displaced, uint256 stakeWei, bytes memory problem) private {
        (SignerDetail memory detail, G1Point memory signature) = credentials(who);
        vm.deal(who, stakeWei);
        vm.prank(who);
        if (problem.length != 0) vm.expectRevert(problem);
        signers.registerSignerInPlaceOf{ value: stakeWei }(detail, signature, displaced);
    }

    /// Only the smallest stake can be displaced, only by a tenth more, and it unbonds like any other.
    function test_ALargerStakeTakesTheSmallestPlace() public {
        (SignerDetail memory detail, G1Point memory signature) = credentials(ALICE);
        vm.deal(ALICE, 7 ether);
        vm.prank(ALICE);
        vm.expectRevert(abi.encodeWithSelector(IDASigners.TableFull.selector, 256));
        signers.registerSigner{ value: 7 ether }(detail, signature);

        bytes memory low = abi.encodeWithSelector(IDASigners.StakeTooLow.selector, 5.5 ether, 5.5 ether + 1);
        displace(ALICE, account(77), 5.5 ether, low);
        bytes memory other = abi.encodeWithSelector(IDASigners.NotSmallest.selector, account(3), account(0));
        displace(ALICE, account(3), 7 ether, other);
        displace(ALICE, address(1), 7 ether, abi.encodeWithSelector(IDASigners.NotRegistered.selector, address(1)));

        nextEpoch();
        displace(ALICE, account(77), 5.5 ether + 1, "");
        SignerView[] memory table = signers.signersAt(2, 77, 1);
        eq(table[0].signer, ALICE, "in its place");
        eq(signers.signersAt(1, 77, 1)[0].signer, account(77), "which it keeps in the running epoch");
        eq(bonded(account(77)), 0, "nothing is bonded any more");
        eq(unbonding(account(77)), 5 ether, "all of it unbonds");
        eq(signers.signerCount(2), 256, "still full");
        vm.prank(custody);
        eq(signers.slash(account(77), 1 ether), 1 ether, "and is slashable meanwhile");
        vm.roll(vm.getBlockNumber() + (UNBONDING_EPOCHS + 1) * EPOCH_BLOCKS);
        vm.prank(account(77));
        eq(signers.withdrawUnbonded(), 4 ether, "then it is paid out");
    }

    function test_OnlyFullTablesDisplace() public {
        vm.prank(account(9));
        signers.requestUnbond(6 ether + 9);
        displace(ALICE, account(77), 7 ether, abi.encodeWithSelector(IDASigners.TableNotFull.selector, 255, 256));
        join(ALICE, 7 ether);
        (address owner, ) = signers.signerOfRow(1, 3071);
        eq(owner, ALICE, "last in the order");
    }
}
