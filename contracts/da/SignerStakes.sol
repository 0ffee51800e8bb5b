// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import { AccessManaged } from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import { DASignersParameters, IDASigners, SignerDetail } from "../interfaces/IDASigners.sol";
import { BN254, G1Point, G2Point } from "./BN254.sol";
import { CodePages } from "./CodePages.sol";
import { Clock, EpochClock } from "./EpochClock.sol";
import { Entry, SignerTable, Table } from "./SignerTable.sol";

/// @title SignerStakes
/// @notice The part of {DASigners} that changes something: keys, stakes, terms. See {IDASigners}.
abstract contract SignerStakes is IDASigners, SignerTable, AccessManaged {
    using EpochClock for Clock;

    /// @dev What an address has here. Nothing of it is ever deleted.
    struct Account {
        /// Bonded from the next epoch on.
        uint96 stakeWei;
        /// Page of the keys: pkG1 and pkG2, real part first; 0 if none are on record.
        uint32 keys;
        /// Position in the newest table plus 1; 0 if it is not in there.
        uint16 place;
        uint96 unbondingWei;
        uint40 releaseEpoch;
        string socket;
    }

    /* CONSTANTS AND IMMUTABLES */

    uint256 private constant _MAX_SOCKET_BYTES = 256;
    /// @dev Terms may be moved between the first ones divided and multiplied by this.
    uint256 private constant _TERM_RANGE = 4;
    uint256 internal constant _KEY_BYTES = 192;

    /// @inheritdoc IDASigners
    address public immutable custody;
    /// @inheritdoc IDASigners
    uint256 public immutable unbondingEpochs;
    uint256 private immutable _firstEpochBlocks;
    uint256 private immutable _firstMinStake;

    /* STORAGE */

    mapping(address signer => Account) internal _accounts;
    /// Least stake | newest epoch recorded as begun | whether registrations are halted.
    uint128 private _minStakeWei;
    uint64 private _recordedEpoch;
    bool private _paused;

    constructor(
        address governance,
        address custody_,
        DASignersParameters memory params
    ) AccessManaged(governance) SignerTable(uint24(params.epochBlocks)) {
        // Four times the length must fit 24 bits, four times the stake 96.
        _within(params.epochBlocks, 1, type(uint24).max / _TERM_RANGE);
        _within(params.minStakeWei, 1, type(uint96).max / _TERM_RANGE);
        _within(params.unbondingEpochs, 1, type(uint32).max);
        custody = custody_;
        unbondingEpochs = params.unbondingEpochs;
        _firstEpochBlocks = params.epochBlocks;
        _firstMinStake = params.minStakeWei;
        _minStakeWei = params.minStakeWei;
        emit TermsChanged(params.epochBlocks, params.minStakeWei);
    }

    /* JOINING AND LEAVING */

    /// @inheritdoc IDASigners
    function registerSigner(SignerDetail calldata detail, G1Point calldata signature) external payable {
        Table memory table = _nextTable();
        if (table.count == _MAX_SIGNERS) revert TableFull(_MAX_SIGNERS);
        Account storage account = _admit(detail, signature);
        _append(table, Entry(msg.sender, msg.value, detail.pkG1));
        // At most 256, and checked to be below 2^96.
        account.place = uint16(table.count);
        account.stakeWei = uint96(msg.value);
        emit StakeChanged(msg.sender, _keep(table), msg.value);
    }

    /// @inheritdoc IDASigners
    function registerSignerInPlaceOf(
        SignerDetail calldata detail,
        G1Point calldata signature,
        address displaced
    ) external payable {
        Table memory table = _nextTable();
        if (table.count != _MAX_SIGNERS) revert TableNotFull(table.count, _MAX_SIGNERS);
        Account storage other = _accounts[displaced];
        uint256 place = other.place;
        if (place == 0) revert NotRegistered(displaced);
        uint256 stakeWei = other.stakeWei;
        uint256 least = stakeWei + stakeWei / 10 + 1;
        if (msg.value < least) revert StakeTooLow(msg.value, least);
        _requireSmallest(table, displaced, stakeWei);
        Account storage account = _admit(detail, signature);

        _replace(table, place - 1, _entryOf(table, place - 1), Entry(msg.sender, msg.value, detail.pkG1));
        (other.place, other.stakeWei) = (0, 0);
        // At most 256, and checked to be below 2^96.
        (account.place, account.stakeWei) = (uint16(place), uint96(msg.value));
        uint256 epoch = _keep(table);
        emit StakeChanged(displaced, epoch, 0);
        _unbond(other, displaced, stakeWei, epoch);
        emit StakeChanged(msg.sender, epoch, msg.value);
    }

    /// @inheritdoc IDASigners
    function addStake() external payable {
        Account storage account = _member(msg.sender);
        _setStake(account, msg.sender, account.stakeWei + msg.value);
    }

    /// @inheritdoc IDASigners
    function requestUnbond(uint256 amountWei) external {
        Account storage account = _member(msg.sender);
        uint256 bondedWei = account.stakeWei;
        if (amountWei == 0 || amountWei > bondedWei) revert UnbondAmount(amountWei, bondedWei);
        uint256 leftWei = bondedWei - amountWei;
        if (leftWei != 0 && leftWei < _minStakeWei) revert StakeTooLow(leftWei, _minStakeWei);
        _unbond(account, msg.sender, amountWei, _setStake(account, msg.sender, leftWei));
    }

    /// @inheritdoc IDASigners
    function withdrawUnbonded() external returns (uint256 amountWei) {
        Account storage account = _accounts[msg.sender];
        amountWei = account.unbondingWei;
        if (amountWei == 0) revert NothingUnbonding(msg.sender);
        uint256 epoch = epochNumber();
        if (epoch < account.releaseEpoch) revert StillUnbonding(account.releaseEpoch, epoch);
        account.unbondingWei = 0;
        emit Withdrawn(msg.sender, amountWei);
        _pay(amountWei);
    }

    /// @inheritdoc IDASigners
    function updateSocket(string calldata socket) external {
        Account storage account = _accounts[msg.sender];
        if (account.keys == 0) revert NotRegistered(msg.sender);
        _setSocket(account, socket);
    }

    /// @inheritdoc IDASigners
    function slash(address signer, uint256 amountWei) external returns (uint256 takenWei) {
        if (msg.sender != custody) revert CallerIsNotCustody(msg.sender);
        Account storage account = _accounts[signer];
        uint256 bondedWei = account.stakeWei;
        uint256 fromBonded = amountWei < bondedWei ? amountWei : bondedWei;
        uint256 fromUnbonding = account.unbondingWei;
        if (fromUnbonding > amountWei - fromBonded) fromUnbonding = amountWei - fromBonded;
        takenWei = fromBonded + fromUnbonding;
        if (takenWei == 0) return 0;
        // Not more than what is there.
        account.unbondingWei -= uint96(fromUnbonding);
        if (fromBonded != 0) {
            uint256 leftWei = bondedWei - fromBonded;
            bool leaves = leftWei < _minStakeWei;
            uint256 epoch = _setStake(account, signer, leaves ? 0 : leftWei);
            if (leaves && leftWei != 0) _unbond(account, signer, leftWei, epoch);
        }
        emit Slashed(signer, takenWei);
        _pay(takenWei);
    }

    /* EPOCHS */

    /// @inheritdoc IDASigners
    function epochNumber() public view returns (uint256) {
        return _clock.epoch();
    }

    /// @inheritdoc IDASigners
    function nextEpochBlock() external view returns (uint256) {
        return _clock.nextStart();
    }

    /// @inheritdoc IDASigners
    function epochBlocks() external view returns (uint256) {
        return _clock.epochBlocks;
    }

    /// @inheritdoc IDASigners
    function makeEpoch() external {
        Clock memory clock = _clock;
        uint256 epoch = clock.epoch();
        if (epoch == _recordedEpoch) return;
        // Below one of 40 bits: see Clock.
        _recordedEpoch = uint64(epoch);
        Table memory table = _tableOf(clock, epoch);
        emit NewEpoch(epoch, table.count, table.totalWei);
    }

    /* TERMS */

    /// @inheritdoc IDASigners
    function minStake() external view returns (uint256) {
        return _minStakeWei;
    }

    /// @inheritdoc IDASigners
    function setEpochBlocks(uint256 blocks) external restricted {
        uint256 least = _firstEpochBlocks / _TERM_RANGE;
        _within(blocks, least == 0 ? 1 : least, _firstEpochBlocks * _TERM_RANGE);
        Clock memory clock = _clock;
        // The running epoch ends when it was to end. Widths: see Clock, and the check of the first length.
        uint256 epoch = clock.epoch();
        clock.anchorBlock = uint40(clock.nextStart());
        clock.anchorEpoch = uint40(epoch + 1);
        clock.epochBlocks = uint24(blocks);
        _clock = clock;
        emit TermsChanged(blocks, _minStakeWei);
    }

    /// @inheritdoc IDASigners
    function setMinStake(uint256 stakeWei) external restricted {
        uint256 least = _firstMinStake / _TERM_RANGE;
        _within(stakeWei, least == 0 ? 1 : least, _firstMinStake * _TERM_RANGE);
        // Below 2^96 by the check of the first stake.
        _minStakeWei = uint128(stakeWei);
        emit TermsChanged(_clock.epochBlocks, stakeWei);
    }

    /// @inheritdoc IDASigners
    function paused() external view returns (bool) {
        return _paused;
    }

    /// @inheritdoc IDASigners
    function pause() external restricted {
        _paused = true;
        emit Paused(msg.sender);
    }

    /// @inheritdoc IDASigners
    function unpause() external restricted {
        _paused = false;
        emit Unpaused(msg.sender);
    }

    /* INTERNAL */

    /// @dev Everything about a newcomer except its place: checks, keys, socket.
    function _admit(
        SignerDetail calldata detail,
        G1Point calldata signature
    ) private returns (Account storage account) {
        if (_paused) revert EnforcedPause();
        if (msg.sender != detail.signer) revert CallerIsNotSigner(msg.sender, detail.signer);
        account = _accounts[msg.sender];
        if (account.place != 0) revert AlreadyRegistered(msg.sender);
        if (msg.value < _minStakeWei) revert StakeTooLow(msg.value, _minStakeWei);
        if (msg.value > type(uint96).max) revert StakeTooHigh(msg.value, type(uint96).max);
        bytes memory keys = abi.encode(detail.pkG1, detail.pkG2);
        if (account.keys == 0) {
            _requirePossession(detail, signature);
            account.keys = _write(keys);
            emit NewSigner(msg.sender, detail.pkG1, detail.pkG2);
        } else if (keccak256(keys) != keccak256(CodePages.read(account.keys, _KEY_BYTES))) {
            revert KeysDiffer(msg.sender);
        }
        _setSocket(account, detail.socket);
    }

    /// @dev The address and the chain are signed too: nobody can register another's keys.
    function _requirePossession(SignerDetail calldata detail, G1Point calldata signature) private view {
        G1Point memory key = detail.pkG1;
        // The point at infinity on both sides would pass for any digest.
        if (key.X == 0 && key.Y == 0) revert SignatureInvalid();
        G2Point calldata key2 = detail.pkG2;
        G1Point memory hash = BN254.hashToG1(
            keccak256(abi.encodePacked(msg.sender, block.chainid, "0G_BN254_Pubkey_Registration"))
        );
        uint256 gamma = uint256(keccak256(abi.encode(hash, signature, key, key2))) % BN254.R;
        G2Point memory turned = G2Point([key2.X[1], key2.X[0]], [key2.Y[1], key2.Y[0]]);
        if (!BN254.verify(key, turned, hash, signature, gamma)) revert SignatureInvalid();
    }

    function _setSocket(Account storage account, string calldata socket) private {
        uint256 length = bytes(socket).length;
        if (length == 0 || length > _MAX_SOCKET_BYTES) revert SocketLength(length, _MAX_SOCKET_BYTES);
        account.socket = socket;
        emit SocketUpdated(msg.sender, socket);
    }

    function _member(address signer) private view returns (Account storage account) {
        account = _accounts[signer];
        if (account.place == 0) revert NotRegistered(signer);
    }

    /// @dev Changes a member's stake from the next epoch on; 0 takes it out of the table.
    function _setStake(Account storage account, address signer, uint256 stakeWei) private returns (uint256 epoch) {
        if (stakeWei > type(uint96).max) revert StakeTooHigh(stakeWei, type(uint96).max);
        Table memory table = _nextTable();
        uint256 index = account.place - 1;
        Entry memory old = _entryOf(table, index);
        if (stakeWei == 0) {
            address moved = _remove(table, index, old);
            if (moved != address(0)) _accounts[moved].place = account.place;
            account.place = 0;
        } else {
            _replace(table, index, old, Entry(signer, stakeWei, old.pkG1));
        }
        // Checked above.
        account.stakeWei = uint96(stakeWei);
        epoch = _keep(table);
        emit StakeChanged(signer, epoch, stakeWei);
    }

    /// @dev Begins the time of everything that unbonds anew, at the epoch in which the stake no longer counts.
    function _unbond(Account storage account, address signer, uint256 amountWei, uint256 epoch) private {
        uint256 releaseEpoch = epoch + unbondingEpochs;
        // Stakes and what unbonds were all paid in, which no chain has 2^96 wei of twice; epochs: see Clock.
        account.unbondingWei += uint96(amountWei);
        account.releaseEpoch = uint40(releaseEpoch);
        emit Unbonding(signer, amountWei, releaseEpoch);
    }

    function _requireSmallest(Table memory table, address named, uint256 stakeWei) private view {
        for (uint256 i = 0; i < table.count; i += _PAGE) {
            bytes memory page = _pageOf(table, i / _PAGE, _PAGE);
            for (uint256 j = 0; j < _PAGE; ++j) {
                (address signer, uint256 other) = _signerIn(page, j);
                if (other < stakeWei) revert NotSmallest(named, signer);
            }
        }
    }

    function _pay(uint256 amountWei) private {
        (bool paid, ) = msg.sender.call{ value: amountWei }("");
        if (!paid) revert PaymentRefused(msg.sender, amountWei);
    }

    function _within(uint256 value, uint256 least, uint256 most) private pure {
        if (value < least || value > most) revert TermOutOfRange(value, least, most);
    }
}
