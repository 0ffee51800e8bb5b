// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import { G1Point, G2Point } from "../da/BN254.sol";

/// @notice Who a signer is. `pkG2` has the real part first: X = [c0, c1], the opposite of EIP-197.
struct SignerDetail {
    address signer;
    string socket;
    G1Point pkG1;
    G2Point pkG2;
}

// Lives in memory only: packing it would save nothing.
// solhint-disable gas-struct-packing

/// @notice One place in an epoch's order. It owns the rows `firstRow .. firstRow + rowCount - 1`; a very small stake
/// may own none. `pkG2` has the real part first. The socket is the signer's current one, the rest is that of the epoch.
struct SignerView {
    address signer;
    uint256 index;
    uint256 stakeWei;
    uint32 firstRow;
    uint32 rowCount;
    G1Point pkG1;
    G2Point pkG2;
    string socket;
}

// solhint-enable gas-struct-packing

/// @notice The terms fixed at deployment.
/// @param epochBlocks Length of an epoch. Governance may move it between a quarter and four times of this.
/// @param unbondingEpochs Epochs that stake stays slashable after it left the table. Must cover the longest retention
/// of a blob and the custody deadline after it. Never changes.
/// @param minStakeWei Least stake of a new signer. Governance may move it between a quarter and four times of this.
struct DASignersParameters {
    uint64 epochBlocks;
    uint64 unbondingEpochs;
    uint128 minStakeWei;
}

/// @title The signers of data availability: bonded stake, BLS keys over BN254, and who holds which row in which epoch
/// @notice Stakes are in wei of the native coin, times in blocks and epochs.
///
/// Epochs follow from the block number alone. What changes during an epoch (joining, leaving, stake, slashing) takes
/// effect with the next one, so the table of an epoch never changes once it began. The tables of all past epochs stay
/// readable. An epoch in which nothing changes costs nothing.
///
/// One quorum (number 0) of at most 256 signers per epoch. Row r of 3072 belongs to the signer at the point
/// `(2r + 1) * total / 6144` of the stakes laid one after the other in the epoch's order. Anybody can compute it.
///
/// Signing two different blobs for the same (epoch, quorum) harms nobody, since a data root binds its content: there is
/// no slashing for it here. Stake is taken only through {slash}, by the custody contract named at deployment.
///
/// The keys of an address never change. An address that left may come back with the same keys.
interface IDASigners {
    /* EVENTS */

    /// @notice Keys were recorded for an address, after their proof of possession. Once for each address.
    event NewSigner(address indexed signer, G1Point pkG1, G2Point pkG2);
    /// @notice The signer is reached at `socket`.
    event SocketUpdated(address indexed signer, string socket);
    /// @notice From `epoch` on the signer counts with `stakeWei`; 0 means that it is not in the table.
    event StakeChanged(address indexed signer, uint256 indexed epoch, uint256 stakeWei);
    /// @notice `amountWei` was added to what unbonds. All that unbonds can be withdrawn from `releaseEpoch` on.
    event Unbonding(address indexed signer, uint256 amountWei, uint256 releaseEpoch);
    /// @notice Unbonded stake was paid out.
    event Withdrawn(address indexed signer, uint256 amountWei);
    /// @notice Stake was taken by the custody contract.
    event Slashed(address indexed signer, uint256 amountWei);
    /// @notice An epoch was recorded as begun. Epochs that nobody recorded have no event.
    event NewEpoch(uint256 indexed epoch, uint256 signerCount, uint256 totalStakeWei);
    /// @notice Terms changed: the epoch's length from the next epoch on, the least stake for registrations from now on.
    event TermsChanged(uint256 epochBlocks, uint256 minStakeWei);
    /// @notice New registrations were halted. Everything else goes on.
    event Paused(address account);
    /// @notice New registrations were let in again.
    event Unpaused(address account);

    /* ERRORS */

