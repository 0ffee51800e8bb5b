// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title CodePages
/// @notice Data kept as the code of contracts that do nothing. Reading a page costs 2,600 gas whatever its length, where
/// storage costs 2,100 for each 32 bytes; writing costs 32,000 and 200 for each byte. Pages never change.
///
/// Page n is the n-th contract that the caller creates, so that its number alone gives its address. The caller must
/// create nothing else.
library CodePages {
    /// @notice The page could not be created: the gas did not suffice.
    error PageRefused();

    /// @notice Writes a page of less than 24,576 bytes.
    function write(bytes memory data) internal {
        // Creation code of ten bytes that returns what follows it, and a STOP, so that nobody can call the page.
        bytes memory code = abi.encodePacked(
            hex"61",
            uint16(data.length + 1),
            hex"80600a3d393df3_00",
            data
        );
        address page;
        // Reads the bytes above only.
        assembly ("memory-safe") {
            page := create(0, add(code, 0x20), mload(code))
        }
        if (page == address(0)) revert PageRefused();
    }

    /// @notice The first `length` bytes of page `number`, with zeros behind its end. Page 0 is empty.
    function read(uint256 number, uint256 length) internal view returns (bytes memory data) {
        data = new bytes(length);
        if (number == 0) return data;
        address page = addressOf(number);
        // Writes `length` bytes behind the length of `data`, which are its own. 1 leaves the STOP out.
        assembly ("memory-safe") {
            extcodecopy(page, add(data, 0x20), 1, length)
        }
    }

    /// @notice Address of the contract created with nonce `number`: the end of keccak256(rlp([creator, nonce])).
    function addressOf(uint256 number) internal view returns (address) {
        bytes memory nonce;
        // Each cast is behind the test that the number fits it.
        if (number < 0x80) nonce = abi.encodePacked(uint8(number));
        else if (number < 0x100) nonce = abi.encodePacked(hex"81", uint8(number));
        else if (number < 0x10000) nonce = abi.encodePacked(hex"82", uint16(number));
        else if (number < 0x1000000) nonce = abi.encodePacked(hex"83", uint24(number));
        else nonce = abi.encodePacked(hex"84", uint32(number));
        // The list has 21 bytes of address and at most 5 of nonce.
        bytes32 hash = keccak256(abi.encodePacked(uint8(0xd5 + nonce.length), hex"94", address(this), nonce));
        return address(uint160(uint256(hash)));
    }
}
