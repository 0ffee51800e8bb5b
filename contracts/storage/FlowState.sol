// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @notice What every submission needs of the flow's state and of the market's terms, in one word of storage:
/// length (bits 0..63) | submissions (64..111) | epoch (112..159) | price (160..223) | service fee (224..239) |
/// paused (240).
type FlowWord is uint256;

/// @title FlowState
/// @notice The same word unpacked in memory.
library FlowState {
    struct State {
        /// Next free sector, below 2^63.
        uint256 length;
        /// Number of submissions, below 2^48.
        uint256 submissions;
        /// Number of the current context's epoch, below 2^48 as block numbers are.
        uint256 epoch;
        /// Wei per sector, below 2^64.
        uint256 price;
        /// Service fee in hundredths of a per cent, below 2^16.
        uint256 serviceFeeBps;
        bool paused;
    }

    function unpack(FlowWord packed) internal pure returns (State memory state) {
        uint256 word = FlowWord.unwrap(packed);
        state.length = uint64(word);
        state.submissions = uint48(word >> 64);
        state.epoch = uint48(word >> 112);
        state.price = uint64(word >> 160);
        state.serviceFeeBps = uint16(word >> 224);
        state.paused = (word >> 240) & 1 == 1;
    }

    /// @dev Every field is inside its bounds: see where they are set.
    function pack(State memory state) internal pure returns (FlowWord) {
        uint256 word = state.length | (state.submissions << 64) | (state.epoch << 112) | (state.price << 160);
        word |= state.serviceFeeBps << 224;
        return FlowWord.wrap(state.paused ? word | (1 << 240) : word);
    }
}
