// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Members} from "./Members.sol";
import {TaskTerms} from "./TaskTerms.sol";

/// @title The phases of a task, and what ends each of them
/// @notice Every phase after the admission has a deadline, and when it has passed anyone at all may call `expire`: so
///         nothing that one party does or leaves undone stops a task for ever. An expired round is skipped (model,
///         seed, reputations and rewards stay as they are) until the terms' number of skips is used up; then the task
///         has failed. What was earned up to there stays earned in every case.
/// @dev A deadline gives everybody the right to end the waiting; it does not forbid the work. A seal or a verdict that
///      is late but comes before anyone called `expire` counts: a round that can be had is worth more than one lost.
///      Time is the block's. Whoever makes the blocks can shift it by seconds on a public chain, and on a chain of its
///      own at will: windows of hours leave no room for the former, and nothing on chain helps against the latter.
abstract contract Phases is Members, TaskTerms {
    /// @notice What the contract waits for.
    enum Phase {
        Admission, // members; then `open`
        Collection, // updates of the round; then `seal`
        Sealed, // the miners' verdict; then `finalise`
        Completed, // nothing: all rounds are over
        Cancelled, // nothing: the manufacturer ended the task
        Failed // nothing: more rounds expired than the terms allow
    }

    /// @dev One slot: all that changes with every transaction. No value can outgrow its type: rounds * gammaMax < 2^16
    ///      is a term, 2^24 customers cost more gas to admit than a chain has, points are at most 2^16 for each of them.
    struct Progress {
        Phase phase;
        uint16 round;
        uint16 skipped;
        uint8 quorum;
        uint24 customers;
        uint40 openedAt; // block
        uint40 sealedAt; // block
        uint40 since; // time at which the phase began
        uint40 credited; // points earned so far, by all customers
    }

    Progress internal _progress;

    /// @notice The round ended without a verdict, in the phase that is named; the blocks are as in `Outcome`.
    event RoundExpired(uint256 indexed round, Phase phase, uint48 openedAt, uint48 sealedAt);
    /// @notice The last round is over.
    event TaskCompleted();
    /// @notice The manufacturer ended the task.
    event TaskCancelled(uint256 round);
    /// @notice More rounds expired than the terms allow.
    event TaskFailed(uint256 round);

    /// @notice Not possible in the phase the task is in.
    error WrongPhase(Phase current);
    /// @notice The call names another round than the current one.
    error WrongRound(uint256 given, uint256 current);
    /// @notice Possible from this time on only (seconds since 1970).
    error TooEarly(uint256 time, uint256 from);

    /// @notice End a round whose deadline has passed; anyone may.
    function expire() external {
        Progress memory progress = _progress;
        Phase phase = progress.phase;
        if (phase != Phase.Collection && phase != Phase.Sealed) revert WrongPhase(phase);
        _notBefore(progress.since + uint256(phase == Phase.Sealed ? _finaliseWindow : _sealWindow));
        uint40 sealedAt = phase == Phase.Sealed ? progress.sealedAt : 0;
        emit RoundExpired(progress.round, phase, progress.openedAt, sealedAt);
        if (progress.skipped == _skips) {
            _begin(progress, Phase.Failed);
            emit TaskFailed(progress.round);
        } else {
            ++progress.skipped;
            _advance(progress);
        }
    }

    /// @notice End the task before a round is sealed.
    /// @dev Not once a round is sealed: its participants have delivered then, and its verdict (or its deadline) is due.
    ///      Before the seal a customer has no claim yet; all points of finalised rounds stay its own.
    function cancel() external onlyManufacturer {
        Progress memory progress = _progress;
        if (progress.phase != Phase.Admission) _require(Phase.Collection);
        (progress.phase, progress.since) = (Phase.Cancelled, uint40(block.timestamp));
        _progress = progress;
        emit TaskCancelled(progress.round);
    }

    /// @dev Write what follows a round that is over: the next round, or the end.
    function _advance(Progress memory progress) internal {
        if (progress.round == _rounds) {
            _begin(progress, Phase.Completed);
            emit TaskCompleted();
        } else {
            ++progress.round;
            _begin(progress, Phase.Collection);
        }
    }

    /// @dev Write the progress with a phase that begins with this block.
    function _begin(Progress memory progress, Phase phase) internal {
        progress.phase = phase;
        progress.since = uint40(block.timestamp);
        if (phase == Phase.Sealed) progress.sealedAt = uint40(block.number);
        else progress.openedAt = uint40(block.number);
        _progress = progress;
    }

    function _require(Phase phase) internal view {
        if (_progress.phase != phase) revert WrongPhase(_progress.phase);
    }

    function _requireRound(Phase phase, uint256 round) internal view returns (Progress memory progress) {
        progress = _progress;
        if (progress.phase != phase) revert WrongPhase(progress.phase);
        if (progress.round != round) revert WrongRound(round, progress.round);
    }

    /// @dev Whether the task has come to an end, whatever end.
    function _ended() internal view returns (bool) {
        return _progress.phase >= Phase.Completed;
    }

    function _notBefore(uint256 time) internal view {
        if (block.timestamp < time) revert TooEarly(block.timestamp, time);
    }
}
