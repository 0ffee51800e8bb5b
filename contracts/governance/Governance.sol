// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import { AccessManager } from "@openzeppelin/contracts/access/manager/AccessManager.sol";

/// @title Governance
/// @notice Who may call the few functions that are kept from the public. They move parameters within bounds fixed in
/// each contract, and halt new intake; none of them touches what anybody owns.
///
/// The governor (the manager's admin role) moves parameters and lets intake in again, each time after a public delay.
/// The guardian may halt new intake at once, and nothing else.
contract Governance is AccessManager {
    /// @notice The role that may halt new intake without delay.
    uint64 public constant GUARDIAN_ROLE = 1;

    bytes4 private constant _PAUSE = bytes4(keccak256("pause()"));

    /// @param governor The account (a multisignature contract, as a rule) behind the admin role.
    /// @param guardian The account that may halt new intake; the zero address for none.
    /// @param delaySeconds What passes between announcing and executing a change by the governor.
    /// @param pausable The contracts whose `pause()` the guardian may call.
    constructor(
        address governor,
        address guardian,
        uint32 delaySeconds,
        address[] memory pausable
    ) AccessManager(governor) {
        _grantRole(ADMIN_ROLE, governor, 0, delaySeconds);
        emit RoleLabel(GUARDIAN_ROLE, "GUARDIAN");
        if (guardian != address(0)) _grantRole(GUARDIAN_ROLE, guardian, 0, 0);
        for (uint256 i = 0; i < pausable.length; ++i) _setTargetFunctionRole(pausable[i], _PAUSE, GUARDIAN_ROLE);
    }
}
