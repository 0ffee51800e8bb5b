// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import { IInferenceServing, InferenceService, InferenceServiceParams } from "../interfaces/IInferenceServing.sol";
import { IProviderStakes } from "../interfaces/IProviderStakes.sol";
import { ISignerApproval } from "../interfaces/ISignerApproval.sol";
import { ServingAccounts } from "./ServingAccounts.sol";
import { SignerApproval } from "./SignerApproval.sol";
import { StakedService } from "./StakedService.sol";

/// @title InferenceServices
/// @notice What providers offer; see {IInferenceServing}.
abstract contract InferenceServices is IInferenceServing, ServingAccounts, StakedService, SignerApproval {
    /* STORAGE */

    mapping(address provider => InferenceService) internal _services;
    mapping(address provider => bytes32 root) private _models;
    address[] private _providers;
    /// @dev Counted from 1; 0: no service.
    mapping(address provider => uint256 place) private _placeOf;

    /* CHANGING */

    /// @inheritdoc IInferenceServing
    function addOrUpdateService(InferenceServiceParams calldata params) external payable {
        bool isNew = _placeOf[msg.sender] == 0;
        _stakeFor(isNew);
        if (bytes(params.additionalInfo).length > _MAX_ADDITIONAL_INFO) revert AdditionalInfoTooLong();
        if (isNew) {
            _providers.push(msg.sender);
            _placeOf[msg.sender] = _providers.length;
        }
        InferenceService storage service = _services[msg.sender];
        bytes32 before = serviceIdentity(msg.sender);
        service.provider = msg.sender;
        service.serviceType = params.serviceType;
        service.url = params.url;
        service.inputPrice = params.inputPrice;
        service.outputPrice = params.outputPrice;
        service.updatedAt = block.timestamp;
        service.model = params.model;
        service.verifiability = params.verifiability;
        service.additionalInfo = params.additionalInfo;
        service.teeSignerAddress = params.teeSignerAddress;
        if (before != serviceIdentity(msg.sender)) service.teeSignerAcknowledged = false;
        emit ServiceUpdated(
            msg.sender,
            params.serviceType,
            params.url,
            params.inputPrice,
            params.outputPrice,
            block.timestamp,
            params.model,
            params.verifiability
        );
    }

    /// @inheritdoc IInferenceServing
    function setServiceModel(bytes32 weightsRoot) external {
        _requireService(msg.sender);
        if (_models[msg.sender] != weightsRoot) {
            _models[msg.sender] = weightsRoot;
            _services[msg.sender].teeSignerAcknowledged = false;
        }
        emit ServiceModelSet(msg.sender, weightsRoot);
    }

    /// @inheritdoc IInferenceServing
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
        delete _models[msg.sender];
        IProviderStakes(stakes).unbondAll(msg.sender);
        emit ServiceRemoved(msg.sender);
    }

    /* VIEWS */

    /// @inheritdoc IInferenceServing
    function getService(address provider) external view returns (InferenceService memory service) {
        _requireService(provider);
        return _services[provider];
    }

    /// @inheritdoc IInferenceServing
    function serviceModel(address provider) external view returns (bytes32 weightsRoot) {
        return _models[provider];
    }

    /// @inheritdoc IInferenceServing
    function serviceExists(address provider) public view returns (bool) {
        return _placeOf[provider] != 0;
    }

    /// @inheritdoc IInferenceServing
    function getAllServices(
        uint256 offset,
        uint256 limit
    ) external view returns (InferenceService[] memory services, uint256 total) {
        total = _providers.length;
        (uint256 from, uint256 count) = _page(offset, limit, total);
        services = new InferenceService[](count);
        for (uint256 i = 0; i < count; ++i) services[i] = _services[_providers[from + i]];
    }

    /// @inheritdoc ISignerApproval
    /// @dev keccak256(abi.encode(provider, keccak256(serviceType), keccak256(model), keccak256(verifiability),
    /// keccak256(additionalInfo), teeSignerAddress, weightsRoot)).
    function serviceIdentity(
        address provider
    ) public view override(ISignerApproval, SignerApproval) returns (bytes32 identity) {
        InferenceService storage service = _services[provider];
        return
            keccak256(
                abi.encode(
                    provider,
                    keccak256(bytes(service.serviceType)),
                    keccak256(bytes(service.model)),
                    keccak256(bytes(service.verifiability)),
                    keccak256(bytes(service.additionalInfo)),
                    service.teeSignerAddress,
                    _models[provider]
                )
            );
    }

    /* INTERNAL */

    function _requireService(address provider) internal view {
        if (_placeOf[provider] == 0) revert ServiceNotExist(provider);
    }

    function _signerOf(address provider) internal view override returns (address) {
        _requireService(provider);
        return _services[provider].teeSignerAddress;
    }

    function _setApproved(address provider, address, bool approved) internal override {
        if (approved) _requireStake(provider);
        _services[provider].teeSignerAcknowledged = approved;
    }

    function _endApproval(address provider) internal override {
        _services[provider].teeSignerAcknowledged = false;
    }
}