    /// @notice Nothing is known of that epoch yet; `last` is the last one that can be asked for.
    error UnknownEpoch(uint256 epoch, uint256 last);
    /// @notice Quorum numbers are below `count`.
    error UnknownQuorum(uint256 quorumId, uint256 count);
    /// @notice Rows are numbered below `count`, and an epoch without signers has none.
    error UnknownRow(uint256 row, uint256 count);
    /// @notice The bitmap of this epoch has `wanted` bytes.
    error BitmapLengthMismatch(uint256 length, uint256 wanted);
    /// @notice A bit at or behind position `count` is set.
    error BitmapOutOfRange(uint256 count);
    /// @notice Less than two thirds of the stake signed.
    error StakeBelowQuorum(uint256 signedWei, uint256 totalWei);
    /// @notice The signature does not fit the digest and the keys.
    error SignatureInvalid();
    /// @notice The keys must be recorded by the address that they are for.
    error CallerIsNotSigner(address caller, address signer);
    /// @notice The caller is not in the table.
    error NotRegistered(address signer);
    /// @notice The caller is in the table already: use `addStake`.
    error AlreadyRegistered(address signer);
    /// @notice The address has other keys on record.
    error KeysDiffer(address signer);
    /// @notice The socket must have 1 to `most` bytes.
    error SocketLength(uint256 length, uint256 most);
    /// @notice The stake must be at least `least` wei.
    error StakeTooLow(uint256 stakeWei, uint256 least);
    /// @notice The stake may be `most` wei.
    error StakeTooHigh(uint256 stakeWei, uint256 most);
    /// @notice All `count` places are taken: take over the one of the smallest stake by `registerSignerInPlaceOf`.
    error TableFull(uint256 count);
    /// @notice There is a free place: use `registerSigner`.
    error TableNotFull(uint256 count, uint256 limit);
    /// @notice `smaller` has less stake than the signer that was named.
    error NotSmallest(address named, address smaller);
    /// @notice The amount is 0 or more than what is bonded.
    error UnbondAmount(uint256 amountWei, uint256 bondedWei);
    /// @notice Nothing can be withdrawn before `releaseEpoch`.
    error StillUnbonding(uint256 releaseEpoch, uint256 epoch);
    /// @notice Nothing unbonds.
    error NothingUnbonding(address signer);
    /// @notice The receiver refused the payment.
    error PaymentRefused(address receiver, uint256 amountWei);
    /// @notice Only the custody contract may slash.
    error CallerIsNotCustody(address caller);
    /// @notice New registrations are halted.
    error EnforcedPause();
    /// @notice The term must be within `least .. most`.
    error TermOutOfRange(uint256 value, uint256 least, uint256 most);

    /* JOINING AND LEAVING */

    /// @notice Joins the table of the next epoch with the value sent as stake.
    /// @dev Reverts unless the caller is `detail.signer`, is not in the table, sends at least `minStake` wei, and
    /// `signature` is that of `keccak256(signer || chainId || "0G_BN254_Pubkey_Registration")` (20 + 32 + 28 bytes)
    /// mapped to G1 by both keys. Where keys are on record already, they must be the same, and the signature is not
    /// looked at. Reverts while registrations are halted or the table is full.
    function registerSigner(SignerDetail calldata detail, G1Point calldata signature) external payable;

    /// @notice The same where all places are taken: `displaced`, which no other stake may be smaller than, leaves the
    /// table of the next epoch and its stake begins to unbond. The value must be a tenth more than that stake.
    function registerSignerInPlaceOf(
        SignerDetail calldata detail,
        G1Point calldata signature,
        address displaced
    ) external payable;

    /// @notice Adds the value sent to the caller's stake from the next epoch on.
    function addStake() external payable;

    /// @notice Takes `amountWei` out of the caller's stake from the next epoch on. It can be withdrawn after
    /// `unbondingEpochs` more epochs, together with all that unbonds already, whose time begins anew.
    /// @dev What stays bonded must be 0 (the caller leaves) or at least `minStake`.
    function requestUnbond(uint256 amountWei) external;

    /// @notice Pays out what the caller unbonded.
    function withdrawUnbonded() external returns (uint256 amountWei);

    /// @notice Changes where the caller is reached, at once. The caller must have keys on record.
    function updateSocket(string calldata socket) external;

    /// @notice Takes up to `amountWei` of a signer's stake, bonded stake first, and sends it to the caller. What is
    /// left bonded below `minStake` leaves the table and unbonds. Custody contract only.
    /// @return takenWei What was taken: less than asked for only if the signer has no more.
    function slash(address signer, uint256 amountWei) external returns (uint256 takenWei);

    /* EPOCHS */

