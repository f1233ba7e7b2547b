// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Address} from "@openzeppelin/contracts/utils/Address.sol";

import {Escrow} from "./Escrow.sol";
import {Receipts} from "./Receipts.sol";
import {Verdicts} from "./Verdicts.sol";

/// @title What members risk by saying two things at once
/// @notice Where the terms ask for a deposit, only who has made it takes part: customers in a seal, miners in a quorum.
///         It is refunded during the admission, and once the task has ended and another `finaliseWindow` has passed.
///         Two different receipts, or two different verdicts, that one member signed for one round cost it the deposit:
///         one half goes to whoever brings the proof, the other to the manufacturer. It is out of the task for good: one
///         that could come back would make seals fail, one after the other, by leaving and returning just before each.
/// @dev Only a half goes to the bringer: else a member could accuse itself through another account and lose nothing.
///      Two receipts count only if they are on the same global model, and two verdicts only if they are on the same
///      seal: after a reorganisation of the chain an honest member signs again about what is now there. What must be equal
///      is the evaluation and the model, pure functions of the seal. Leader, record (it holds the election) and seed may
///      differ: ranks take turns, and the same seal may meet another election after a reorganisation.
abstract contract Deposits is Escrow, Receipts, Verdicts {
    /// @notice As what a member deposits.
    enum Role {
        Customer,
        Miner
    }

    mapping(Role role => mapping(uint256 word => uint256 bits)) private _deposited;
    mapping(Role role => mapping(uint256 word => uint256 bits)) private _expelled;

    /// @notice A member made its deposit.
    event DepositMade(Role indexed role, address indexed account);
    /// @notice A member took its deposit back.
    event DepositRefunded(Role indexed role, address indexed account);
    /// @notice A member lost its deposit for what it signed for `round`; half of it went to `reporter`.
    event DepositSlashed(Role indexed role, address indexed account, uint256 round, address reporter);

    /// @notice The account's deposit is here already.
    error AlreadyDeposited(Role role, uint256 index);
    /// @notice The account lost its deposit, and cannot make another one.
    error Expelled(Role role, uint256 index);
    /// @notice These members of this word have no deposit here.
    error NoDeposit(Role role, uint256 word, uint256 bits);
    /// @notice The two statements do not contradict each other.
    error NoEquivocation();

    /// @notice Make the caller's deposit.
    function deposit(Role role) external payable {
        if (_ended()) revert WrongPhase(_progress.phase);
        if (msg.value != _deposit || msg.value == 0) revert WrongValue(msg.value, _deposit);
        uint256 index = _index(role, msg.sender);
        (uint256 word, uint256 bit) = (index / 256, 1 << (index % 256));
        if (_deposited[role][word] & bit != 0) revert AlreadyDeposited(role, index);
        if (_expelled[role][word] & bit != 0) revert Expelled(role, index);
        _deposited[role][word] |= bit;
        emit DepositMade(role, msg.sender);
    }

    /// @notice Take the caller's deposit back.
    function refund(Role role) external {
        Progress memory progress = _progress;
        if (progress.phase != Phase.Admission) {
            if (!_ended()) revert WrongPhase(progress.phase);
            _notBefore(uint256(progress.since) + _finaliseWindow); // time left for proofs
        }
        // slither-disable-next-line unused-return (the index is for whoever is expelled)
        _takeDeposit(role, msg.sender);
        emit DepositRefunded(role, msg.sender);
        Address.sendValue(payable(msg.sender), _deposit);
    }

    /// @notice Prove that a customer signed two receipts for one round.
    function slashCustomer(
        Receipt calldata one,
        bytes calldata signatureOfOne,
        Receipt calldata two,
        bytes calldata signatureOfTwo
    ) external {
        bool sameRound = one.task == two.task && one.round == two.round && one.model == two.model;
        if (one.task != _policy || !sameRound || one.customer != two.customer) revert NoEquivocation();
        if (_checkReceipt(one, signatureOfOne, 0) == _checkReceipt(two, signatureOfTwo, 1)) revert NoEquivocation();
        _slash(Role.Customer, one.customer, one.round);
    }

    /// @notice Prove that a miner signed two verdicts on one sealed round.
    function slashMiner(
        Verdict calldata one,
        bytes calldata signatureOfOne,
        Verdict calldata two,
        bytes calldata signatureOfTwo
    ) external {
        if (one.task != _policy || !_contradict(one, two)) revert NoEquivocation();
        address signer = _signer(hashVerdict(one), signatureOfOne, 0);
        if (_signer(hashVerdict(two), signatureOfTwo, 1) != signer) revert WrongSignature(1);
        _slash(Role.Miner, signer, one.round);
    }

    /// @notice Whether the account's deposit is here.
    function hasDeposit(Role role, address account) external view returns (bool) {
        uint256 index = _index(role, account);
        return _deposited[role][index / 256] & (1 << (index % 256)) != 0;
    }

    /// @dev Of these members those that may take part: all of them in a task without deposits.
    function _entitled(Role role, uint256 word, uint256 bits) internal view returns (uint256) {
        return _deposit == 0 ? bits : bits & _deposited[role][word];
    }

    /// @dev Revert unless all these members may take part.
    function _checkDeposits(Role role, uint256 word, uint256 bits) internal view {
        uint256 without = bits & ~_entitled(role, word, bits);
        if (without != 0) revert NoDeposit(role, word, without);
    }

    function _contradict(Verdict calldata one, Verdict calldata two) private pure returns (bool) {
        if (one.task != two.task || one.round != two.round || one.root != two.root) return false;
        if (one.model != two.model) return true;
        return
            keccak256(abi.encode(one.participants, one.honest)) != keccak256(abi.encode(two.participants, two.honest));
    }

    function _slash(Role role, address account, uint256 round) private {
        uint256 index = _takeDeposit(role, account);
        _expelled[role][index / 256] |= 1 << (index % 256);
        uint256 bounty = _deposit / 2;
        _forfeited += _deposit - bounty;
        emit DepositSlashed(role, account, round, msg.sender);
        Address.sendValue(payable(msg.sender), bounty);
    }

    function _takeDeposit(Role role, address account) private returns (uint256 index) {
        index = _index(role, account);
        (uint256 word, uint256 bit) = (index / 256, 1 << (index % 256));
        if (_deposited[role][word] & bit == 0) revert NoDeposit(role, word, bit);
        _deposited[role][word] &= ~bit;
    }

    function _index(Role role, address account) private view returns (uint256) {
        return role == Role.Customer ? customerIndex(account) : minerIndex(account);
    }
}
