// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title The reputation of a task's customers
/// @notice A gamma in 0..gammaMax for each customer, by index, and the rule that moves it once a round.
///         Source: Zhao et al. 2020, equation (4); the threshold h, which the paper leaves open, is the mean gamma of
///         the round's participants, rounded down.
/// @dev A gamma is one byte: customer i is byte i % 32, counted from the low end, of word i / 32. A bitmap has
///      customer i at bit i % 256 of word i / 256, so one bitmap word covers eight words of gammas.
library Reputation {
    uint256 private constant PER_WORD = 32;

    /// @dev Packed gammas; `packed[w]` holds the customers 32w to 32w + 31.
    struct Book {
        mapping(uint256 word => uint256 gammas) packed;
    }

    /// @notice Give the customers `first` to `first + count - 1` their first gamma.
    function admit(Book storage book, uint256 first, uint256 count, uint256 gamma) internal {
        uint256 end = first + count;
        while (first < end) {
            uint256 word = first / PER_WORD;
            uint256 gammas = book.packed[word];
            uint256 stop = (word + 1) * PER_WORD < end ? (word + 1) * PER_WORD : end;
            for (; first < stop; ++first) {
                gammas |= gamma << (8 * (first % PER_WORD));
            }
            book.packed[word] = gammas;
        }
    }

    /// @notice The gammas of `count` customers, packed.
    function all(Book storage book, uint256 count) internal view returns (uint256[] memory words) {
        words = new uint256[]((count + PER_WORD - 1) / PER_WORD);
        for (uint256 w = 0; w < words.length; ++w) {
            words[w] = book.packed[w];
        }
    }

    /// @notice Apply the rule for one round and return the threshold h that it used.
    /// @param participants Bitmap of the customers whose updates were sealed; at least one. The others keep their gamma.
    /// @param honest Bitmap of those that the miners evaluated H; a subset.
    function update(Book storage book, uint256[] calldata participants, uint256[] calldata honest, uint256 gammaMax)
        internal
        returns (uint256 h)
    {
        h = threshold(book, participants);
        for (uint256 w = 0; w < participants.length * 8; ++w) {
            uint256 present = _slice(participants, w);
            if (present == 0) continue;
            uint256 before = book.packed[w];
            uint256 current = _next(before, present, _slice(honest, w), h, gammaMax);
            if (current != before) book.packed[w] = current;
        }
    }

    /// @notice h: the mean gamma of the participants, rounded down.
    function threshold(Book storage book, uint256[] calldata participants) internal view returns (uint256) {
        uint256 sum = 0;
        uint256 number = 0;
        for (uint256 w = 0; w < participants.length * 8; ++w) {
            uint256 present = _slice(participants, w);
            if (present == 0) continue;
            uint256 gammas = book.packed[w];
            // Neither sum can overflow: a gamma has eight bits, and a bitmap that long has no gas to be read.
            unchecked {
                for (; present != 0; present >>= 1) {
                    uint256 bit = present & 1;
                    sum += (gammas & 0xff) * bit;
                    number += bit;
                    gammas >>= 8;
                }
            }
        }
        return sum / number;
    }

    /// @dev The rule for the 32 customers of one word.
    function _next(uint256 gammas, uint256 present, uint256 honest, uint256 h, uint256 gammaMax)
        private
        pure
        returns (uint256)
    {
        // Every new gamma stays within 0..gammaMax, so no byte can run into its neighbour.
        unchecked {
            for (uint256 shift = 0; present != 0; shift += 8) {
                if (present & 1 != 0) {
                    uint256 gamma = (gammas >> shift) & 0xff;
                    if (gamma < h) {
                        gammas += 1 << shift; // isolated: it regains one a round, whatever its mark
                    } else if (honest & 1 != 0) {
                        if (gamma < gammaMax) gammas += 1 << shift;
                    } else if (gamma > h) {
                        gammas -= 1 << shift;
                    } else {
                        gammas -= gamma << shift; // L at the threshold: all is lost
                    }
                }
                present >>= 1;
                honest >>= 1;
            }
        }
        return gammas;
    }

    /// @dev The 32 bits of a bitmap that belong to word `w` of the gammas.
    function _slice(uint256[] calldata bitmap, uint256 w) private pure returns (uint256) {
        return (bitmap[w / 8] >> ((w % 8) * PER_WORD)) & 0xffffffff;
    }
}
