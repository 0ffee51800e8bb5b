// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import { AccessManaged } from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import { IFixedPriceMarket } from "../interfaces/IFixedPriceMarket.sol";

/// @title FixedPriceMarket
/// @notice See {IFixedPriceMarket}.
contract FixedPriceMarket is IFixedPriceMarket, AccessManaged {
    /* IMMUTABLES */

    /// @inheritdoc IFixedPriceMarket
    address public immutable flow;
    /// @inheritdoc IFixedPriceMarket
    address public immutable reward;
    /// @inheritdoc IFixedPriceMarket
    uint256 public immutable maxPricePerSector;

    /* STORAGE */

    /// @inheritdoc IFixedPriceMarket
    uint256 public pricePerSector;

    /// @param max Bound of the price. At most 2^64 - 1, so that the fee of the longest submission fits 128 bits.
    constructor(
        address authority_,
        address flow_,
        address reward_,
        uint256 price,
        uint64 max
    ) AccessManaged(authority_) {
        flow = flow_;
        reward = reward_;
        maxPricePerSector = max;
        _setPrice(price);
    }

    /// @inheritdoc IFixedPriceMarket
    function setPricePerSector(uint256 price) external restricted {
        _setPrice(price);
    }

    function _setPrice(uint256 price) private {
        if (price > maxPricePerSector) revert PriceTooHigh(price, maxPricePerSector);
        emit PricePerSectorChanged(pricePerSector, price);
        pricePerSector = price;
    }
}
