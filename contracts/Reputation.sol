// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Lanes} from "./Lanes.sol";

/// @title The reputation of a task's customers, and the points that it earns them
/// @notice A gamma in 0..gammaMax for each customer, by index, and the rule that moves it once a round.
///         Source: Zhao et al. 2020, equation (4); the threshold h, which the paper leaves open, is the mean gamma of
///         the round's participants, rounded down. Each round, a participant that was evaluated H and is not isolated
///         (gamma >= h) earns as many points as its gamma was before the round: its weight in the aggregate.
/// @dev A gamma is one byte: customer i is byte i % 32, counted from the low end, of word i / 32. A bitmap has
///      customer i at bit i % 256 of word i / 256, so one bitmap word covers eight words of gammas. Points have 16
///      bits: those of the even bytes of gamma word w lie in word 2w, those of the odd bytes in word 2w + 1, in the
///      same order. A lane of points holds one more than the points, so that no word is ever zero: paying a round then
///      costs the same whether it is the first or not (5,000 gas for 16 customers).
library Reputation {
    uint256 private constant PER_WORD = 32;

    /// @dev Packed gammas and points not yet claimed; `packed[w]` holds the customers 32w to 32w + 31.
    struct Book {
        mapping(uint256 word => uint256 gammas) packed;
        mapping(uint256 word => uint256 lanes) points;
    }

    /// @notice Give the customers `first` to `first + count - 1` their first gamma, and points if the task pays.
    function admit(Book storage book, uint256 first, uint256 count, uint256 gamma, bool paid) internal {
        uint256 end = first + count;
        while (first < end) {
            uint256 word = first / PER_WORD;
            uint256 gammas = book.packed[word];
            uint256 stop = (word + 1) * PER_WORD < end ? (word + 1) * PER_WORD : end;
            for (; first < stop; ++first) {
                gammas |= gamma << (8 * (first % PER_WORD));
            }
            book.packed[word] = gammas;
            // Twice the quotient is meant: word w of the gammas has the words 2w and 2w + 1 of points.
            // slither-disable-next-line divide-before-multiply
            if (paid) (book.points[2 * word], book.points[2 * word + 1]) = (Lanes.ONES, Lanes.ONES);
        }
    }

    /// @notice The gammas of `count` customers, packed.
    function all(Book storage book, uint256 count) internal view returns (uint256[] memory words) {
        words = new uint256[]((count + PER_WORD - 1) / PER_WORD);
        for (uint256 w = 0; w < words.length; ++w) {
            words[w] = book.packed[w];
        }
    }

    /// @notice The points of a customer that were not taken yet.
    function pointsOf(Book storage book, uint256 index) internal view returns (uint256) {
        (uint256 word, uint256 shift) = _place(index);
        uint256 lane = (book.points[word] >> shift) & 0xffff;
        return lane == 0 ? 0 : lane - 1; // 0: the task does not pay
    }

    /// @notice Take a customer's points away and return how many there were.
    function take(Book storage book, uint256 index) internal returns (uint256 points) {
        points = pointsOf(book, index);
        (uint256 word, uint256 shift) = _place(index);
        if (points != 0) book.points[word] -= points << shift;
    }

    /// @notice Apply the rule for one round; return the threshold h that it used and all points that were earned.
    /// @param participants Bitmap of the customers whose updates were sealed; at least one. The others keep their gamma.
    /// @param honest Bitmap of those that the miners evaluated H; a subset.
    /// @param paid Whether points are noted at all.
    function update(
        Book storage book,
        uint256[] calldata participants,
        uint256[] calldata honest,
        uint256 gammaMax,
        bool paid
    ) internal returns (uint256 h, uint256 credited) {
        h = threshold(book, participants);
        for (uint256 w = 0; w < participants.length * 8; ++w) {
            uint256 present = Lanes.spread(_slice(participants, w));
            if (present == 0) continue;
            uint256 gammas = book.packed[w];
            uint256 high = Lanes.spread(_slice(honest, w));
            if (paid) credited += _credit(book, w, Lanes.select(gammas, high & Lanes.atLeast(gammas, h)));
            uint256 next = _next(gammas, present, high, h, gammaMax);
            if (next != gammas) book.packed[w] = next;
        }
    }

    /// @notice h: the mean gamma of the participants, rounded down.
    function threshold(Book storage book, uint256[] calldata participants) internal view returns (uint256) {
        uint256 total = 0;
        uint256 number = 0;
        for (uint256 w = 0; w < participants.length * 8; ++w) {
            uint256 present = Lanes.spread(_slice(participants, w));
            if (present == 0) continue;
            total += Lanes.sum(Lanes.select(book.packed[w], present));
            number += Lanes.sum(present);
        }
        return total / number;
    }

    /// @dev The rule for the 32 customers of one word; `present` and `high` are masks.
    function _next(uint256 gammas, uint256 present, uint256 high, uint256 h, uint256 gammaMax)
        private
        pure
        returns (uint256)
    {
        uint256 served = Lanes.atLeast(gammas, h);
        uint256 isolated = present & ~served; // regains one a round, whatever its mark
        uint256 praised = high & served & ~Lanes.atLeast(gammas, gammaMax);
        uint256 blamed = present & served & ~high;
        uint256 above = Lanes.atLeast(gammas, h + 1);
        // One up where gamma < h or gamma < gammaMax, one down where gamma > h: every byte stays within 0..gammaMax, so
        // none runs into its neighbour. L at the threshold: all is lost.
        unchecked {
            gammas = gammas + (isolated | praised) - (blamed & above);
        }
        return gammas & ~Lanes.select(type(uint256).max, blamed & ~above);
    }

    /// @dev Add the bytes of `earned` to the points of gamma word `w`; return their sum.
    function _credit(Book storage book, uint256 w, uint256 earned) private returns (uint256) {
        uint256 even = earned & Lanes.EVEN;
        uint256 odd = (earned >> 8) & Lanes.EVEN;
        if (even != 0) book.points[2 * w] += even;
        if (odd != 0) book.points[2 * w + 1] += odd;
        return Lanes.sum(earned);
    }

    /// @dev Word and shift of a customer's points.
    function _place(uint256 index) private pure returns (uint256 word, uint256 shift) {
        // Quotient and remainder, both used: nothing is lost.
        // slither-disable-next-line divide-before-multiply
        return (2 * (index / PER_WORD) + index % 2, 16 * ((index % PER_WORD) / 2));
    }

    /// @dev The 32 bits of a bitmap that belong to word `w` of the gammas.
    function _slice(uint256[] calldata bitmap, uint256 w) private pure returns (uint256) {
        return (bitmap[w / 8] >> ((w % 8) * PER_WORD)) & 0xffffffff;
    }
}
