// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";

/// @title What is signed off chain, and by whom
/// @notice EIP-712, domain "Hearth", "1", chain id, task contract: a signature for one task says nothing in another.
abstract contract Signatures is EIP712("Hearth", "1") {
    /// @notice The signature at this position is malformed, or not of whom it has to be.
    error WrongSignature(uint256 position);
    /// @notice Not a CIDv1.
    error WrongCid(bytes cid);

    /// @dev Who signed; OpenZeppelin refuses a high s, so every signature has one form (EIP-2).
    function _signer(bytes32 digest, bytes calldata signature, uint256 position) internal pure returns (address) {
        // slither-disable-next-line unused-return (what is left out only details the fault)
        (address signer, ECDSA.RecoverError fault,) = ECDSA.tryRecoverCalldata(digest, signature);
        if (fault != ECDSA.RecoverError.NoError) revert WrongSignature(position);
        return signer;
    }

    /// @dev 36 bytes: version 1, any codec, the multihash of a SHA-256 (0x12) of 32 bytes (0x20). A CID only says where
    ///      to look; what is found there must hash to the digest beside it.
    function _checkCid(bytes calldata cid) internal pure {
        if (cid.length != 36 || bytes4(cid[:4]) & 0xff00ffff != 0x01001220) revert WrongCid(cid);
    }
}
