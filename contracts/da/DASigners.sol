// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import { Bytes } from "@openzeppelin/contracts/utils/Bytes.sol";
import { Math } from "@openzeppelin/contracts/utils/math/Math.sol";
import { DASignersParameters, IDASigners, SignerDetail, SignerView } from "../interfaces/IDASigners.sol";
import { BN254, G1Point, G2Point } from "./BN254.sol";
import { CodePages } from "./CodePages.sol";
import { Clock, EpochClock } from "./EpochClock.sol";
import { SignerStakes } from "./SignerStakes.sol";
import { Entry, Table } from "./SignerTable.sol";

/// @title DASigners
/// @notice See {IDASigners}. This part answers questions about epochs and checks signatures; {SignerStakes} does
/// the rest.
contract DASigners is SignerStakes {
    using EpochClock for Clock;

    /// @dev Rows of an encoded blob.
    uint256 private constant _ROWS = 3072;

    /// @param governance Moves terms within bounds, and halts registrations.
    /// @param custody_ The contract that may slash; it must take what it is sent.
    constructor(
        address governance,
        address custody_,
        DASignersParameters memory params
    ) SignerStakes(governance, custody_, params) {}

    /* EPOCHS */

    /// @inheritdoc IDASigners
    function quorumCount(uint256 epoch) external view returns (uint256) {
        return _table(epoch).count == 0 ? 0 : 1;
    }

    /// @inheritdoc IDASigners
    function signerCount(uint256 epoch) external view returns (uint256) {
        return _table(epoch).count;
    }

    /// @inheritdoc IDASigners
    function totalStake(uint256 epoch) external view returns (uint256) {
        return _table(epoch).totalWei;
    }

    /// @inheritdoc IDASigners
    function signersAt(
        uint256 epoch,
        uint256 offset,
        uint256 limit
    ) external view returns (SignerView[] memory signers) {
        Table memory table = _table(epoch);
        if (offset > table.count) offset = table.count;
        if (limit > table.count - offset) limit = table.count - offset;
        signers = new SignerView[](limit);
        uint256 firstRow = 0;
        uint256 belowWei = 0;
        for (uint256 i = 0; i < offset + limit; ++i) {
            Entry memory entry = _entryOf(table, i);
            belowWei += entry.stakeWei;
            uint256 endRow = _rowsBelow(belowWei, table.totalWei);
            if (i >= offset) signers[i - offset] = _view(entry, i, firstRow, endRow);
            firstRow = endRow;
        }
    }

    /// @inheritdoc IDASigners
    function signerOfRow(uint256 epoch, uint32 row) public view returns (address signer, uint256 index) {
        Table memory table = _table(epoch);
        if (row >= _ROWS || table.count == 0) revert UnknownRow(row, table.count == 0 ? 0 : _ROWS);
        // The row's point times 6144. No overflow: stakes together are below 2^128.
        uint256 point = (2 * uint256(row) + 1) * table.totalWei;
        uint256 belowWei = 0;
        bytes memory page;
        while (true) {
            if (index % _PAGE == 0) page = _pageOf(table, index / _PAGE, _PAGE);
            uint256 stakeWei;
            (signer, stakeWei) = _signerIn(page, index % _PAGE);
            belowWei += stakeWei;
            // Ends at the last signer at the latest: all stakes together are beyond every point.
            if (2 * _ROWS * belowWei > point) return (signer, index);
            ++index;
        }
    }

    /// @inheritdoc IDASigners
    function getQuorumRow(uint256 epoch, uint256 quorumId, uint32 row) external view returns (address signer) {
        _requireQuorum(quorumId);
        (signer, ) = signerOfRow(epoch, row);
    }

    /// @inheritdoc IDASigners
    function getQuorum(uint256 epoch, uint256 quorumId) external view returns (address[] memory rows) {
        _requireQuorum(quorumId);
        Table memory table = _table(epoch);
        if (table.count == 0) revert UnknownRow(0, 0);
        rows = new address[](_ROWS);
        uint256 row = 0;
        uint256 belowWei = 0;
        for (uint256 i = 0; i < table.count; ++i) {
            Entry memory entry = _entryOf(table, i);
            belowWei += entry.stakeWei;
            for (uint256 end = _rowsBelow(belowWei, table.totalWei); row < end; ++row) rows[row] = entry.signer;
        }
    }

    /// @inheritdoc IDASigners
    function registeredEpoch(address signer, uint256 epoch) external view returns (bool) {
        Table memory table = _table(epoch);
        for (uint256 i = 0; i < table.count; ++i) if (_entryOf(table, i).signer == signer) return true;
        return false;
    }

    /* SIGNATURES */

    /// @inheritdoc IDASigners
    function checkAggregate(
        uint256 epoch,
        uint256 quorumId,
        bytes32 digest,
        bytes calldata bitmap,
        G2Point calldata aggPkG2,
        G1Point calldata signature
    ) external view returns (uint256 signedBitmap) {
        _requireQuorum(quorumId);
        Clock memory clock = _clock;
        uint256 current = clock.epoch();
        if (epoch > current) revert UnknownEpoch(epoch, current);
        Table memory table = _tableOf(clock, epoch);
        signedBitmap = _bits(bitmap, table.count);
        (G1Point memory key, uint256 signedWei) = _signers(table, signedBitmap);
        if (signedWei == 0 || 3 * signedWei < 2 * table.totalWei) revert StakeBelowQuorum(signedWei, table.totalWei);

        G1Point memory hash = BN254.hashToG1(digest);
        uint256 gamma = uint256(keccak256(abi.encode(signature, key, aggPkG2, hash))) % BN254.R;
        if (!BN254.verify(key, aggPkG2, hash, signature, gamma)) revert SignatureInvalid();
    }

    /// @inheritdoc IDASigners
    function getAggPkG1(
        uint256 epoch,
        uint256 quorumId,
        bytes calldata bitmap
    ) external view returns (G1Point memory aggPkG1, uint256 total, uint256 hit) {
        _requireQuorum(quorumId);
        Table memory table = _table(epoch);
        (aggPkG1, hit) = _signers(table, _bits(bitmap, table.count));
        total = table.totalWei;
    }

    /* ACCOUNTS */

    /// @inheritdoc IDASigners
    function isSigner(address signer) external view returns (bool) {
        return _accounts[signer].keys != 0;
    }

    /// @inheritdoc IDASigners
    function getSigner(address[] calldata signers) external view returns (SignerDetail[] memory details) {
        details = new SignerDetail[](signers.length);
        for (uint256 i = 0; i < signers.length; ++i) {
            Account storage account = _accounts[signers[i]];
            if (account.keys == 0) revert NotRegistered(signers[i]);
            (G1Point memory pkG1, G2Point memory pkG2) = _keysOf(account);
            details[i] = SignerDetail(signers[i], account.socket, pkG1, pkG2);
        }
    }

    /// @inheritdoc IDASigners
    function stakeOf(
        address signer
    ) external view returns (uint256 bondedWei, uint256 unbondingWei, uint256 releaseEpoch) {
        Account storage account = _accounts[signer];
        return (account.stakeWei, account.unbondingWei, account.releaseEpoch);
    }

    /* INTERNAL */

    /// @dev The table of an epoch up to the next one.
    function _table(uint256 epoch) private view returns (Table memory) {
        Clock memory clock = _clock;
        uint256 last = clock.epoch() + 1;
        if (epoch > last) revert UnknownEpoch(epoch, last);
        return _tableOf(clock, epoch);
    }

    /// @dev Sum of the keys, and stake, of those in the bitmap: what all have less what the absent ones have, since
    /// those are few where it matters.
    function _signers(
        Table memory table,
        uint256 signed
    ) private view returns (G1Point memory key, uint256 stakeWei) {
        uint256 absent = ~signed & _lowBits(table.count);
        stakeWei = table.totalWei;
        if (absent == 0) return (table.aggPkG1, stakeWei);
        // Sum of the keys so far (two words) | entry of one of them: key (two), signer and stake.
        uint256[5] memory sum;
        address page;
        uint256 opened = type(uint256).max;
        // One bit less each time: at most 256 of them, with stakes that the total is made of.
        unchecked {
            for (; absent != 0; absent &= absent - 1) {
                uint256 index = Math.log2(absent & (0 - absent));
                if (index / _PAGE != opened) {
                    opened = index / _PAGE;
                    page = CodePages.addressOf(_numberOf(table, opened));
                }
                CodePages.readInto(sum, page, (index % _PAGE) * _ENTRY_BYTES);
                stakeWei -= uint96(sum[4]);
                BN254.addInto(sum);
            }
        }
        key = BN254.add(table.aggPkG1, BN254.negate(G1Point(sum[0], sum[1])));
    }

    function _bits(bytes calldata bitmap, uint256 count) private pure returns (uint256 bits) {
        uint256 wanted = (count + 7) / 8;
        if (bitmap.length != wanted) revert BitmapLengthMismatch(bitmap.length, wanted);
        // Its first byte has the lowest bits.
        bits = uint256(Bytes.reverseBytes32(bytes32(bitmap)));
        if (bits & ~_lowBits(count) != 0) revert BitmapOutOfRange(count);
    }

    function _lowBits(uint256 count) private pure returns (uint256) {
        return count == _MAX_SIGNERS ? type(uint256).max : (1 << count) - 1;
    }

    /// @dev How many rows have their point `(2r + 1) * total / 6144` below a weight. No overflow: see {signerOfRow}.
    function _rowsBelow(uint256 weightWei, uint256 totalWei) private pure returns (uint256) {
        return (2 * _ROWS * weightWei + totalWei - 1) / (2 * totalWei);
    }

    function _view(
        Entry memory entry,
        uint256 index,
        uint256 firstRow,
        uint256 endRow
    ) private view returns (SignerView memory) {
        Account storage account = _accounts[entry.signer];
        (, G2Point memory pkG2) = _keysOf(account);
        // Rows are at most 3072.
        uint32 rowCount = uint32(endRow - firstRow);
        return
            SignerView({
                signer: entry.signer,
                index: index,
                stakeWei: entry.stakeWei,
                firstRow: uint32(firstRow),
                rowCount: rowCount,
                pkG1: entry.pkG1,
                pkG2: pkG2,
                socket: account.socket
            });
    }

    function _keysOf(Account storage account) private view returns (G1Point memory, G2Point memory) {
        return abi.decode(CodePages.read(account.keys, _KEY_BYTES), (G1Point, G2Point));
    }

    function _requireQuorum(uint256 quorumId) private pure {
        if (quorumId != 0) revert UnknownQuorum(quorumId, 1);
    }
}
