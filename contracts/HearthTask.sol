// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Bitmap} from "./Bitmap.sol";
import {Deposits} from "./Deposits.sol";
import {Reputation} from "./Reputation.sol";
import {TaskTerms} from "./TaskTerms.sol";

/// @title One crowdsourcing task
/// @notice The manufacturer publishes a task and admits its members; then each round has two transactions. `seal` fixes
///         the set of updates before anyone evaluates them, `finalise` records what a quorum of the miners agreed on.
/// @dev What the quorum signs is believed: the contract sees digests, so that the aggregate is right rests on more than
///      two thirds of the miners being honest (and everything needed to check them is in the events and the blobs).
///      The leader's election is proved off chain: miners check its VRF proof and its rank before they sign, so the
///      quorum carries both; the contract checks that the rank's turn has come. The next seed is the leader's VRF
///      output: unique, so a leader cannot grind it. Who can bias the election, and by how much:
///      - A leader can withhold, at the price of its turn. Who holds the first k ranks chooses among k + 1 seeds; with a
///        share s of the weight (equal, stake or reputation, as the policy says) that happens with probability s^k.
///      - The first seed is the manufacturer's. With G tries, or a miner with G keys after it knows the seed, it gets the
///        best of G elections for the first round, and some log(G) / log(1/s) rounds in a row from there.
///      - Stake is the manufacturer's word, and no share of it is too large. It buys turns and no verdict: the quorum
///        counts miners, and what a round comes to is not the leader's to choose.
///      Omission: the manufacturer seals, and it could leave a customer out. So a seal before the submission window has
///      passed counts only if it holds all customers; in the window everyone who was left out can `submit`, and a seal
///      without its update is refused. The other way, a seal that can be challenged afterwards, would let every round
///      wait for the challenge, and would open the updates of the others to whoever then challenges with a copy.
contract HearthTask is Deposits {
    using Reputation for Reputation.Book;

    /// @notice What the contract adds to a verdict.
    /// @dev The two blocks chain a task's events backwards, so that a reader needs no search.
    struct Outcome {
        uint256 threshold; // h of the reputation rule
        uint256 credited; // points that were earned in the round
        uint256 signers; // bitmap of the miners who signed
        uint48 openedAt; // block in which the round began: that of `open`, or in which the round before ended
        uint48 sealedAt; // block in which it was sealed
    }

    /// @notice Where the task stands; see `status`.
    struct Status {
        Phase phase;
        uint32 round; // the current one; once the task has ended, the last that began
        uint32 rounds;
        uint32 skipped; // rounds that expired and did not end the task
        uint16 quorum;
        uint48 openedAt; // block of `open`, or in which the last round ended
        uint48 sealedAt; // block of the last `seal`, 0 before the first
        uint48 since; // time at which the phase began
        uint256 credited; // points earned so far, by all customers
        uint256 price; // wei for one point
        bytes32 model;
        bytes32 seed;
        bytes32 policy;
    }

    /// @notice SHA-256 of the current global model.
    bytes32 public model;
    /// @notice Seed of the current round's election.
    bytes32 public seed;
    /// @notice keccak256(abi.encode(root, manifest, participants)) of the round that was sealed last.
    /// @dev One slot for all rounds, and never zero, so that the first seal costs what every other costs; what was sealed
    ///      in earlier rounds is in the events. Before the first seal it holds the policy's digest.
    bytes32 public commitment;

    mapping(uint256 round => mapping(uint256 word => uint256 bits)) private _submitted;

    /// @notice Admission ended and the first round began.
    event TaskOpened(uint256 customers, uint256 miners, uint256 quorum, uint256 price);
    /// @notice A customer's receipt was handed in past the manufacturer.
    event UpdateSubmitted(
        uint256 indexed round, address indexed customer, uint256 index, Receipt receipt, bytes signature
    );
    /// @notice The round's set of updates was fixed. `root` is the Merkle root of the receipts, `manifest` the SHA-256,
    ///         `size` and `cid` the length and place of the blob with all of them.
    event RoundSealed(
        uint256 indexed round, bytes32 root, bytes32 manifest, uint64 size, bytes cid, uint256[] participants
    );
    /// @notice The round was finalised with this verdict.
    event RoundFinalised(uint256 indexed round, address indexed leader, Verdict verdict, Outcome outcome);

    /// @notice The statement is on another task.
    error WrongTask(bytes32 given, bytes32 policy);
    /// @notice Multi-Krum needs n >= 2f + 3 customers.
    error TooFewCustomers(uint256 customers, uint256 needed);
    /// @notice Somebody has to verify.
    error NoMiners();
    /// @notice The update of this customer for this round is here already.
    error AlreadySubmitted(uint256 index);
    /// @notice These customers of this word submitted their updates themselves and may not be left out.
    error Omitted(uint256 word, uint256 bits);
    /// @notice Root, manifest and participants are not those that were sealed.
    error NotAsSealed(bytes32 given, bytes32 sealed_);
    /// @notice Only the leader that the quorum signed for may send its verdict.
    error NotLeader(address caller, address leader);

    /// @notice Publish a task; the caller is its manufacturer.
    constructor(Terms memory given) TaskTerms(given) {
        (model, seed, commitment) = (given.model, given.seed, given.policy);
    }

    /// @notice Admit customers, in as many batches as it takes.
    function admitCustomers(address[] calldata accounts) external onlyManufacturer {
        _require(Phase.Admission);
        uint256 first = _admitCustomers(accounts);
        _reputation.admit(first, accounts.length, _gammaInitial, _reward != 0);
    }

    /// @notice Admit miners, in as many batches as it takes.
    function admitMiners(Miner[] calldata given) external onlyManufacturer {
        _require(Phase.Admission);
        _admitMiners(given);
    }

    /// @notice End the admission, escrow the reward (the value sent) and begin the first round.
    function open() external payable onlyManufacturer {
        _require(Phase.Admission);
        (uint256 n, uint256 m, uint256 needed) = (customerCount(), minerCount(), 2 * uint256(_f) + 3);
        if (n < needed) revert TooFewCustomers(n, needed);
        if (m == 0) revert NoMiners();
        _escrow(n);
        Progress memory progress = _progress;
        (progress.round, progress.quorum, progress.customers) = (1, uint8(_quorumOf(m)), uint24(n));
        _begin(progress, Phase.Collection);
        emit TaskOpened(n, m, progress.quorum, price);
    }

    /// @notice Hand in a customer's signed receipt without the manufacturer: no seal can leave this customer out then.
    ///         Anyone may relay it. The update itself must be where the miners can fetch it.
    function submit(Receipt calldata receipt, bytes calldata signature) external {
        _requireRound(Phase.Collection, receipt.round);
        if (receipt.task != _policy) revert WrongTask(receipt.task, _policy);
        uint256 index = customerIndex(receipt.customer);
        (uint256 word, uint256 bit) = (index / 256, 1 << (index % 256));
        if (_submitted[receipt.round][word] & bit != 0) revert AlreadySubmitted(index);
        _checkDeposits(Role.Customer, word, bit);
        _checkShape(receipt);
        _checkReceipt(receipt, signature, 0);
        _submitted[receipt.round][word] |= bit;
        emit UpdateSubmitted(receipt.round, receipt.customer, index, receipt, signature);
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
        Progress memory progress = _requireRound(Phase.Collection, round);
        if (root == 0 || manifest == 0) revert ZeroDigest();
        _checkCid(cid);
        Bitmap.checkParticipants(participants, progress.customers);
        if (!Bitmap.isEveryone(participants, progress.customers)) {
            _notBefore(uint256(progress.since) + _submissionWindow);
        }
        _checkSubmitted(round, participants);
        commitment = keccak256(abi.encode(root, manifest, participants));
        _begin(progress, Phase.Sealed);
        emit RoundSealed(round, root, manifest, size, cid, participants);
    }

    /// @notice Record the miners' verdict on the sealed round, move every participant's reputation, credit the rewards,
    ///         begin the next round. Sent by the leader that the verdict names, once its rank's turn has come.
    /// @param manifest SHA-256 of the manifest, as sealed.
    /// @param signatures The miners' signatures of the verdict, by strictly ascending signer; at least the quorum.
    function finalise(Verdict calldata verdict, bytes32 manifest, bytes[] calldata signatures) external {
        Progress memory progress = _requireRound(Phase.Sealed, verdict.round);
        _checkVerdict(verdict, manifest);
        _notBefore(uint256(progress.since) + uint256(verdict.rank) * _leaderWindow);
        uint256 signers = _checkQuorum(verdict, signatures, progress.quorum);
        _checkDeposits(Role.Miner, 0, signers);

        Outcome memory outcome = Outcome(0, 0, signers, progress.openedAt, progress.sealedAt);
        (outcome.threshold, outcome.credited) =
            _reputation.update(verdict.participants, verdict.honest, _gammaMax, _reward != 0);
        progress.credited += uint40(outcome.credited);
        (model, seed) = (verdict.model, verdict.seed);
        emit RoundFinalised(verdict.round, msg.sender, verdict, outcome);
        _advance(progress);
    }

    /// @notice Where the task stands, in one call.
    function status() external view returns (Status memory now_) {
        Progress memory p = _progress;
        (now_.phase, now_.round, now_.rounds, now_.skipped) = (p.phase, p.round, _rounds, p.skipped);
        (now_.quorum, now_.openedAt, now_.sealedAt, now_.since) = (p.quorum, p.openedAt, p.sealedAt, p.since);
        (now_.credited, now_.price) = (p.credited, price);
        (now_.model, now_.seed, now_.policy) = (model, seed, _policy);
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

    /// @dev Revert if a customer that submitted directly is left out, or one takes part without a deposit. One that
    ///      lost its deposit after it had submitted must not be able to stop the seal, so it need not be in.
    function _checkSubmitted(uint256 round, uint256[] calldata participants) private view {
        for (uint256 w = 0; w < participants.length; ++w) {
            uint256 missing = _submitted[round][w] & ~participants[w];
            if (missing != 0) missing = _entitled(Role.Customer, w, missing);
            if (missing != 0) revert Omitted(w, missing);
            _checkDeposits(Role.Customer, w, participants[w]);
        }
    }

    function _checkVerdict(Verdict calldata verdict, bytes32 manifest) private view {
        if (verdict.task != _policy) revert WrongTask(verdict.task, _policy);
        bytes32 given = keccak256(abi.encode(verdict.root, manifest, verdict.participants));
        if (given != commitment) revert NotAsSealed(given, commitment);
        if (verdict.model == 0 || verdict.record == 0 || verdict.seed == 0) revert ZeroDigest();
        _checkCid(verdict.recordCid);
        Bitmap.checkHonest(verdict.honest, verdict.participants);
        if (msg.sender != verdict.leader) revert NotLeader(msg.sender, verdict.leader);
        minerIndex(verdict.leader);
    }
}
