// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";

import {Members} from "./Members.sol";

/// @title What the miners sign, and when enough of them have
/// @notice A verdict is the miners' word on one sealed round, signed by EIP-712 (domain "Hearth", "1", chain id, task
///         contract). It counts with a quorum of floor(2m / 3) + 1 of the m miners: 2f + 1 of 3f + 1.
abstract contract Verdicts is Members, EIP712("Hearth", "1") {
    /// @notice What a miner signs.
    struct Verdict {
        bytes32 task; // the policy's digest
        uint256 round;
        bytes32 root; // as sealed
        bytes32 model; // SHA-256 of the model after this round
        bytes32 record; // SHA-256 of the round's record
        uint256[] participants; // bitmap, as sealed
        uint256[] honest; // bitmap of those evaluated H
        address leader;
        bytes32 seed; // of the next round: the leader's VRF output
    }

    /// @notice EIP-712 type of the verdict.
    bytes32 public constant VERDICT_TYPEHASH = keccak256(
        "Verdict(bytes32 task,uint256 round,bytes32 root,bytes32 model,bytes32 record,uint256[] participants,uint256[] honest,address leader,bytes32 seed)"
    );

    /// @notice Fewer signatures than the quorum.
    error NoQuorum(uint256 signatures, uint256 quorum);
    /// @notice The signature at this position is malformed.
    error WrongSignature(uint256 position);
    /// @notice Signatures go by strictly ascending signer, so that none counts twice.
    error SignersNotAscending(uint256 position, address signer);

    /// @notice The digest that a miner signs for a verdict.
    function hashVerdict(Verdict calldata verdict) public view returns (bytes32) {
        bytes32 structHash = keccak256(
            abi.encode(
                VERDICT_TYPEHASH,
                verdict.task,
                verdict.round,
                verdict.root,
                verdict.model,
                verdict.record,
                keccak256(abi.encodePacked(verdict.participants)),
                keccak256(abi.encodePacked(verdict.honest)),
                verdict.leader,
                verdict.seed
            )
        );
        return _hashTypedDataV4(structHash);
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
            (address signer, ECDSA.RecoverError fault,) = ECDSA.tryRecoverCalldata(digest, signatures[i]);
            if (fault != ECDSA.RecoverError.NoError) revert WrongSignature(i);
            if (signer <= last) revert SignersNotAscending(i, signer);
            signers |= 1 << minerIndex(signer);
            last = signer;
        }
    }
}
