// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import { BN254, G1Point } from "../../../contracts/da/BN254.sol";
import { CodePages } from "../../../contracts/da/CodePages.sol";
import { Entry, SignerTable, Table } from "../../../contracts/da/SignerTable.sol";
import { Test } from "../support/Test.sol";

/// @notice The table with nothing around it, so that fuzzing needs no keys that anybody holds.
contract OpenTable is SignerTable {
    constructor() SignerTable(10) {}

    function append(Entry memory entry) external returns (uint256) {
        Table memory table = _nextTable();
        _append(table, entry);
        return _keep(table);
    }

    function replace(uint256 index, Entry memory entry) external returns (uint256) {
        Table memory table = _nextTable();
        _replace(table, index, _entryOf(table, index), entry);
        return _keep(table);
    }

    function remove(uint256 index) external returns (address moved) {
        Table memory table = _nextTable();
        moved = _remove(table, index, _entryOf(table, index));
        _keep(table);
    }

    function read(uint256 epoch) external view returns (uint256 totalWei, G1Point memory key, Entry[] memory entries) {
        Table memory table = _tableOf(_clock, epoch);
        entries = new Entry[](table.count);
        for (uint256 i = 0; i < table.count; ++i) entries[i] = _entryOf(table, i);
        return (table.totalWei, table.aggPkG1, entries);
    }
}

/// @notice Writes pages, so that their numbers run through all lengths of a nonce.
contract Writer {
    function write(bytes memory data) external {
        CodePages.write(data);
    }

    function read(uint256 number, uint256 length) external view returns (bytes memory) {
        return CodePages.read(number, length);
    }

    function addressOf(uint256 number) external view returns (address) {
        return CodePages.addressOf(number);
    }
}

/// @notice The table against a plain list.
contract SignerTableTest is Test {
    OpenTable private table;
    Writer private writer;
    /// Who is in, what should be in the tables of past epochs.
    Entry[] private list;
    mapping(uint256 epoch => bytes32) private expected;

    function setUp() public {
        table = new OpenTable();
        writer = new Writer();
    }

    /// Whatever joins, leaves and changes: the table of each epoch is, for ever, what the list was when it began.
    function testFuzz_TablesArePlainLists(uint256 seed) public {
        uint256 epoch = 0;
        for (uint256 i = 0; i < 48; ++i) {
            uint256 dice = uint256(keccak256(abi.encode(seed, i)));
            // More join than leave, so that several pages come and go.
            if (list.length == 0 || dice % 8 < 5) _append(dice >> 8);
            else if (dice % 8 == 5) _replace(dice >> 8);
            else _remove(dice >> 8);
            expected[epoch + 1] = _digest();
            if ((dice >> 200) % 3 == 0) {
                uint256 idle = 1 + ((dice >> 210) % 3);
                vm.roll(vm.getBlockNumber() + 10 * idle);
                for (uint256 j = 0; j < idle; ++j) {
                    ++epoch;
                    expected[epoch + 1] = expected[epoch];
                }
            }
        }
        for (uint256 e = 0; e <= epoch + 1; ++e) {
            (, , Entry[] memory entries) = table.read(e);
            bytes32 want = expected[e] == 0 ? keccak256(abi.encode(new Entry[](0))) : expected[e];
            eq(keccak256(abi.encode(entries)), want, "table of an epoch");
        }
        (uint256 totalWei, G1Point memory key, ) = table.read(epoch + 1);
        (uint256 sum, G1Point memory keys) = _sums();
        eq(totalWei, sum, "total stake");
        eq(key.X, keys.X, "sum of keys, X");
        eq(key.Y, keys.Y, "sum of keys, Y");
    }

    /// 256 signers in, all of them out again, from both ends and the middle.
    function test_FullAndEmptyAgain() public {
        for (uint256 i = 0; i < 256; ++i) _append(i);
        for (uint256 i = 0; i < 256; ++i) _remove(i % 3 == 0 ? 0 : i % 3 == 1 ? list.length - 1 : list.length / 2);
        (uint256 totalWei, G1Point memory key, Entry[] memory entries) = table.read(1);
        eq(entries.length, 0, "empty");
        eq(totalWei, 0, "no stake");
        eq(key.X, 0, "no key, X");
        eq(key.Y, 0, "no key, Y");
    }

    function test_PagesAreFoundByTheirNumber() public {
        uint256[9] memory marks = [uint256(1), 2, 127, 128, 129, 255, 256, 257, 300];
        uint256 number = 0;
        for (uint256 i = 0; i < marks.length; ++i) {
            while (number < marks[i]) writer.write(abi.encode(++number));
            eq(abi.decode(writer.read(number, 32), (uint256)), number, "content");
        }
        eq(writer.read(7, 64).length, 64, "longer than the page");
        eq(bytes32(writer.read(301, 32)), 0, "not written yet");
        eq(bytes32(writer.read(0, 32)), 0, "page 0");
    }

    function testFuzz_AddressesAreThoseOfTheNonce(uint32 number) public view {
        uint256 nonce = number == 0 ? 1 : number;
        eq(writer.addressOf(nonce), vm.computeCreateAddress(address(writer), nonce), "address");
    }

    function test_PagesCannotBeCalled() public {
        writer.write(hex"ff");
        (bool ok, bytes memory answer) = writer.addressOf(1).call("");
        isTrue(ok && answer.length == 0, "it stops");
        eq(writer.addressOf(1).code.length, 2, "and is still there");
    }

    function _append(uint256 dice) private {
        Entry memory entry = _random(dice);
        list.push(entry);
        table.append(entry);
    }

    function _replace(uint256 dice) private {
        uint256 index = dice % list.length;
        Entry memory entry = _random(dice);
        // Half of the time only the stake changes.
        if (dice >> 255 == 1) (entry.signer, entry.pkG1) = (list[index].signer, list[index].pkG1);
        list[index] = entry;
        table.replace(index, entry);
    }

    function _remove(uint256 dice) private {
        uint256 index = dice % list.length;
        uint256 last = list.length - 1;
        address moved = table.remove(index);
        eq(moved, index == last ? address(0) : list[last].signer, "who moved");
        list[index] = list[last];
        list.pop();
    }

    function _random(uint256 dice) private view returns (Entry memory) {
        bytes32 hash = keccak256(abi.encode(dice));
        return Entry(address(uint160(uint256(hash))), 1 + (uint256(hash) >> 160), BN254.hashToG1(hash));
    }

    function _digest() private view returns (bytes32) {
        return keccak256(abi.encode(list));
    }

    function _sums() private view returns (uint256 totalWei, G1Point memory key) {
        for (uint256 i = 0; i < list.length; ++i) {
            totalWei += list[i].stakeWei;
            key = BN254.add(key, list[i].pkG1);
        }
    }
}
