// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title The terms of storage
/// @notice One price for every sector (256 bytes), in wei, for the whole lifetime of the data. A target of
/// `T` tokens per GiB and lifetime is `T * 1e18 / 2^22` wei per sector (2^22 sectors are 1 GiB).
/// The service fee is the part of each fee that goes to the treasury, in hundredths of a per cent.
///
/// The market bounds the terms and says who may change them. It holds no money, and keeps the terms in the flow, where
/// a submission reads them along with the rest of its state.
interface IFixedPriceMarket {
    /// @notice The terms changed.
    event TermsChanged(uint256 pricePerSector, uint256 serviceFeeRateBps);

    /// @notice The price asked for is above the bound fixed at deployment.
    error PriceTooHigh(uint256 price, uint256 max);
    /// @notice The service fee asked for is above its bound.
    error ServiceFeeTooHigh(uint256 bps, uint256 max);

    /// @notice Wei per sector. Uploads pay `sectors * pricePerSector`.
    function pricePerSector() external view returns (uint256);

    /// @notice The bound of the price, fixed at deployment.
    function maxPricePerSector() external view returns (uint256);

    /// @notice Part of each fee that goes to the treasury, in hundredths of a per cent: at most 1000 (10 %).
    function serviceFeeRateBps() external view returns (uint256);

    /// @notice The flow that charges this price.
    function flow() external view returns (address);

    /// @notice The reward contract that receives the fees.
    function reward() external view returns (address);

    /// @notice Sets the price for submissions from now on. Governance only; at most {maxPricePerSector}.
    function setPricePerSector(uint256 price) external;

    /// @notice Sets the service fee for submissions from now on. Governance only; at most 1000 (10 %).
    function setServiceFeeRate(uint256 bps) external;
}