    /// @notice The epoch of this block.
    function epochNumber() external view returns (uint256);

    /// @notice Records that the epoch began, by an event. Changes nothing else; without effect if it is recorded.
    function makeEpoch() external;

    /// @notice First block of the next epoch.
    function nextEpochBlock() external view returns (uint256);

    /// @notice 1 if the epoch has signers, otherwise 0. Views that take an epoch take the next one too, as it stands.
    function quorumCount(uint256 epoch) external view returns (uint256);

    /// @notice Signers of an epoch: at most 256.
    function signerCount(uint256 epoch) external view returns (uint256);

    /// @notice Stake of an epoch's signers together.
    function totalStake(uint256 epoch) external view returns (uint256 stakeWei);

    /// @notice Signers `offset .. offset + limit - 1` of an epoch, in its order, as many of them as there are.
    function signersAt(uint256 epoch, uint256 offset, uint256 limit) external view returns (SignerView[] memory);

    /// @notice Who owns a row, and its position in the epoch's order.
    function signerOfRow(uint256 epoch, uint32 row) external view returns (address signer, uint256 index);

    /// @notice Who owns a row.
    function getQuorumRow(uint256 epoch, uint256 quorumId, uint32 row) external view returns (address);

    /// @notice The owners of all 3072 rows. Meant for eth_call.
    function getQuorum(uint256 epoch, uint256 quorumId) external view returns (address[] memory);

    /// @notice Whether the address is among an epoch's signers. Meant for eth_call.
    function registeredEpoch(address signer, uint256 epoch) external view returns (bool);

    /* SIGNATURES */

    /// @notice Checks that signers with two thirds of an epoch's stake signed. Grows by some 850 gas for each signer
    /// that did not, and some 3,200 for each 16 places among which there is one.
    /// @param digest What was signed, before it is mapped to G1.
    /// @param bitmap One bit for each signer, `bitmap[i / 8] & (1 << (i % 8))`, in `ceil(count / 8)` bytes.
    /// @param aggPkG2 Sum of their keys in G2, imaginary part first (X = [c1, c0]) as in EIP-197.
    /// @param signature Sum of their signatures.
    /// @return signedBitmap Bit i stands for signer i.
    function checkAggregate(
        uint256 epoch,
        uint256 quorumId,
        bytes32 digest,
        bytes calldata bitmap,
        G2Point calldata aggPkG2,
        G1Point calldata signature
    ) external view returns (uint256 signedBitmap);

    /// @notice The sum of the keys in G1 of the signers in a bitmap, and stake: of all and of them, in wei.
    function getAggPkG1(
        uint256 epoch,
        uint256 quorumId,
        bytes calldata bitmap
    ) external view returns (G1Point memory aggPkG1, uint256 total, uint256 hit);

    /* ACCOUNTS */

    /// @notice Whether keys are on record for the address.
    function isSigner(address signer) external view returns (bool);

    /// @notice Keys and sockets. Reverts with {NotRegistered} if there are none on record for one of them.
    function getSigner(address[] calldata signers) external view returns (SignerDetail[] memory);

    /// @notice What an address has here: bonded from the next epoch on, and unbonding until `releaseEpoch`.
    function stakeOf(
        address signer
    ) external view returns (uint256 bondedWei, uint256 unbondingWei, uint256 releaseEpoch);

    /* TERMS */

    /// @notice The contract that may slash.
    function custody() external view returns (address);

    /// @notice Epochs that stake stays slashable after it left the table. A blob must be kept for fewer.
    function unbondingEpochs() external view returns (uint256);

    /// @notice Least stake of a new signer.
    function minStake() external view returns (uint256 stakeWei);

    /// @notice Blocks of an epoch: of the running one, or, if governance just changed it, of the next.
    function epochBlocks() external view returns (uint256);

    /// @notice Sets the length of epochs from the next one on. Governance only, within bounds.
    function setEpochBlocks(uint256 blocks) external;

    /// @notice Sets the least stake of registrations and of what stays after unbonding. Governance only, within bounds.
    function setMinStake(uint256 stakeWei) external;

    /// @notice Whether new registrations are halted.
    function paused() external view returns (bool);

    /// @notice Halts new registrations. Guardian only.
    function pause() external;

    /// @notice Lets registrations in again. Governance only.
    function unpause() external;
}
