// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Every update's digest in a slot of its own, written by the customer itself
/// @notice A benchmark's yardstick: what peers do, who keep a digest for each update on chain instead of a root for all.
///         Never deployed by the application.
contract DigestSlots {
    /// @notice SHA-256 of the update, by round and customer.
    mapping(uint256 round => mapping(address customer => bytes32 digest)) public digestOf;

    /// @notice A customer's digest was written.
    event DigestRecorded(uint256 indexed round, address indexed customer, bytes32 digest);

    /// @notice The customer's digest for this round is here already.
    error AlreadyRecorded(uint256 round, address customer);

    /// @notice Write the caller's digest, once.
    function record(uint256 round, bytes32 digest) external {
        if (digestOf[round][msg.sender] != 0) revert AlreadyRecorded(round, msg.sender);
        digestOf[round][msg.sender] = digest;
        emit DigestRecorded(round, msg.sender, digest);
    }
}
