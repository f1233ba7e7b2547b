// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Signatures} from "./Signatures.sol";

/// @title What a customer signs about its update
/// @notice Receipts travel off chain, in the round's manifest. Here one is needed in two cases: a customer hands it in
///         itself (`submit`), or two of one customer for one round prove that it said two things (`slashCustomer`).
abstract contract Receipts is Signatures {
    /// @notice A customer's statement on its update of one round.
    struct Receipt {
        bytes32 task; // the policy's digest
        uint256 round;
        address customer;
        bytes32 model; // SHA-256 of the global model that was trained on
        bytes32 update; // SHA-256 of the update's blob
        uint64 size; // of the blob, in bytes
        string cid; // of the blob, CIDv1 as text
        string encoding;
        uint64 examples;
        uint64 epsilonMicros;
        uint64 deltaPicos;
        uint64 releases;
    }

    /// @notice EIP-712 type of the receipt.
    bytes32 public constant RECEIPT_TYPEHASH = keccak256(
        "Receipt(bytes32 task,uint256 round,address customer,bytes32 model,bytes32 update,uint64 size,string cid,string encoding,uint64 examples,uint64 epsilonMicros,uint64 deltaPicos,uint64 releases)"
    );
    /// @dev The one encoding of updates that miners read.
    bytes32 private constant ENCODING = keccak256("fixedpoint");
    uint256 private constant LONGEST_CID = 128;

    /// @notice The miners read no updates of this encoding.
    error WrongEncoding(string encoding);

    /// @notice The digest that a customer signs for a receipt.
    function hashReceipt(Receipt calldata receipt) public view returns (bytes32) {
        // In two parts: the compiler's stack is not deep enough for twelve members at once.
        bytes memory head = abi.encode(
            RECEIPT_TYPEHASH,
            receipt.task,
            receipt.round,
            receipt.customer,
            receipt.model,
            receipt.update,
            receipt.size,
            keccak256(bytes(receipt.cid)),
            keccak256(bytes(receipt.encoding))
        );
        bytes memory tail =
            abi.encode(receipt.examples, receipt.epsilonMicros, receipt.deltaPicos, receipt.releases);
        return _hashTypedDataV4(keccak256(bytes.concat(head, tail)));
    }

    /// @dev Revert unless the receipt can be part of a manifest. A manifest with one that cannot be parsed is void, so
    ///      without this check a customer could void every round by handing in such a receipt itself.
    function _checkShape(Receipt calldata receipt) internal pure {
        if (keccak256(bytes(receipt.encoding)) != ENCODING) revert WrongEncoding(receipt.encoding);
        bytes calldata cid = bytes(receipt.cid);
        if (cid.length < 2 || cid.length > LONGEST_CID || cid[0] != "b") revert WrongCid(cid);
        for (uint256 i = 1; i < cid.length; ++i) {
            bytes1 c = cid[i];
            if (!((c >= "a" && c <= "z") || (c >= "0" && c <= "9"))) revert WrongCid(cid);
        }
    }

    /// @dev Revert unless the customer that the receipt names signed it.
    function _checkReceipt(Receipt calldata receipt, bytes calldata signature, uint256 position)
        internal
        view
        returns (bytes32 digest)
    {
        digest = hashReceipt(receipt);
        if (_signer(digest, signature, position) != receipt.customer) revert WrongSignature(position);
    }
}
