// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import { AccessManaged } from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import { ERC165Checker } from "@openzeppelin/contracts/utils/introspection/ERC165Checker.sol";
import { ILedgerManager, ServiceInfo } from "../interfaces/ILedgerManager.sol";
import { IServing } from "../interfaces/IServing.sol";
import { ISubAccounts } from "../interfaces/ISubAccounts.sol";

/// @title ServiceRegistry
/// @notice The service contracts that users of a ledger can choose from. None is ever removed or replaced.
abstract contract ServiceRegistry is ILedgerManager, AccessManaged {
    /* TYPES */

    struct Service {
        address serviceAddress;
        uint64 registeredAt;
        string serviceType;
        string version;
        string description;
    }

    /// @inheritdoc ILedgerManager
    /// @dev As many as a user's bitmap of used services has bits.
    uint256 public constant MAX_SERVICES = 64;

    /* STORAGE */

    Service[] internal _services;
    /// @dev Places in the list are counted from 1 here; 0: none.
    mapping(address service => uint256 place) private _placeOf;
    mapping(bytes32 fullName => uint256 place) private _placeByName;
    mapping(bytes32 serviceType => uint256 place) private _recommended;

    /* VIEWS */

    /// @inheritdoc ILedgerManager
    function getAllActiveServices() external view returns (ServiceInfo[] memory services) {
        services = new ServiceInfo[](_services.length);
        for (uint256 i = 0; i < services.length; ++i) services[i] = _info(i + 1);
    }

    /// @inheritdoc ILedgerManager
    function getAllVersions(
        string calldata serviceType
    )
        external
        view
        returns (string[] memory versions, address[] memory addresses, bool[] memory isRecommendedFlags)
    {
        bytes32 wanted = keccak256(bytes(serviceType));
        uint256 recommended = _recommended[wanted];
        uint256 count;
        for (uint256 i = 0; i < _services.length; ++i) if (_typeHash(i) == wanted) ++count;
        (versions, addresses, isRecommendedFlags) = (new string[](count), new address[](count), new bool[](count));
        count = 0;
        for (uint256 i = 0; i < _services.length; ++i) {
            if (_typeHash(i) != wanted) continue;
            versions[count] = _services[i].version;
            addresses[count] = _services[i].serviceAddress;
            isRecommendedFlags[count++] = recommended == i + 1;
        }
    }

    /// @inheritdoc ILedgerManager
    function getRecommendedService(
        string calldata serviceType
    ) external view returns (string memory version, address serviceAddress) {
        uint256 place = _recommended[keccak256(bytes(serviceType))];
        if (place == 0) revert NoRecommendedService(serviceType);
        return (_services[place - 1].version, _services[place - 1].serviceAddress);
    }

    /// @inheritdoc ILedgerManager
    function getServiceAddressByName(string calldata serviceName) external view returns (address service) {
        (service, ) = _serviceCalled(serviceName);
    }

    /// @inheritdoc ILedgerManager
    function getServiceInfo(address serviceAddress) external view returns (ServiceInfo memory info) {
        uint256 place = _placeOf[serviceAddress];
        if (place != 0) info = _info(place);
    }

    /// @inheritdoc ILedgerManager
    function isRecommendedVersion(string calldata serviceType, string calldata version) external view returns (bool) {
        uint256 place = _placeByName[_nameHash(serviceType, version)];
        return place != 0 && _recommended[keccak256(bytes(serviceType))] == place;
    }

    /// @inheritdoc ILedgerManager
    function owner() external view returns (address) {
        return authority();
    }

    /// @inheritdoc ILedgerManager
    function initialized() external pure returns (bool) {
        return true;
    }

    /* GOVERNANCE */

    /// @inheritdoc ILedgerManager
    function registerService(
        string calldata serviceType,
        string calldata version,
        address serviceAddress,
        string calldata description
    ) external restricted {
        if (serviceAddress == address(0) || serviceAddress.code.length == 0) {
            revert InvalidServiceAddress(serviceAddress);
        }
        if (
            !ERC165Checker.supportsInterface(serviceAddress, type(IServing).interfaceId) ||
            !ERC165Checker.supportsInterface(serviceAddress, type(ISubAccounts).interfaceId)
        ) revert ServiceMustImplementIServing(serviceAddress);
        _register(serviceType, version, serviceAddress, description);
    }

    /// @inheritdoc ILedgerManager
    function setRecommendedService(string calldata serviceType, string calldata version) external restricted {
        _recommend(serviceType, version);
    }

    /* INTERNAL */

    function _register(
        string memory serviceType,
        string memory version,
        address serviceAddress,
        string memory description
    ) internal {
        if (bytes(serviceType).length == 0) revert ServiceTypeRequired();
        if (bytes(version).length == 0) revert VersionRequired();
        if (_placeOf[serviceAddress] != 0) revert ServiceAlreadyRegistered(serviceAddress);
        bytes32 name = _nameHash(serviceType, version);
        if (_placeByName[name] != 0) revert ServiceNameExists(_fullName(serviceType, version));
        if (_services.length == MAX_SERVICES) revert ServiceRegistryLimitReached(MAX_SERVICES);
        _services.push(Service(serviceAddress, uint64(block.timestamp), serviceType, version, description));
        _placeOf[serviceAddress] = _services.length;
        _placeByName[name] = _services.length;
        emit ServiceRegistered(serviceAddress, _fullName(serviceType, version));
    }

    function _recommend(string memory serviceType, string memory version) internal {
        if (bytes(serviceType).length == 0) revert ServiceTypeRequired();
        if (bytes(version).length == 0) revert VersionRequired();
        uint256 place = _placeByName[_nameHash(serviceType, version)];
        if (place == 0) revert ServiceNotFound(address(0));
        _recommended[keccak256(bytes(serviceType))] = place;
        emit RecommendedServiceUpdated(serviceType, version, _services[place - 1].serviceAddress);
    }

    /// @return service The service contract of this full name.
    /// @return bit Its bit among all services.
    function _serviceCalled(string calldata serviceName) internal view returns (address service, uint256 bit) {
        uint256 place = _placeByName[keccak256(bytes(serviceName))];
        if (place == 0) revert ServiceNotFound(address(0));
        return (_services[place - 1].serviceAddress, 1 << (place - 1));
    }

    function _isRegistered(address service) internal view returns (bool) {
        return _placeOf[service] != 0;
    }

    function _info(uint256 place) private view returns (ServiceInfo memory) {
        Service storage service = _services[place - 1];
        return
            ServiceInfo({
                serviceAddress: service.serviceAddress,
                serviceContract: service.serviceAddress,
                serviceType: service.serviceType,
                version: service.version,
                fullName: _fullName(service.serviceType, service.version),
                description: service.description,
                isRecommended: _recommended[keccak256(bytes(service.serviceType))] == place,
                registeredAt: service.registeredAt
            });
    }

    function _typeHash(uint256 index) private view returns (bytes32) {
        return keccak256(bytes(_services[index].serviceType));
    }

    function _fullName(string memory serviceType, string memory version) private pure returns (string memory) {
        return string.concat(serviceType, "-", version);
    }

    function _nameHash(string memory serviceType, string memory version) private pure returns (bytes32) {
        return keccak256(bytes(_fullName(serviceType, version)));
    }
}
