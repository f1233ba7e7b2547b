// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title What the manufacturer fixes for good when it publishes a task
abstract contract TaskTerms {
    /// @notice The terms. Windows are in seconds.
    struct Terms {
        bytes32 policy; // SHA-256 of the resolved configuration: the task's name in every signature
        bytes32 model; // SHA-256 of the initial model
        bytes32 seed; // of the first round's election
        uint32 rounds;
        uint16 f; // Byzantine customers a round must survive
        uint8 gammaInitial;
        uint8 gammaMax;
        uint128 reward; // wei, escrowed by `open`; 0: nobody is paid
        uint128 deposit; // wei that each member must have deposited to take part; 0: none
        uint32 submissionWindow; // from a round's beginning: before its end only a seal with all customers counts
        uint32 sealWindow; // from a round's beginning: after it, anyone may end an unsealed round
        uint32 leaderWindow; // from the seal: the leader of rank k may finalise after k of these
        uint32 finaliseWindow; // from the seal: after it, anyone may end a round that has no verdict
        uint16 skips; // rounds that may expire before the task fails
    }

    // One by one: immutable values cost no storage.
    bytes32 internal immutable _policy;
    bytes32 internal immutable _initialModel;
    bytes32 internal immutable _initialSeed;
    uint32 internal immutable _rounds;
    uint16 internal immutable _f;
    uint8 internal immutable _gammaInitial;
    uint8 internal immutable _gammaMax;
    uint128 internal immutable _reward;
    uint128 internal immutable _deposit;
    uint32 internal immutable _submissionWindow;
    uint32 internal immutable _sealWindow;
    uint32 internal immutable _leaderWindow;
    uint32 internal immutable _finaliseWindow;
    uint16 internal immutable _skips;

    /// @notice The task was published.
    event TaskPublished(address indexed manufacturer, Terms terms);

    /// @notice rounds > 0, 0 < gammaMax, gammaInitial <= gammaMax and rounds * gammaMax < 65535 are needed.
    error WrongTerms(uint32 rounds, uint8 gammaInitial, uint8 gammaMax);
    /// @notice submission < seal and leader < finalise are needed.
    error WrongWindows(uint32 submission, uint32 sealing, uint32 leader, uint32 finalise);
    /// @notice A digest is zero, which means "none".
    error ZeroDigest();

    constructor(Terms memory given) {
        uint256 mostPoints = uint256(given.rounds) * given.gammaMax; // of a customer: they have 16 bits, less one value
        if (mostPoints == 0 || mostPoints >= type(uint16).max || given.gammaInitial > given.gammaMax) {
            revert WrongTerms(given.rounds, given.gammaInitial, given.gammaMax);
        }
        if (given.submissionWindow >= given.sealWindow || given.leaderWindow >= given.finaliseWindow) {
            revert WrongWindows(
                given.submissionWindow, given.sealWindow, given.leaderWindow, given.finaliseWindow
            );
        }
        if (given.policy == 0 || given.model == 0 || given.seed == 0) revert ZeroDigest();
        (_policy, _initialModel, _initialSeed) = (given.policy, given.model, given.seed);
        (_rounds, _f, _skips) = (given.rounds, given.f, given.skips);
        (_gammaInitial, _gammaMax) = (given.gammaInitial, given.gammaMax);
        (_reward, _deposit) = (given.reward, given.deposit);
        (_submissionWindow, _sealWindow) = (given.submissionWindow, given.sealWindow);
        (_leaderWindow, _finaliseWindow) = (given.leaderWindow, given.finaliseWindow);
        emit TaskPublished(msg.sender, given);
    }

    /// @notice What the manufacturer fixed.
    function terms() external view returns (Terms memory given) {
        (given.policy, given.model, given.seed) = (_policy, _initialModel, _initialSeed);
        (given.rounds, given.f, given.skips) = (_rounds, _f, _skips);
        (given.gammaInitial, given.gammaMax) = (_gammaInitial, _gammaMax);
        (given.reward, given.deposit) = (_reward, _deposit);
        (given.submissionWindow, given.sealWindow) = (_submissionWindow, _sealWindow);
        (given.leaderWindow, given.finaliseWindow) = (_leaderWindow, _finaliseWindow);
    }
}
