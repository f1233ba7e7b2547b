// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

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

    /// @notice Bytes of a binary CIDv1 with a SHA-256 digest.
    uint256 public constant CID_BYTES = 36;

    /// @notice SHA-256 of the resolved configuration.
    bytes32 public immutable policy;
    /// @notice Number of rounds.
    uint32 public immutable rounds;
    /// @notice Byzantine customers a round must survive.
    uint16 public immutable f;
    /// @notice Reputation of a customer when it is admitted.
    uint8 public immutable gammaInitial;
    /// @notice The highest reputation.
    uint8 public immutable gammaMax;

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
    /// @notice The bitmap has another length than ceil(customers / 256).
    error WrongLength(uint256 given, uint256 needed);
    /// @notice The bitmap's last word has bits beyond the last customer.
    error UnknownCustomers(uint256 bits);
    /// @notice A round has at least one participant.
    error NoParticipants();
    /// @notice These customers of this word submitted their updates themselves and may not be left out.
    error Omitted(uint256 word, uint256 bits);
    /// @notice A CID has `CID_BYTES` bytes.
    error WrongCid(uint256 length);
    /// @notice Root, manifest and participants are not those that were sealed.
    error NotAsSealed(bytes32 given, bytes32 sealed_);
    /// @notice Evaluated H without having taken part: these bits of this word.
    error HonestNotParticipant(uint256 word, uint256 bits);
    /// @notice Only the leader that the quorum signed for may send its verdict.
    error NotLeader(address caller, address leader);
    /// @notice Publish a task; the caller is its manufacturer.
    constructor(Terms memory terms) {
        if (terms.rounds == 0 || terms.gammaMax == 0 || terms.gammaInitial > terms.gammaMax) {
            revert WrongTerms(terms.rounds, terms.gammaInitial, terms.gammaMax);
        }
        if (terms.policy == 0 || terms.model == 0 || terms.seed == 0) revert ZeroDigest();
        policy = terms.policy;
        rounds = terms.rounds;
        f = terms.f;
        gammaInitial = terms.gammaInitial;
        gammaMax = terms.gammaMax;
        model = terms.model;
        seed = terms.seed;
        emit TaskPublished(msg.sender, terms);
    }

    /// @notice Admit customers, in as many batches as it takes.
    function admitCustomers(address[] calldata accounts) external onlyManufacturer {
        _require(Phase.Admission);
        uint256 first = _admitCustomers(accounts);
        _reputation.admit(first, accounts.length, gammaInitial);
    }

    /// @notice Admit miners with their VRF keys, in as many batches as it takes.
    function admitMiners(address[] calldata accounts, bytes32[] calldata vrfKeys) external onlyManufacturer {
        _require(Phase.Admission);
        _admitMiners(accounts, vrfKeys);
    }

    /// @notice End the admission and begin the first round.
    function open() external onlyManufacturer {
        _require(Phase.Admission);
        (uint256 n, uint256 m, uint256 needed) = (customerCount(), minerCount(), 2 * uint256(f) + 3);
        if (n < needed) revert TooFewCustomers(n, needed);
        if (m == 0) revert NoMiners();
        uint256 quorum = _quorumOf(m);
        _progress = Progress(Phase.Collection, 1, uint16(quorum), uint32(n), uint48(block.number), 0);
        emit TaskOpened(n, m, quorum);
    }

    /// @notice Hand in an update's digest without the manufacturer: the round cannot be sealed without this customer.
    /// @dev The way round a relayer that drops updates; the update itself must be where the miners can fetch it.
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
        if (cid.length != CID_BYTES) revert WrongCid(cid.length);
        _checkParticipants(round, participants, n);
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

        uint256 threshold = _reputation.update(verdict.participants, verdict.honest, gammaMax);
        (model, seed) = (verdict.model, verdict.seed);
        _advance(progress);
        Outcome memory outcome = Outcome(threshold, signers, progress.openedAt, progress.sealedAt);
        emit RoundFinalised(verdict.round, msg.sender, verdict, record, outcome);
        if (verdict.round == rounds) emit TaskCompleted(verdict.model);
    }

    /// @notice Where the task stands, in one call.
    function status() external view returns (Status memory) {
        Progress memory p = _progress;
        return Status(p.phase, p.round, rounds, p.quorum, p.openedAt, p.sealedAt, model, seed);
    }

    /// @notice All reputations, packed: customer i is byte i % 32, counted from the low end, of word i / 32.
    function reputations() external view returns (uint256[] memory) {
        return _reputation.all(customerCount());
    }

    /// @notice Bitmap of the customers that submitted directly for a round.
    function submitted(uint256 round) external view returns (uint256[] memory bitmap) {
        bitmap = new uint256[](_words(customerCount()));
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

    function _words(uint256 bits) private pure returns (uint256) {
        return (bits + 255) / 256;
    }

    function _checkParticipants(uint256 round, uint256[] calldata participants, uint256 n) private view {
        uint256 words = _words(n);
        if (participants.length != words) revert WrongLength(participants.length, words);
        uint256 beyond = n % 256 == 0 ? 0 : participants[words - 1] >> (n % 256);
        if (beyond != 0) revert UnknownCustomers(beyond << (n % 256));
        uint256 any = 0;
        for (uint256 w = 0; w < words; ++w) {
            any |= participants[w];
            uint256 missing = _submitted[round][w] & ~participants[w];
            if (missing != 0) revert Omitted(w, missing);
        }
        if (any == 0) revert NoParticipants();
    }

    function _checkVerdict(Verdict calldata verdict, bytes32 manifest, Record calldata record) private view {
        if (verdict.task != policy) revert WrongTask(verdict.task, policy);
        bytes32 commitment = keccak256(abi.encode(verdict.root, manifest, verdict.participants));
        if (commitment != commitmentOf[verdict.round]) revert NotAsSealed(commitment, commitmentOf[verdict.round]);
        if (verdict.model == 0 || verdict.record == 0 || verdict.seed == 0) revert ZeroDigest();
        if (record.cid.length != CID_BYTES) revert WrongCid(record.cid.length);
        uint256 words = verdict.participants.length;
        if (verdict.honest.length != words) revert WrongLength(verdict.honest.length, words);
        for (uint256 w = 0; w < words; ++w) {
            uint256 strangers = verdict.honest[w] & ~verdict.participants[w];
            if (strangers != 0) revert HonestNotParticipant(w, strangers);
        }
        if (msg.sender != verdict.leader) revert NotLeader(msg.sender, verdict.leader);
        minerIndex(verdict.leader);
    }

    /// @dev Begin the next round, or complete the task.
    function _advance(Progress memory progress) private {
        bool last = progress.round == rounds;
        _progress.phase = last ? Phase.Completed : Phase.Collection;
        if (!last) _progress.round = progress.round + 1;
        _progress.openedAt = uint48(block.number);
    }
}
