// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {Nonces} from "@openzeppelin/contracts/utils/Nonces.sol";

import {Phases} from "./Phases.sol";
import {Reputation} from "./Reputation.sol";
import {Signatures} from "./Signatures.sol";

/// @title The reward: escrowed when the task opens, earned round by round, fetched by who earned it
/// @notice The rule. A point is worth `price = floor(reward / (rounds * customers * gammaMax))` wei, fixed for good when
///         the task opens. In each finalised round every participant that was evaluated H and is not isolated earns as
///         many points as its reputation was before the round. So a customer's reward is price times the sum of its
///         reputations over its accepted rounds; it depends on nobody else's, is its own from the moment the round is
///         finalised, and can be claimed at any time, also after a cancellation or a failure.
/// @dev Rounding: the price alone is rounded, down. Since no customer can earn more than rounds * gammaMax points, all
///      payments together stay below the escrow, whatever happens. What nobody earned goes back to the manufacturer when
///      the task has ended. A fixed price, rather than a share of a fixed pot, gives nobody a reason to have others
///      rejected, and costs no division by customer: a round writes its points for 16 customers into one slot.
abstract contract Escrow is Phases, Signatures, Nonces {
    using Reputation for Reputation.Book;

    /// @notice EIP-712 type of a signed claim.
    bytes32 public constant CLAIM_TYPEHASH =
        keccak256("Claim(address customer,address recipient,uint256 nonce,uint256 deadline)");

    /// @notice Wei for one point; zero before the task opens, and in a task that pays nothing.
    uint256 public price;
    /// @dev Wei of the manufacturer's from slashed deposits, not yet fetched.
    uint256 internal _forfeited;
    bool private _settled;

    Reputation.Book internal _reputation;

    /// @notice A customer's rewards were paid to `recipient`.
    event RewardsClaimed(address indexed customer, address indexed recipient, uint256 points, uint256 amount);
    /// @notice What is owed to nobody else was paid back to the manufacturer.
    event RemainderReturned(uint256 amount);

    /// @notice The value sent is not the one that the terms ask for.
    error WrongValue(uint256 given, uint256 needed);
    /// @notice The reward is too small: a point would be worth less than one wei.
    error RewardTooSmall(uint256 reward, uint256 least);
    /// @notice Nothing is there to be paid out.
    error NothingToClaim(address account);
    /// @notice The signed claim was good until this time.
    error ClaimExpired(uint256 deadline);

    /// @notice Fetch the caller's rewards.
    function claim() external {
        _claim(msg.sender, msg.sender);
    }

    /// @notice Fetch a customer's rewards to where it signed to have them; anyone may relay it, so that a phone needs no
    ///         gas. The nonce makes the signature good for one claim.
    function claimFor(
        address customer,
        address recipient,
        uint256 nonce,
        uint256 deadline,
        bytes calldata signature
    ) external {
        if (block.timestamp > deadline) revert ClaimExpired(deadline);
        if (recipient == address(0)) revert ZeroAddress();
        _useCheckedNonce(customer, nonce);
        bytes32 claimHash = keccak256(abi.encode(CLAIM_TYPEHASH, customer, recipient, nonce, deadline));
        if (_signer(_hashTypedDataV4(claimHash), signature, 0) != customer) revert WrongSignature(0);
        _claim(customer, recipient);
    }

    /// @notice Pay back to the manufacturer what nobody earned, once the task has ended; anyone may ask for it.
    function reclaim() external {
        if (!_ended()) revert WrongPhase(_progress.phase);
        uint256 amount = _forfeited;
        _forfeited = 0;
        // Without a price nothing was ever escrowed.
        if (!_settled && price != 0) amount += _reward - price * _progress.credited;
        _settled = true;
        if (amount == 0) revert NothingToClaim(manufacturer);
        emit RemainderReturned(amount);
        Address.sendValue(payable(manufacturer), amount);
    }

    /// @notice Wei that a customer can claim now.
    function owed(address customer) external view returns (uint256) {
        return price * _reputation.pointsOf(customerIndex(customer));
    }

    /// @dev Take the escrow and fix the price, for `n` customers.
    function _escrow(uint256 n) internal {
        if (msg.value != _reward) revert WrongValue(msg.value, _reward);
        if (_reward == 0) return;
        uint256 mostPoints = uint256(_rounds) * n * _gammaMax;
        if (_reward < mostPoints) revert RewardTooSmall(_reward, mostPoints);
        price = _reward / mostPoints;
    }

    /// @dev All state is written before the payment: a recipient that calls back finds nothing left to claim.
    function _claim(address customer, address recipient) private {
        uint256 points = _reputation.take(customerIndex(customer));
        if (points == 0) revert NothingToClaim(customer);
        uint256 amount = price * points;
        emit RewardsClaimed(customer, recipient, points, amount);
        Address.sendValue(payable(recipient), amount);
    }
}
