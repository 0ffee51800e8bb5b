// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title CodePages
/// @notice Data kept as the code of contracts that do nothing. Reading a page costs 2,600 gas whatever its length,
/// where storage costs 2,100 for each 32 bytes; writing costs 32,000 and 200 for each byte. Pages never change.
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

    /// @notice Copies three words from `offset` of a page behind the first two of `words`. The second time and later a
    /// page costs 100 gas.
    function readInto(uint256[5] memory words, address page, uint256 offset) internal view {
        // Writes the last three words of the array. 1 leaves the STOP out.
        assembly ("memory-safe") {
            extcodecopy(page, add(words, 0x40), add(offset, 1), 0x60)
        }
    }

    /// @notice Address of the contract created with nonce `number`, at most 32 bits: the end of
    /// keccak256(rlp([creator, nonce])).
    function addressOf(uint256 number) internal view returns (address page) {
        // A nonce below 0x80 stands for itself, others follow the number of their bytes.
        uint256 size = number < 0x80 ? 0 : number < 0x100 ? 1 : number < 0x10000 ? 2 : number < 0x1000000 ? 3 : 4;
        // The list: 0xd6 + size | 0x94 | creator (20 bytes) | [0x80 + size] | nonce.
        uint256 list = ((0xd694 + (size << 8)) << 160) | uint160(address(this));
        if (size != 0) list = (list << 8) | (0x80 + size);
        uint256 bits = size == 0 ? 8 : 8 * size;
        uint256 length = 23 + size;
        list = ((list << bits) | number) << (256 - 8 * length);
        // Uses the first word of scratch space.
        assembly ("memory-safe") {
            mstore(0, list)
            page := and(keccak256(0, length), 0xffffffffffffffffffffffffffffffffffffffff)
        }
    }
}
