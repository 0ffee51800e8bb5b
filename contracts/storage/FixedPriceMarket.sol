// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import { AccessManaged } from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import { IFixedPriceMarket } from "../interfaces/IFixedPriceMarket.sol";
import { IFlow } from "../interfaces/IFlow.sol";

/// @title FixedPriceMarket
/// @notice See {IFixedPriceMarket}.
contract FixedPriceMarket is IFixedPriceMarket, AccessManaged {
    /* CONSTANTS AND IMMUTABLES */

    uint256 private constant _MAX_SERVICE_FEE_BPS = 1_000;

    /// @inheritdoc IFixedPriceMarket
    address public immutable flow;
    /// @inheritdoc IFixedPriceMarket
    address public immutable reward;
    /// @inheritdoc IFixedPriceMarket
    uint256 public immutable maxPricePerSector;

    /// @param flow_ {Flow}, deployed before with this market's address.
    /// @param max Bound of the price. Less than 2^64, so that the fee of the longest submission fits 128 bits.
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
        _set(flow_, max, price, 0);
    }

    /* TERMS */

    /// @inheritdoc IFixedPriceMarket
    function pricePerSector() public view returns (uint256 price) {
        (price, ) = IFlow(flow).terms();
    }

    /// @inheritdoc IFixedPriceMarket
    function serviceFeeRateBps() public view returns (uint256 bps) {
        (, bps) = IFlow(flow).terms();
    }

    /* GOVERNANCE */

    /// @inheritdoc IFixedPriceMarket
    function setPricePerSector(uint256 price) external restricted {
        _set(flow, maxPricePerSector, price, serviceFeeRateBps());
    }

    /// @inheritdoc IFixedPriceMarket
    function setServiceFeeRate(uint256 bps) external restricted {
        _set(flow, maxPricePerSector, pricePerSector(), bps);
    }

    /// @dev Takes the immutables as arguments because the constructor cannot read them yet.
    function _set(address flow_, uint256 max, uint256 price, uint256 bps) private {
        if (price > max) revert PriceTooHigh(price, max);
        if (bps > _MAX_SERVICE_FEE_BPS) revert ServiceFeeTooHigh(bps, _MAX_SERVICE_FEE_BPS);
        // Both are within their widths by the checks above.
        IFlow(flow_).setTerms(uint64(price), uint16(bps));
        emit TermsChanged(price, bps);
    }
}
