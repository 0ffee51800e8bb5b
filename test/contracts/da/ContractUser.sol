// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import { IDispersalAccounts } from "../../../contracts/interfaces/IDispersalAccounts.sol";

/// @notice A user, or a disperser, that is a contract and behaves as it is told.
contract ContractUser {
    enum Manner {
        Signs,
        Refuses,
        BurnsGas,
        AnswersAtLength
    }

    Manner public manner;

    /// @dev Money is refused in the same manner as signatures.
    receive() external payable {
        require(manner != Manner.Refuses, "no money");
    }

    function behave(Manner manner_) external {
        manner = manner_;
    }

    function deposit(IDispersalAccounts accounts, address disperser) external payable {
        accounts.deposit{ value: msg.value }(disperser);
    }

    function call(address target, bytes calldata data) external {
        (bool ok, bytes memory answer) = target.call(data);
        if (ok) return;
        assembly ("memory-safe") {
            // What the target reverted with.
            revert(add(answer, 0x20), mload(answer))
        }
    }

    /// @notice EIP-1271.
    function isValidSignature(bytes32, bytes calldata) external view returns (bytes4) {
        if (manner == Manner.Signs) return 0x1626ba7e;
        if (manner == Manner.Refuses) return 0xffffffff;
        if (manner == Manner.BurnsGas) while (gasleft() > 0) {}
        assembly {
            // Half a megabyte, all of it memory that is never used again.
            mstore(0x00, shl(224, 0x1626ba7e))
            return(0x00, 0x80000)
        }
    }
}
