// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Arithmetic on the 32 bytes of a word at once
/// @notice Byte i, counted from the low end, belongs to customer i of the word. A *mask* has 1 in the bytes it selects
///         and 0 in the others. A loop over customers would cost some 300 gas for each; this costs 20.
/// @dev The unchecked blocks never carry from one lane into the next: each says why.
library Lanes {
    /// @dev 1 in each of 16 lanes of 16 bits.
    uint256 internal constant ONES = 0x0001000100010001000100010001000100010001000100010001000100010001;
    /// @dev The even bytes: the low byte of each 16-bit lane.
    uint256 internal constant EVEN = 0xff * ONES;

    // slither-disable-start too-many-digits (each mask has 64 hexadecimal digits, one group for each lane)

    /// @notice The mask of 32 bits: bit i becomes byte i.
    function spread(uint256 bits) internal pure returns (uint256 x) {
        x = (bits | (bits << 112)) & 0x0000000000000000000000000000ffff0000000000000000000000000000ffff;
        x = (x | (x << 56)) & 0x00000000000000ff00000000000000ff00000000000000ff00000000000000ff;
        x = (x | (x << 28)) & 0x0000000f0000000f0000000f0000000f0000000f0000000f0000000f0000000f;
        x = (x | (x << 14)) & 0x0003000300030003000300030003000300030003000300030003000300030003;
        x = (x | (x << 7)) & 0x0101010101010101010101010101010101010101010101010101010101010101;
    }

    // slither-disable-end too-many-digits

    /// @notice The bytes of `x` that `mask` selects, 0 elsewhere.
    function select(uint256 x, uint256 mask) internal pure returns (uint256) {
        unchecked {
            return x & (mask * 0xff); // 1 * 255 stays in its byte
        }
    }

    /// @notice The sum of the 32 bytes.
    function sum(uint256 x) internal pure returns (uint256) {
        unchecked {
            // 16 lanes of at most 510; the product's top lane is the sum of all, at most 8160, and so no lane overflows.
            return (((x & EVEN) + ((x >> 8) & EVEN)) * ONES) >> 240;
        }
    }

    /// @notice The mask of the bytes that are at least `least`, which is at most 256.
    function atLeast(uint256 x, uint256 least) internal pure returns (uint256) {
        unchecked {
            // 0x8000 + byte - least lies in 0x7f00..0x80ff: no borrow, and bit 15 says whether byte >= least.
            uint256 bound = least * ONES;
            uint256 even = (((x & EVEN) | (0x8000 * ONES)) - bound) >> 15;
            uint256 odd = ((((x >> 8) & EVEN) | (0x8000 * ONES)) - bound) >> 15;
            return (even & ONES) | ((odd & ONES) << 8);
        }
    }
}
