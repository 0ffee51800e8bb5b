// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import { IProviderStakes } from "../interfaces/IProviderStakes.sol";
import { IStakedService } from "../interfaces/IStakedService.sol";

/// @title StakedService
/// @notice See {IStakedService}.
abstract contract StakedService is IStakedService {
    /// @inheritdoc IStakedService
    uint256 public immutable MIN_PROVIDER_STAKE;
    /// @inheritdoc IStakedService
    address public immutable stakes;

    constructor(uint256 minimum, address stakes_) {
        MIN_PROVIDER_STAKE = minimum;
        stakes = stakes_;
    }

    /// @inheritdoc IStakedService
    function onStakeShort(address provider) external {
        if (msg.sender != stakes) revert CallerNotStakes(msg.sender);
        _endApproval(provider);
    }

    /// @dev Bonds the value sent for a new service, or checks that there is none for an old one.
    function _stakeFor(bool isNew) internal {
        if (!isNew) {
            if (msg.value != 0) revert CannotAddStakeWhenUpdating();
            return;
        }
        if (msg.value < MIN_PROVIDER_STAKE) revert InsufficientStake(msg.value, MIN_PROVIDER_STAKE);
        IProviderStakes(stakes).bond{ value: msg.value }(msg.sender);
        emit ProviderStaked(msg.sender, msg.value);
    }

    function _requireStake(address provider) internal view {
        (uint256 bonded, , ) = IProviderStakes(stakes).stakeOf(address(this), provider);
        if (bonded < MIN_PROVIDER_STAKE) revert InsufficientStake(bonded, MIN_PROVIDER_STAKE);
    }

    /// @dev The provider's signer may charge no longer.
    function _endApproval(address provider) internal virtual;
}
