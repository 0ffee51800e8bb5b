// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title The price of storage
/// @notice One price for every sector (256 bytes), in wei, for the whole lifetime of the data. A target of
/// `T` tokens per GiB and lifetime is `T * 1e18 / 2^22` wei per sector (2^22 sectors are 1 GiB).
/// The market holds no money: the flow sends fees straight to the reward contract.
interface IFixedPriceMarket {
    /// @notice The price changed.
    event PricePerSectorChanged(uint256 before, uint256 price);

    /// @notice The price asked for is above the bound fixed at deployment.
    error PriceTooHigh(uint256 price, uint256 max);

    /// @notice Wei per sector. Uploads pay `sectors * pricePerSector`.
    function pricePerSector() external view returns (uint256);

    /// @notice The bound of the price, fixed at deployment.
    function maxPricePerSector() external view returns (uint256);

    /// @notice The flow that charges this price.
    function flow() external view returns (address);

    /// @notice The reward contract that receives the fees.
    function reward() external view returns (address);

    /// @notice Sets the price for submissions from now on. Governance only; at most {maxPricePerSector}.
    function setPricePerSector(uint256 price) external;
}
