// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import { Checkpoints } from "@openzeppelin/contracts/utils/structs/Checkpoints.sol";
import { BN254, G1Point } from "./BN254.sol";
import { CodePages } from "./CodePages.sol";
import { Clock, EpochClock } from "./EpochClock.sol";

/// @notice One signer of a table. Stakes are below 2^96 wei.
struct Entry {
    address signer;
    uint256 stakeWei;
    G1Point pkG1;
}

/// @notice The signers of an epoch: how many, their stake, the sum of their keys, and the pages with their entries.
/// @param pages Numbers of the pages, 32 bits each, the first one lowest.
struct Table {
    uint256 count;
    uint256 totalWei;
    G1Point aggPkG1;
    uint256[2] pages;
}

/// @title SignerTable
/// @notice Which signers each epoch has, in order. A change writes one or two pages of 16 entries and a page for the
/// table itself, and takes effect with the next epoch; an epoch without changes writes nothing. Every table stays
/// readable: the two newest by one read of storage, older ones by a search.
///
/// Entry: pkG1.X (32 bytes) | pkG1.Y (32) | signer (20) | stake (12).
/// Table: count (16) | total stake (16) | aggPkG1.X (32) | aggPkG1.Y (32) | page numbers (64).
abstract contract SignerTable {
    using Checkpoints for Checkpoints.Trace208;
    using EpochClock for Clock;

    /// @dev Most signers of a table.
    uint256 internal constant _MAX_SIGNERS = 256;
    /// @dev Entries of a page.
    uint256 internal constant _PAGE = 16;
    uint256 internal constant _ENTRY_BYTES = 96;
    uint256 private constant _TABLE_BYTES = 160;

    /* STORAGE */

    Clock internal _clock;
    /// Number of pages so far.
    uint32 private _pageCount;
    /// Page of the table by the first epoch that it holds in.
    Checkpoints.Trace208 private _history;

    constructor(uint24 epochBlocks_) {
        _clock.anchorBlock = uint40(block.number);
        _clock.epochBlocks = epochBlocks_;
    }

    /* READING */

    /// @dev The table of an epoch that is not later than the next one.
    function _tableOf(Clock memory clock, uint256 epoch) internal view returns (Table memory table) {
        uint256 number;
        if (epoch >= clock.latestFrom) number = clock.latestTable;
        else if (epoch >= clock.previousFrom) number = clock.previousTable;
        // The epoch is below one of 40 bits, and page numbers have 32.
        else number = _history.upperLookupRecent(uint48(epoch));
        bytes memory data = CodePages.read(number, _TABLE_BYTES);
        table.count = _word(data, 0) >> 128;
        table.totalWei = uint128(_word(data, 0));
        table.aggPkG1 = G1Point(_word(data, 32), _word(data, 64));
        table.pages = [_word(data, 96), _word(data, 128)];
    }

    /// @dev The first `count` entries of a page. Behind the last one there are zeros.
    function _pageOf(Table memory table, uint256 page, uint256 count) internal view returns (bytes memory) {
        return CodePages.read(_numberOf(table, page), count * _ENTRY_BYTES);
    }

    function _numberOf(Table memory table, uint256 page) internal pure returns (uint256) {
        return uint32(table.pages[page / 8] >> (32 * (page % 8)));
    }

    /// @dev Signer and stake of entry `index` in a page.
    function _signerIn(bytes memory page, uint256 index) internal pure returns (address signer, uint256 stakeWei) {
        uint256 word = _word(page, index * _ENTRY_BYTES + 64);
        return (address(uint160(word >> 96)), uint96(word));
    }

    function _entryOf(Table memory table, uint256 index) internal view returns (Entry memory entry) {
        uint256 offset = (index % _PAGE) * _ENTRY_BYTES;
        bytes memory page = _pageOf(table, index / _PAGE, (index % _PAGE) + 1);
        (entry.signer, entry.stakeWei) = _signerIn(page, index % _PAGE);
        entry.pkG1 = G1Point(_word(page, offset), _word(page, offset + 32));
    }

    /* CHANGING */

    /// @dev The table of the next epoch, to be changed and then kept by {_keep}.
    function _nextTable() internal view returns (Table memory) {
        Clock memory clock = _clock;
        return _tableOf(clock, clock.latestFrom);
    }

    /// @dev There must be a place left.
    function _append(Table memory table, Entry memory entry) internal {
        uint256 index = table.count++;
        _put(table, index, (index % _PAGE) + 1, entry);
        table.totalWei += entry.stakeWei;
        table.aggPkG1 = BN254.add(table.aggPkG1, entry.pkG1);
    }

    /// @dev Puts another entry in the place of `old`.
    function _replace(Table memory table, uint256 index, Entry memory old, Entry memory entry) internal {
        uint256 left = table.count - (index / _PAGE) * _PAGE;
        _put(table, index, left < _PAGE ? left : _PAGE, entry);
        table.totalWei = table.totalWei - old.stakeWei + entry.stakeWei;
        if (old.signer == entry.signer) return;
        table.aggPkG1 = BN254.add(BN254.add(table.aggPkG1, BN254.negate(old.pkG1)), entry.pkG1);
    }

    /// @dev Removes the entry `old`; the last one takes its place.
    /// @return moved The signer that was last, now at `index`; zero if it was the one removed.
    function _remove(Table memory table, uint256 index, Entry memory old) internal returns (address moved) {
        uint256 last = table.count - 1;
        if (index != last) {
            Entry memory entry = _entryOf(table, last);
            moved = entry.signer;
            // In the same page the move and the removal are one change.
            if (index / _PAGE == last / _PAGE) _put(table, index, last % _PAGE, entry);
            else _put(table, index, _PAGE, entry);
        }
        if (moved == address(0) || index / _PAGE != last / _PAGE) _cut(table, last);
        table.count = last;
        table.totalWei -= old.stakeWei;
        table.aggPkG1 = BN254.add(table.aggPkG1, BN254.negate(old.pkG1));
    }

    /// @dev Makes a changed table that of the next epoch.
    function _keep(Table memory table) internal returns (uint256 epoch) {
        Clock memory clock = _clock;
        epoch = clock.epoch() + 1;
        uint256 word = (table.count << 128) | table.totalWei;
        G1Point memory key = table.aggPkG1;
        uint256[2] memory pages = table.pages;
        uint32 number = _write(abi.encodePacked(word, key.X, key.Y, pages[0], pages[1]));
        if (epoch != clock.latestFrom) {
            (clock.previousFrom, clock.previousTable) = (clock.latestFrom, clock.latestTable);
            // Epochs are fewer than blocks, whose number fits 40 bits.
            clock.latestFrom = uint40(epoch);
        }
        clock.latestTable = number;
        _clock = clock;
        _history.push(clock.latestFrom, number);
    }

    /// @dev Writes a page anew. Page numbers stay below 2^32 for as long as gas costs anything.
    function _write(bytes memory data) internal returns (uint32 number) {
        number = ++_pageCount;
        CodePages.write(data);
    }

    /// @dev Rewrites a page of `count` entries with `entry` at `index`.
    function _put(Table memory table, uint256 index, uint256 count, Entry memory entry) private {
        bytes memory page = _pageOf(table, index / _PAGE, count);
        uint256 offset = (index % _PAGE) * _ENTRY_BYTES;
        uint256 word = (uint256(uint160(entry.signer)) << 96) | entry.stakeWei;
        G1Point memory key = entry.pkG1;
        // `index` is below `count` in its page: the three words are inside of `page`.
        assembly ("memory-safe") {
            let to := add(add(page, 0x20), offset)
            mcopy(to, key, 0x40)
            mstore(add(to, 0x40), word)
        }
        _setPage(table, index / _PAGE, _write(page));
    }

    /// @dev Rewrites the last page without the last entry.
    function _cut(Table memory table, uint256 last) private {
        uint256 left = last % _PAGE;
        _setPage(table, last / _PAGE, left == 0 ? 0 : _write(_pageOf(table, last / _PAGE, left)));
    }

    function _setPage(Table memory table, uint256 page, uint256 number) private pure {
        uint256 shift = 32 * (page % 8);
        table.pages[page / 8] = (table.pages[page / 8] & ~(uint256(type(uint32).max) << shift)) | (number << shift);
    }

    function _word(bytes memory data, uint256 offset) internal pure returns (uint256 word) {
        // Only called with `offset + 32` inside of `data`.
        assembly ("memory-safe") {
            word := mload(add(add(data, 0x20), offset))
        }
    }
}
