// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title RowProof
/// @notice Proofs that a piece of a row belongs to a blob. Trees are those of RFC 6962 over SHA-256: leaf
/// `H(0x00 ‖ piece)`, node `H(0x01 ‖ left ‖ right)`. A row is a tree over its pieces of 1024 bytes; its root takes the
/// place of a leaf in the tree over all 3072 rows.
library RowProof {
    uint256 internal constant DATA_ROWS = 1024;
    uint256 internal constant PARITY_ROWS = 2048;
    uint256 internal constant TOTAL_ROWS = DATA_ROWS + PARITY_ROWS;
    uint256 internal constant SUBLINE_BYTES = 1024;
    uint256 internal constant MAX_BLOB_BYTES = 32 << 20;

    bytes15 private constant _TAG = "weightless-da-1";
    uint256 private constant _ROW_UNIT = 64;

    /// @notice Bytes of a row of a blob: the payload over 1024 rows, in units of 64 bytes.
    function rowBytes(uint256 sizeBytes) internal pure returns (uint256) {
        uint256 unit = _ROW_UNIT * DATA_ROWS;
        return _ROW_UNIT * ((sizeBytes + unit - 1) / unit);
    }

    /// @notice Pieces of a row of so many bytes.
    function sublines(uint256 rowBytes_) internal pure returns (uint256) {
        return (rowBytes_ + SUBLINE_BYTES - 1) / SUBLINE_BYTES;
    }

    /// @notice The name of a blob.
    function dataRoot(uint64 sizeBytes, bytes32 rowRoot, bytes32 rlcRoot) internal pure returns (bytes32) {
        return
            sha256(
                abi.encodePacked(
                    _TAG,
                    uint8(1),
                    uint32(DATA_ROWS),
                    uint32(PARITY_ROWS),
                    // At most 32 KiB.
                    uint32(rowBytes(sizeBytes)),
                    sizeBytes,
                    rowRoot,
                    rlcRoot
                )
            );
    }

    /// @notice Whether `piece` is sub-line `subline` of row `row`. `proof` is the path of the piece, then that of the
    /// row, and must have exactly the length that the shape asks for.
    function verify(
        bytes32 rowRoot,
        uint256 rowBytes_,
        uint256 row,
        uint256 subline,
        bytes calldata piece,
        bytes32[] calldata proof
    ) internal pure returns (bool) {
        uint256 count = sublines(rowBytes_);
        if (row >= TOTAL_ROWS || subline >= count) return false;
        uint256 left = rowBytes_ - subline * SUBLINE_BYTES;
        if (piece.length != (left < SUBLINE_BYTES ? left : SUBLINE_BYTES)) return false;
        bytes32 node = sha256(abi.encodePacked(uint8(0), piece));
        (bool whole, bytes32 leaf, uint256 used) = _climb(node, subline, count, proof, 0);
        if (!whole) return false;
        (whole, node, used) = _climb(leaf, row, TOTAL_ROWS, proof, used);
        return whole && used == proof.length && node == rowRoot;
    }

    /// @dev From a leaf among `count` up to the root, with the siblings from `proof[from]` on. A node that is the odd
    /// last of its level has no sibling. False when the proof is too short. At most 12 steps for the shapes here.
    function _climb(
        bytes32 node,
        uint256 position,
        uint256 count,
        bytes32[] calldata proof,
        uint256 from
    ) private pure returns (bool, bytes32, uint256) {
        while (count > 1) {
            if (position ^ 1 < count) {
                if (from == proof.length) return (false, 0, from);
                bytes32 sibling = proof[from++];
                node = position & 1 == 1
                    ? sha256(abi.encodePacked(uint8(1), sibling, node))
                    : sha256(abi.encodePacked(uint8(1), node, sibling));
            }
            position >>= 1;
            count = (count + 1) / 2;
        }
        return (true, node, from);
    }
}
