// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Bitmap} from "./Bitmap.sol";
import {Reputation} from "./Reputation.sol";
import {Verdicts} from "./Verdicts.sol";

/// @title One crowdsourcing task
/// @notice The manufacturer publishes a task and admits its members; then each round has two transactions. `seal` fixes
///         the set of updates before anyone evaluates them, `finalise` records what a quorum of the miners agreed on.
/// @dev What the quorum signs is believed: the contract sees digests, so that the aggregate is right rests on more than
///      two thirds of the miners being honest (and everything needed to check them is in the events and the blobs).
///      The leader's election is proved off chain: miners check its VRF proof before they sign, so the quorum carries
///      it. Whoever is elected can withhold its turn.
///      NOT here yet: deadlines and fallback leaders (a silent manufacturer or leader stops the task), escrow, rewards,
///      deposits, slashing, cancellation. No ether is held.
contract HearthTask is Verdicts {
    using Reputation for Reputation.Book;

    /// @notice What the contract waits for.
    enum Phase {
        Admission, // members; then `open`
        Collection, // updates of the round; then `seal`
        Sealed, // the miners' verdict; then `finalise`
        Completed // nothing: the last round was finalised
    }

    /// @notice What the manufacturer fixes when it publishes the task.
    struct Terms {
        bytes32 policy; // SHA-256 of the resolved configuration: the task's name in every signature
        bytes32 model; // SHA-256 of the initial model
        bytes32 seed; // of the first round's election
        uint32 rounds;
        uint16 f; // Byzantine customers a round must survive
        uint8 gammaInitial;
        uint8 gammaMax;
    }

    /// @notice Where the round's record is found; its digest is in the verdict.
    struct Record {
        uint64 size;
        bytes cid; // CIDv1, binary
    }

    /// @notice What the contract adds to a verdict.
    /// @dev The two blocks chain a task's events backwards, so that a reader needs no search.
    struct Outcome {
        uint256 threshold; // h of the reputation rule
        uint256 signers; // bitmap of the miners who signed
        uint48 openedAt; // block in which the round began: that of the last `finalise`, or of `open`
        uint48 sealedAt; // block in which it was sealed
    }

    /// @notice Where the task stands; see `status`.
    struct Status {
        Phase phase;
        uint32 round; // the current one; once completed, the last
        uint32 rounds;
        uint16 quorum;
        uint48 openedAt; // block of `open` or of the last `finalise`
        uint48 sealedAt; // block of the last `seal`, 0 before the first
        bytes32 model;
        bytes32 seed;
        bytes32 policy;
    }

    /// @dev One slot: all that changes with every transaction.
    struct Progress {
        Phase phase;
        uint32 round;
        uint16 quorum;
        uint32 customers;
        uint48 openedAt;
        uint48 sealedAt;
    }

    // The terms, one by one: immutable values cost no storage.
    bytes32 private immutable _policy;
    bytes32 private immutable _initialModel;
    bytes32 private immutable _initialSeed;
    uint32 private immutable _rounds;
    uint16 private immutable _f;
    uint8 private immutable _gammaInitial;
    uint8 private immutable _gammaMax;

    /// @notice SHA-256 of the current global model.
    bytes32 public model;
    /// @notice Seed of the current round's election.
    bytes32 public seed;
    /// @notice keccak256(abi.encode(root, manifest, participants)) of a sealed round; zero before.
    mapping(uint256 round => bytes32 commitment) public commitmentOf;

    Progress private _progress;
    Reputation.Book private _reputation;
    mapping(uint256 round => mapping(uint256 word => uint256 bits)) private _submitted;

    /// @notice The task was published.
    event TaskPublished(address indexed manufacturer, Terms terms);
    /// @notice Admission ended and the first round began.
    event TaskOpened(uint256 customers, uint256 miners, uint256 quorum);
    /// @notice A customer submitted its update's digest itself.
    event UpdateSubmitted(uint256 indexed round, address indexed customer, uint256 index, bytes32 update);
    /// @notice The round's set of updates was fixed. `root` is the Merkle root of the receipts, `manifest` the SHA-256,
    ///         `size` and `cid` the length and place of the blob with all of them.
    event RoundSealed(
        uint256 indexed round, bytes32 root, bytes32 manifest, uint64 size, bytes cid, uint256[] participants
    );
    /// @notice The round was finalised with this verdict.
    event RoundFinalised(
        uint256 indexed round, address indexed leader, Verdict verdict, Record record, Outcome outcome
    );
    /// @notice The last round was finalised.
    event TaskCompleted(bytes32 model);

    /// @notice rounds > 0, 0 < gammaMax and gammaInitial <= gammaMax are needed.
    error WrongTerms(uint32 rounds, uint8 gammaInitial, uint8 gammaMax);
    /// @notice A digest is zero, which means "none".
    error ZeroDigest();
    /// @notice Not possible in the phase the task is in.
    error WrongPhase(Phase current);
    /// @notice The call names another round than the current one.
    error WrongRound(uint256 given, uint256 current);
    /// @notice The verdict is on another task.
    error WrongTask(bytes32 given, bytes32 policy);
    /// @notice Multi-Krum needs n >= 2f + 3 customers.
    error TooFewCustomers(uint256 customers, uint256 needed);
    /// @notice Somebody has to verify.
    error NoMiners();
    /// @notice The update of this customer for this round is here already.
    error AlreadySubmitted(uint256 index);
    /// @notice These customers of this word submitted their updates themselves and may not be left out.
    error Omitted(uint256 word, uint256 bits);
    /// @notice Not a binary CIDv1 with a SHA-256 digest.
    error WrongCid(bytes cid);
    /// @notice Root, manifest and participants are not those that were sealed.
    error NotAsSealed(bytes32 given, bytes32 sealed_);
    /// @notice Only the leader that the quorum signed for may send its verdict.
    error NotLeader(address caller, address leader);
    /// @notice Publish a task; the caller is its manufacturer.
    constructor(Terms memory given) {
        if (given.rounds == 0 || given.gammaMax == 0 || given.gammaInitial > given.gammaMax) {
            revert WrongTerms(given.rounds, given.gammaInitial, given.gammaMax);
        }
        if (given.policy == 0 || given.model == 0 || given.seed == 0) revert ZeroDigest();
        (_policy, _initialModel, _initialSeed) = (given.policy, given.model, given.seed);
        (_rounds, _f) = (given.rounds, given.f);
        (_gammaInitial, _gammaMax) = (given.gammaInitial, given.gammaMax);
        (model, seed) = (given.model, given.seed);
        emit TaskPublished(msg.sender, given);
    }

    /// @notice Admit customers, in as many batches as it takes.
    function admitCustomers(address[] calldata accounts) external onlyManufacturer {
        _require(Phase.Admission);
        uint256 first = _admitCustomers(accounts);
        _reputation.admit(first, accounts.length, _gammaInitial);
    }

    /// @notice Admit miners with their VRF keys, in as many batches as it takes.
    function admitMiners(address[] calldata accounts, bytes32[] calldata vrfKeys) external onlyManufacturer {
        _require(Phase.Admission);
        _admitMiners(accounts, vrfKeys);
    }

    /// @notice End the admission and begin the first round.
    function open() external onlyManufacturer {
        _require(Phase.Admission);
        (uint256 n, uint256 m, uint256 needed) = (customerCount(), minerCount(), 2 * uint256(_f) + 3);
        if (n < needed) revert TooFewCustomers(n, needed);
        if (m == 0) revert NoMiners();
        uint256 quorum = _quorumOf(m);
        _progress = Progress(Phase.Collection, 1, uint16(quorum), uint32(n), uint48(block.number), 0);
        emit TaskOpened(n, m, quorum);
    }

    /// @notice Hand in an update's digest without the manufacturer: the round cannot be sealed without this customer.
    /// @dev The way round a relayer that drops updates; the update itself must be where the miners can fetch it. As long
    ///      as rounds have no deadlines the manufacturer decides when one is sealed, so this has to come before.
    function submit(uint256 round, bytes32 update) external {
        _requireRound(Phase.Collection, round);
        uint256 index = customerIndex(msg.sender);
        if (update == 0) revert ZeroDigest();
        (uint256 word, uint256 bit) = (index / 256, 1 << (index % 256));
        if (_submitted[round][word] & bit != 0) revert AlreadySubmitted(index);
        _submitted[round][word] |= bit;
        emit UpdateSubmitted(round, msg.sender, index, update);
    }

    /// @notice Fix the round's set of updates.
    /// @param participants Bitmap of the customers whose receipts are under `root`; see `RoundSealed` for the rest.
    function seal(
        uint256 round,
        bytes32 root,
        bytes32 manifest,
        uint64 size,
        bytes calldata cid,
        uint256[] calldata participants
    ) external onlyManufacturer {
        uint256 n = _requireRound(Phase.Collection, round).customers;
        if (root == 0 || manifest == 0) revert ZeroDigest();
        _checkCid(cid);
        Bitmap.checkParticipants(participants, n);
        _checkSubmitted(round, participants);
        commitmentOf[round] = keccak256(abi.encode(root, manifest, participants));
        (_progress.phase, _progress.sealedAt) = (Phase.Sealed, uint48(block.number));
        emit RoundSealed(round, root, manifest, size, cid, participants);
    }

    /// @notice Record the miners' verdict on the sealed round, move every participant's reputation, begin the next
    ///         round. Sent by the leader that the verdict names.
    /// @param manifest SHA-256 of the manifest, as sealed.
    /// @param signatures The miners' signatures of the verdict, by strictly ascending signer; at least the quorum.
    function finalise(Verdict calldata verdict, bytes32 manifest, Record calldata record, bytes[] calldata signatures)
        external
    {
        Progress memory progress = _requireRound(Phase.Sealed, verdict.round);
        _checkVerdict(verdict, manifest, record);
        uint256 signers = _checkQuorum(verdict, signatures, progress.quorum);

        uint256 threshold = _reputation.update(verdict.participants, verdict.honest, _gammaMax);
        (model, seed) = (verdict.model, verdict.seed);
        _advance(progress);
        Outcome memory outcome = Outcome(threshold, signers, progress.openedAt, progress.sealedAt);
        emit RoundFinalised(verdict.round, msg.sender, verdict, record, outcome);
        if (verdict.round == _rounds) emit TaskCompleted(verdict.model);
    }

    /// @notice What the manufacturer fixed.
    function terms() external view returns (Terms memory) {
        return Terms(_policy, _initialModel, _initialSeed, _rounds, _f, _gammaInitial, _gammaMax);
    }

    /// @notice Where the task stands, in one call.
    function status() external view returns (Status memory) {
        Progress memory p = _progress;
        return Status(p.phase, p.round, _rounds, p.quorum, p.openedAt, p.sealedAt, model, seed, _policy);
    }

    /// @notice All reputations, packed: customer i is byte i % 32, counted from the low end, of word i / 32.
    function reputations() external view returns (uint256[] memory) {
        return _reputation.all(customerCount());
    }

    /// @notice Bitmap of the customers that submitted directly for a round.
    function submitted(uint256 round) external view returns (uint256[] memory bitmap) {
        bitmap = new uint256[](Bitmap.words(customerCount()));
        for (uint256 w = 0; w < bitmap.length; ++w) {
            bitmap[w] = _submitted[round][w];
        }
    }

    function _require(Phase phase) private view {
        if (_progress.phase != phase) revert WrongPhase(_progress.phase);
    }

    function _requireRound(Phase phase, uint256 round) private view returns (Progress memory progress) {
        progress = _progress;
        if (progress.phase != phase) revert WrongPhase(progress.phase);
        if (progress.round != round) revert WrongRound(round, progress.round);
    }

    /// @dev 36 bytes: version 1, any codec, the multihash of a SHA-256 (0x12) of 32 bytes (0x20). A CID only says where
    ///      to look; what is found there must hash to the digest beside it.
    function _checkCid(bytes calldata cid) private pure {
        if (cid.length != 36 || bytes4(cid[:4]) & 0xff00ffff != 0x01001220) revert WrongCid(cid);
    }

    /// @dev Revert if a customer that submitted directly is left out.
    function _checkSubmitted(uint256 round, uint256[] calldata participants) private view {
        for (uint256 w = 0; w < participants.length; ++w) {
            uint256 missing = _submitted[round][w] & ~participants[w];
            if (missing != 0) revert Omitted(w, missing);
        }
    }

    function _checkVerdict(Verdict calldata verdict, bytes32 manifest, Record calldata record) private view {
        if (verdict.task != _policy) revert WrongTask(verdict.task, _policy);
        bytes32 commitment = keccak256(abi.encode(verdict.root, manifest, verdict.participants));
        if (commitment != commitmentOf[verdict.round]) revert NotAsSealed(commitment, commitmentOf[verdict.round]);
        if (verdict.model == 0 || verdict.record == 0 || verdict.seed == 0) revert ZeroDigest();
        _checkCid(record.cid);
        Bitmap.checkHonest(verdict.honest, verdict.participants);
        if (msg.sender != verdict.leader) revert NotLeader(msg.sender, verdict.leader);
        minerIndex(verdict.leader);
    }

    /// @dev Begin the next round, or complete the task.
    function _advance(Progress memory progress) private {
        bool last = progress.round == _rounds;
        _progress.phase = last ? Phase.Completed : Phase.Collection;
        if (!last) _progress.round = progress.round + 1;
        _progress.openedAt = uint48(block.number);
    }
}
