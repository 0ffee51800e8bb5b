// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import { Deliverable } from "../interfaces/IFineTuningServing.sol";

/// @title Deliverables
/// @notice A ring of the last 20 deliverables of one sub-account, found by id as well.
library Deliverables {
    uint256 internal constant CAPACITY = 20;

    /// @notice A deliverable as it is stored. The first word: when it was added, and what has become of it.
    struct Item {
        uint40 timestamp;
        /// What it pays without acknowledgement, in per cent, as it was when it was added.
        uint8 penalty;
        bool acknowledged;
        bool settled;
        string id;
        bytes modelRootHash;
        bytes encryptedSecret;
    }

    struct Ring {
        /// Place of the oldest.
        uint256 head;
        uint256 count;
        Item[CAPACITY] items;
        /// Counted from 1; 0: no such deliverable.
        mapping(bytes32 idHash => uint256 place) placeOf;
    }

    /// @notice The deliverable whose id has this hash, if there is one.
    function find(Ring storage ring, bytes32 idHash) internal view returns (bool found, Item storage item) {
        uint256 place = ring.placeOf[idHash];
        found = place != 0;
        item = ring.items[found ? place - 1 : 0];
    }

    /// @notice The deliverable added last, if there is any.
    function newest(Ring storage ring) internal view returns (bool found, Item storage item) {
        found = ring.count != 0;
        item = ring.items[found ? _place(ring, ring.count - 1) : 0];
    }

    /// @notice The oldest deliverable of a full ring.
    function oldest(Ring storage ring) internal view returns (bool full, Item storage item) {
        return (ring.count == CAPACITY, ring.items[ring.head]);
    }

    /// @notice Removes the oldest deliverable.
    function evict(Ring storage ring) internal {
        // The item itself is overwritten by the next one.
        delete ring.placeOf[keccak256(bytes(ring.items[ring.head].id))];
        ring.head = _place(ring, 1);
        ring.count -= 1;
    }

    /// @notice Adds a deliverable to a ring that is not full.
    function add(Ring storage ring, string calldata id, bytes calldata modelRootHash, uint8 penalty) internal {
        uint256 place = _place(ring, ring.count);
        Item storage item = ring.items[place];
        (item.timestamp, item.penalty) = (uint40(block.timestamp), penalty);
        (item.acknowledged, item.settled) = (false, false);
        delete item.encryptedSecret;
        item.id = id;
        item.modelRootHash = modelRootHash;
        ring.placeOf[keccak256(bytes(id))] = place + 1;
        ring.count += 1;
    }

    /// @notice All deliverables, oldest first.
    function list(Ring storage ring) internal view returns (Deliverable[] memory all) {
        all = new Deliverable[](ring.count);
        for (uint256 i = 0; i < all.length; ++i) all[i] = show(ring.items[_place(ring, i)]);
    }

    /// @notice A deliverable as callers see it.
    function show(Item storage item) internal view returns (Deliverable memory) {
        return
            Deliverable({
                id: item.id,
                modelRootHash: item.modelRootHash,
                encryptedSecret: item.encryptedSecret,
                acknowledged: item.acknowledged,
                timestamp: item.timestamp,
                settled: item.settled
            });
    }

    /// @dev Where the deliverable `offset` after the oldest lies.
    function _place(Ring storage ring, uint256 offset) private view returns (uint256) {
        unchecked {
            // Both are at most the capacity.
            return (ring.head + offset) % CAPACITY;
        }
    }
}
