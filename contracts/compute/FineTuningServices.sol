// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import { FineTuningService, IFineTuningServing, Quota } from "../interfaces/IFineTuningServing.sol";
import { IProviderStakes } from "../interfaces/IProviderStakes.sol";
import { ISignerApproval } from "../interfaces/ISignerApproval.sol";
import { ServingAccounts } from "./ServingAccounts.sol";
import { SignerApproval } from "./SignerApproval.sol";
import { StakedService } from "./StakedService.sol";

/// @title FineTuningServices
/// @notice What providers offer; see {IFineTuningServing}.
abstract contract FineTuningServices is IFineTuningServing, ServingAccounts, StakedService, SignerApproval {
    /* STORAGE */

    mapping(address provider => FineTuningService) internal _services;
    address[] private _providers;
    /// @dev Counted from 1; 0: no service.
    mapping(address provider => uint256 place) private _placeOf;
    /// @dev Whose a signer is, for good, once it was approved.
    mapping(address signer => address provider) private _signerBelongsTo;

    /* CHANGING */

    /// @inheritdoc IFineTuningServing
    function addOrUpdateService(
        string calldata url,
        Quota calldata quota,
        uint256 pricePerToken,
        bool occupied,
        string[] calldata models,
        address teeSignerAddress
    ) external payable {
        bool isNew = _placeOf[msg.sender] == 0;
        _stakeFor(isNew);
        if (isNew) {
            _providers.push(msg.sender);
            _placeOf[msg.sender] = _providers.length;
        }
        FineTuningService storage service = _services[msg.sender];
        if (service.teeSignerAddress != teeSignerAddress) service.teeSignerAcknowledged = false;
        service.provider = msg.sender;
        service.url = url;
        service.quota = quota;
        service.pricePerToken = pricePerToken;
        service.occupied = occupied;
        delete service.models;
        for (uint256 i = 0; i < models.length; ++i) service.models.push(models[i]);
        service.teeSignerAddress = teeSignerAddress;
        emit ServiceUpdated(msg.sender, url, quota, pricePerToken, teeSignerAddress, occupied);
    }

    /// @inheritdoc IFineTuningServing
    function removeService() external {
        _requireService(msg.sender);
        uint256 place = _placeOf[msg.sender];
        address last = _providers[_providers.length - 1];
        _providers[place - 1] = last;
        _placeOf[last] = place;
        _providers.pop();
        delete _placeOf[msg.sender];
        // The rest is out of reach, and overwritten by the next registration.
        (_services[msg.sender].teeSignerAddress, _services[msg.sender].teeSignerAcknowledged) = (address(0), false);
        IProviderStakes(stakes).unbondAll(msg.sender);
        emit ServiceRemoved(msg.sender);
    }

    /* VIEWS */

    /// @inheritdoc IFineTuningServing
    function getService(address provider) external view returns (FineTuningService memory service) {
        _requireService(provider);
        return _services[provider];
    }

    /// @inheritdoc IFineTuningServing
    function getAllServices() external view returns (FineTuningService[] memory services) {
        services = new FineTuningService[](_providers.length);
        for (uint256 i = 0; i < services.length; ++i) services[i] = _services[_providers[i]];
    }

    /// @inheritdoc ISignerApproval
    /// @dev keccak256(abi.encode(provider, teeSignerAddress)).
    function serviceIdentity(
        address provider
    ) public view override(ISignerApproval, SignerApproval) returns (bytes32 identity) {
        return keccak256(abi.encode(provider, _services[provider].teeSignerAddress));
    }

    /* INTERNAL */

    /// @dev The signer that may charge for the provider; the zero address if there is none.
    function _approvedSigner(address provider) internal view returns (address) {
        FineTuningService storage service = _services[provider];
        return service.teeSignerAcknowledged ? service.teeSignerAddress : address(0);
    }

    function _requireService(address provider) internal view {
        if (_placeOf[provider] == 0) revert ServiceNotExist(provider);
    }

    function _signerOf(address provider) internal view override returns (address) {
        _requireService(provider);
        return _services[provider].teeSignerAddress;
    }

    /// @dev Messages do not name the provider, so a signer that ever was a provider's is nobody else's.
    function _setApproved(address provider, address signer, bool approved) internal override {
        if (approved) {
            _requireStake(provider);
            address bound = _signerBelongsTo[signer];
            if (bound != address(0) && bound != provider) revert SignerBound(signer, bound);
            if (bound == address(0)) _signerBelongsTo[signer] = provider;
        }
        _services[provider].teeSignerAcknowledged = approved;
    }

    function _endApproval(address provider) internal override {
        _services[provider].teeSignerAcknowledged = false;
    }
}
