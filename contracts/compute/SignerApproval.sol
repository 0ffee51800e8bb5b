// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import { AccessManaged } from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import { ISignerApproval } from "../interfaces/ISignerApproval.sol";

/// @title SignerApproval
/// @notice See {ISignerApproval}.
abstract contract SignerApproval is ISignerApproval, AccessManaged {
    /// @inheritdoc ISignerApproval
    function approveSigner(address provider, address signer, bytes32 identity) external restricted {
        if (_signerOf(provider) != signer || serviceIdentity(provider) != identity) {
            revert ServiceChanged(provider, signer, identity);
        }
        _approve(provider, signer, true);
    }

    /// @inheritdoc ISignerApproval
    function acknowledgeTEESignerByOwner(address provider) external restricted {
        _approve(provider, _signerOf(provider), true);
    }

    /// @inheritdoc ISignerApproval
    function revokeTEESignerAcknowledgement(address provider) external restricted {
        _approve(provider, _signerOf(provider), false);
    }

    /// @inheritdoc ISignerApproval
    function serviceIdentity(address provider) public view virtual returns (bytes32);

    /* INTERNAL */

    function _approve(address provider, address signer, bool approved) private {
        if (approved && signer == address(0)) revert SignerMissing(provider);
        _setApproved(provider, signer, approved);
        emit ProviderTEESignerAcknowledged(provider, signer, approved);
    }

    /// @dev The signer that the service names; reverts with ServiceNotExist if there is no service.
    function _signerOf(address provider) internal view virtual returns (address);

    /// @dev May refuse by reverting.
    function _setApproved(address provider, address signer, bool approved) internal virtual;
}
