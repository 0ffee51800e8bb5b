// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

// solhint-disable gas-small-strings

import { ISignerApproval } from "../interfaces/ISignerApproval.sol";
import { Signatures } from "./Signatures.sol";

/// @title SignerQuorum
/// @notice Approves a provider's signing key when enough of a fixed set of members have signed that they checked its
/// attestation. Members verify quotes outside the chain; no single one decides. Governance lets it work by giving it
/// the right to call `approveSigner` of a service contract.
///
/// Members sign: EIP-712, domain {name "Weightless Attestation", version "1", chainId, verifyingContract}, type
/// `Approval(address serving,address provider,address signer,bytes32 identity,uint64 expiry)`, 65 or 64 bytes.
contract SignerQuorum {
    /// @notice A quorum approved a signer.
    event SignerVouched(address indexed serving, address indexed provider, address indexed signer, bytes32 identity);

    /// @notice A set of 1 to 64 distinct members, of whom 1 to all must sign.
    error QuorumInvalid(uint256 members, uint256 threshold);
    /// @notice Too few or too many signatures.
    error QuorumNotReached(uint256 signatures, uint256 threshold);
    /// @notice A signature is not of a member, or not in ascending order of the members' addresses.
    error SignatureNotOfMember(uint256 index, address recovered);
    /// @notice The approval was good until `expiry` (seconds).
    error ApprovalExpired(uint256 expiry);

    bytes32 private constant _NAME = keccak256("Weightless Attestation");
    bytes32 private constant _TYPE =
        keccak256("Approval(address serving,address provider,address signer,bytes32 identity,uint64 expiry)");
    uint256 private constant _MAX_MEMBERS = 64;

    /// @notice How many members must sign.
    uint256 public immutable threshold;
    /// @notice Whether the account is a member.
    mapping(address account => bool) public isMember;

    constructor(address[] memory members, uint256 threshold_) {
        if (members.length > _MAX_MEMBERS || threshold_ == 0 || threshold_ > members.length) {
            revert QuorumInvalid(members.length, threshold_);
        }
        for (uint256 i = 0; i < members.length; ++i) {
            if (members[i] == address(0) || isMember[members[i]]) revert QuorumInvalid(members.length, threshold_);
            isMember[members[i]] = true;
        }
        threshold = threshold_;
    }

    /// @notice Approves the signer of a service. Anyone may call.
    /// @param signatures One of each member, in ascending order of their addresses.
    function approve(
        address serving,
        address provider,
        address signer,
        bytes32 identity,
        uint64 expiry,
        bytes[] calldata signatures
    ) external {
        if (block.timestamp > expiry) revert ApprovalExpired(expiry);
        if (signatures.length < threshold || signatures.length > _MAX_MEMBERS) {
            revert QuorumNotReached(signatures.length, threshold);
        }
        bytes32 digest = approvalDigest(serving, provider, signer, identity, expiry);
        address last;
        for (uint256 i = 0; i < signatures.length; ++i) {
            address member = Signatures.recover(digest, signatures[i]);
            // Ascending order: nobody counts twice.
            if (member <= last || !isMember[member]) revert SignatureNotOfMember(i, member);
            last = member;
        }
        emit SignerVouched(serving, provider, signer, identity);
        ISignerApproval(serving).approveSigner(provider, signer, identity);
    }

    /// @notice What members sign.
    function approvalDigest(
        address serving,
        address provider,
        address signer,
        bytes32 identity,
        uint64 expiry
    ) public view returns (bytes32) {
        bytes32 message = keccak256(abi.encode(_TYPE, serving, provider, signer, identity, expiry));
        return Signatures.digest(Signatures.domain(_NAME), message);
    }
}
