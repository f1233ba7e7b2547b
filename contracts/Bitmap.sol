// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Sets of customers, by index
/// @notice Customer i is bit i % 256, counted from the low end, of word i / 256.
library Bitmap {
    /// @notice The bitmap has another length than it must have.
    error WrongLength(uint256 given, uint256 needed);
    /// @notice The bitmap's last word has bits beyond the last customer.
    error UnknownCustomers(uint256 bits);
    /// @notice A round has at least one participant.
    error NoParticipants();
    /// @notice Evaluated H without having taken part: these bits of this word.
    error HonestNotParticipant(uint256 word, uint256 bits);

    /// @notice Words that a bitmap over `n` customers has.
    function words(uint256 n) internal pure returns (uint256) {
        return (n + 255) / 256;
    }

    /// @notice Revert unless `participants` is a set of some of `n` customers.
    function checkParticipants(uint256[] calldata participants, uint256 n) internal pure {
        uint256 length = words(n);
        if (participants.length != length) revert WrongLength(participants.length, length);
        uint256 beyond = n % 256 == 0 ? 0 : (participants[length - 1] >> (n % 256)) << (n % 256);
        if (beyond != 0) revert UnknownCustomers(beyond);
        uint256 any = 0;
        for (uint256 w = 0; w < length; ++w) {
            any |= participants[w];
        }
        if (any == 0) revert NoParticipants();
    }

    /// @notice Revert unless `honest` is a subset of `participants`.
    function checkHonest(uint256[] calldata honest, uint256[] calldata participants) internal pure {
        if (honest.length != participants.length) revert WrongLength(honest.length, participants.length);
        for (uint256 w = 0; w < honest.length; ++w) {
            uint256 strangers = honest[w] & ~participants[w];
            if (strangers != 0) revert HonestNotParticipant(w, strangers);
        }
    }

    /// @notice Whether `participants`, a checked set of some of `n` customers, are all of them.
    function isEveryone(uint256[] calldata participants, uint256 n) internal pure returns (bool) {
        for (uint256 w = 0; w + 1 < participants.length; ++w) {
            if (participants[w] != type(uint256).max) return false;
        }
        return participants[participants.length - 1] == type(uint256).max >> (255 - (n - 1) % 256);
    }
}
