// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Members} from "./Members.sol";
import {Signatures} from "./Signatures.sol";

/// @title What the miners sign, and when enough of them have
/// @notice A verdict is the miners' word on one sealed round. It counts with a quorum of floor(2m / 3) + 1 of the m
///         miners: 2f + 1 of 3f + 1.
abstract contract Verdicts is Members, Signatures {
    /// @notice What a miner signs.
    struct Verdict {
        bytes32 task; // the policy's digest
        uint256 round;
        bytes32 root; // as sealed
        bytes32 model; // SHA-256 of the model after this round
        bytes32 record; // SHA-256 of the round's record
        uint64 recordSize; // of the record, in bytes
        bytes recordCid; // where the record is: CIDv1, binary
        uint256[] participants; // bitmap, as sealed
        uint256[] honest; // bitmap of those evaluated H
        address leader;
        uint8 rank; // of the leader in the election, from 0
        bytes32 seed; // of the next round: the leader's VRF output
    }

    /// @notice EIP-712 type of the verdict.
    bytes32 public constant VERDICT_TYPEHASH = keccak256(
        "Verdict(bytes32 task,uint256 round,bytes32 root,bytes32 model,bytes32 record,uint64 recordSize,bytes recordCid,uint256[] participants,uint256[] honest,address leader,uint8 rank,bytes32 seed)"
    );

    /// @notice Fewer signatures than the quorum.
    error NoQuorum(uint256 signatures, uint256 quorum);
    /// @notice Signatures go by strictly ascending signer, so that none counts twice.
    error SignersNotAscending(uint256 position, address signer);

    /// @notice The digest that a miner signs for a verdict.
    function hashVerdict(Verdict calldata verdict) public view returns (bytes32) {
        bytes memory head = abi.encode(
            VERDICT_TYPEHASH,
            verdict.task,
            verdict.round,
            verdict.root,
            verdict.model,
            verdict.record,
            verdict.recordSize,
            keccak256(verdict.recordCid)
        );
        bytes memory tail = abi.encode(
            keccak256(abi.encodePacked(verdict.participants)),
            keccak256(abi.encodePacked(verdict.honest)),
            verdict.leader,
            verdict.rank,
            verdict.seed
        );
        return _hashTypedDataV4(keccak256(bytes.concat(head, tail)));
    }

    /// @dev How many of `m` miners must sign.
    function _quorumOf(uint256 m) internal pure returns (uint256) {
        return (2 * m) / 3 + 1;
    }

    /// @dev Revert unless `quorum` distinct miners signed; return the bitmap of those who did.
    function _checkQuorum(Verdict calldata verdict, bytes[] calldata signatures, uint256 quorum)
        internal
        view
        returns (uint256 signers)
    {
        if (signatures.length < quorum) revert NoQuorum(signatures.length, quorum);
        bytes32 digest = hashVerdict(verdict);
        address last = address(0);
        for (uint256 i = 0; i < signatures.length; ++i) {
            address signer = _signer(digest, signatures[i], i);
            if (signer <= last) revert SignersNotAscending(i, signer);
            signers |= 1 << minerIndex(signer);
            last = signer;
        }
    }
}
