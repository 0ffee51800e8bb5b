// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import { IAccessManaged } from "@openzeppelin/contracts/access/manager/IAccessManaged.sol";
import { IAccessManager } from "@openzeppelin/contracts/access/manager/IAccessManager.sol";
import { Governance } from "../../../contracts/governance/Governance.sol";
import { Flow } from "../../../contracts/storage/Flow.sol";
import { StorageTest } from "../support/StorageTest.sol";

/// @notice What an admin may do: the bounded setters after a delay, the guardian's halt at once, and nothing else.
contract GovernanceTest is StorageTest {
    uint32 private constant DELAY = 2 days;

    Governance private _delayed;
    Flow private _flow;

    function setUp() public override {
        super.setUp();
        address[] memory pausable = new address[](1);
        pausable[0] = vm.computeCreateAddress(address(this), vm.getNonce(address(this)) + 1);
        _delayed = new Governance(ALICE, BOB, DELAY, pausable);
        _flow = new Flow(address(_delayed), MINE, MINE, 100, 0);
        eq(address(_flow), pausable[0], "predicted");
    }

    function test_GovernorIsNeeded() public {
        vm.expectRevert(abi.encodeWithSelector(IAccessManager.AccessManagerInvalidInitialAdmin.selector, address(0)));
        new Governance(address(0), BOB, DELAY, new address[](0));
    }

    /// A change by the governor is public for the whole delay before it can happen.
    function test_GovernorWaits() public {
        vm.prank(BOB);
        _flow.pause();
        bytes memory call_ = abi.encodeCall(Flow.unpause, ());
        bytes32 operation = _delayed.hashOperation(ALICE, address(_flow), call_);
        vm.prank(ALICE);
        vm.expectRevert(abi.encodeWithSelector(IAccessManager.AccessManagerNotScheduled.selector, operation));
        _flow.unpause();
        vm.prank(ALICE);
        _delayed.schedule(address(_flow), call_, 0);
        vm.warp(vm.getBlockTimestamp() + DELAY - 1);
        vm.prank(ALICE);
        vm.expectRevert(abi.encodeWithSelector(IAccessManager.AccessManagerNotReady.selector, operation));
        _delayed.execute(address(_flow), call_);
        vm.warp(vm.getBlockTimestamp() + 1);
        vm.prank(ALICE);
        _delayed.execute(address(_flow), call_);
        isTrue(!_flow.paused(), "let in again");
    }

    /// The governor cannot grant itself or anybody a shortcut without the delay either.
    function test_GovernorCannotShortenItsDelay() public {
        uint64 admin = _delayed.ADMIN_ROLE();
        bytes memory call_ = abi.encodeCall(IAccessManager.grantRole, (admin, BOB, 0));
        bytes32 operation = _delayed.hashOperation(ALICE, address(_delayed), call_);
        vm.prank(ALICE);
        vm.expectRevert(abi.encodeWithSelector(IAccessManager.AccessManagerNotScheduled.selector, operation));
        _delayed.grantRole(admin, BOB, 0);
    }

    /// The guardian halts new intake without delay and can do nothing else.
    function test_GuardianOnlyHalts() public {
        vm.prank(BOB);
        _flow.pause();
        isTrue(_flow.paused(), "halted");
        vm.prank(BOB);
        vm.expectRevert(abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, BOB));
        _flow.unpause();
    }

    function test_NobodyElseHalts() public {
        vm.expectRevert(abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, address(this)));
        _flow.pause();
    }
}
