// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

// solhint-disable gas-small-strings

/// @title Signatures
/// @notice EIP-712 digests and who signed them. Built for batches: no allocation, no copy of the signature.
library Signatures {
    bytes32 private constant _DOMAIN_TYPE =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    bytes32 private constant _VERSION = keccak256("1");

    /// @dev Half of the order of secp256k1: a signature with a greater s is the malleable twin of another.
    uint256 private constant _HALF_ORDER = 0x7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0;

    /// @notice The domain of this contract on this chain, version "1".
    /// @param name Hash of the domain's name.
    function domain(bytes32 name) internal view returns (bytes32) {
        return keccak256(abi.encode(_DOMAIN_TYPE, name, _VERSION, block.chainid, address(this)));
    }

    /// @notice The digest of a message in a domain.
    function digest(bytes32 domain_, bytes32 message) internal pure returns (bytes32 hash) {
        assembly ("memory-safe") {
            // 2 + 32 + 32 bytes at 0: the last two lie in the free memory pointer's word, which is put back.
            let pointer := mload(0x40)
            mstore(0x00, hex"1901")
            mstore(0x02, domain_)
            mstore(0x22, message)
            hash := keccak256(0x00, 0x42)
            mstore(0x40, pointer)
        }
    }

    /// @notice Who signed the digest: 65 bytes (r, s, v with v 27 or 28, s low) or 64 bytes (EIP-2098).
    /// The zero address if nobody did.
    function recover(bytes32 hash, bytes calldata signature) internal view returns (address signer) {
        bytes32 r;
        uint256 s;
        uint256 v;
        if (signature.length == 65) {
            assembly ("memory-safe") {
                r := calldataload(signature.offset)
                s := calldataload(add(signature.offset, 0x20))
                v := byte(0, calldataload(add(signature.offset, 0x40)))
            }
        } else if (signature.length == 64) {
            assembly ("memory-safe") {
                r := calldataload(signature.offset)
                s := calldataload(add(signature.offset, 0x20))
                v := add(27, shr(255, s))
                s := shr(1, shl(1, s))
            }
        }
        return _recover(hash, r, s, v);
    }

    /// @notice Who signed the digest, from a signature in the form of EIP-2098. The zero address if nobody did.
    /// @param vs s, with the parity of the curve point in its highest bit.
    function recoverCompact(bytes32 hash, bytes32 r, uint256 vs) internal view returns (address signer) {
        unchecked {
            // One bit more than 27.
            return _recover(hash, r, vs & uint256(type(int256).max), 27 + (vs >> 255));
        }
    }

    function _recover(bytes32 hash, bytes32 r, uint256 s, uint256 v) private view returns (address signer) {
        assembly ("memory-safe") {
            // The precompile wants 27 or 28 and no zeros, and answers nothing otherwise. Its input ends in the zero
            // slot and the free memory pointer's word; both are put back.
            let pointer := mload(0x40)
            mstore(0x00, hash)
            mstore(0x20, v)
            mstore(0x40, r)
            mstore(0x60, s)
            let ok := staticcall(gas(), 1, 0x00, 0x80, 0x00, 0x20)
            let low := iszero(gt(s, _HALF_ORDER))
            signer := mul(mload(0x00), and(and(ok, low), eq(returndatasize(), 0x20)))
            mstore(0x40, pointer)
            mstore(0x60, 0)
        }
    }

    /// @notice Whether the account signed the digest: by its key, or by its code (EIP-1271).
    function isSignedBy(bytes32 hash, bytes calldata signature, address account) internal view returns (bool) {
        address signer = recover(hash, signature);
        if (signer == account && signer != address(0)) return true;
        if (account.code.length == 0) return false;
        (bool ok, bytes memory answer) = account.staticcall(
            abi.encodeWithSignature("isValidSignature(bytes32,bytes)", hash, signature)
        );
        return ok && answer.length == 32 && bytes32(answer) == bytes32(bytes4(0x1626ba7e));
    }
}
