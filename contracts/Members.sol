// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Who takes part in a task
/// @notice The manufacturer admits customers and miners, each by index in the order of admission. Indices never
///         change: bitmaps, packed reputations and the miners' signer bitmap all count by them.
/// @dev Admission is the manufacturer's word (a consortium's choice); it is the only thing here that stands against
///      one party posing as many.
abstract contract Members {
    /// @notice One miner, as it is admitted.
    struct Miner {
        address account;
        uint16 stake; // how many sub-users it holds in the election of a leader, where the policy weighs by stake
        bytes32 vrfKey; // with which it proves what it drew (ECVRF, RFC 9381)
    }

    /// @notice Most miners a task can have: the signers of a round fit one word.
    uint256 public constant MAX_MINERS = 255;

    /// @notice Who published the task, admits its members and seals its rounds.
    address public immutable manufacturer;

    address[] private _customers;
    Miner[] private _miners;

    /// @dev One more than the index; zero means "not admitted".
    mapping(address account => uint256 number) private _customerNumber;
    mapping(address account => uint256 number) private _minerNumber;
    mapping(bytes32 vrfKey => bool taken) private _vrfKeyTaken;

    /// @notice Customers were admitted; `customers[k]` has the index `first + k`.
    event CustomersAdmitted(uint256 first, address[] customers);

    /// @notice Miners were admitted; `miners[k]` has the index `first + k`.
    event MinersAdmitted(uint256 first, Miner[] miners);

    /// @notice Only the manufacturer may do this.
    error NotManufacturer(address caller);
    /// @notice The account is not one of the task's customers.
    error NotCustomer(address account);
    /// @notice The account is not one of the task's miners.
    error NotMiner(address account);
    /// @notice The zero address cannot be a member.
    error ZeroAddress();
    /// @notice The account has this role already.
    error AlreadyAdmitted(address account);
    /// @notice A miner needs a VRF key that is neither zero nor another miner's.
    error WrongVrfKey(bytes32 vrfKey);
    /// @notice More miners than `MAX_MINERS`.
    error TooManyMiners(uint256 miners);

    modifier onlyManufacturer() {
        if (msg.sender != manufacturer) revert NotManufacturer(msg.sender);
        _;
    }

    constructor() {
        manufacturer = msg.sender;
    }

    /// @notice How many customers the task has.
    function customerCount() public view returns (uint256) {
        return _customers.length;
    }

    /// @notice How many miners the task has.
    function minerCount() public view returns (uint256) {
        return _miners.length;
    }

    /// @notice At most `count` customers from the index `first` on.
    function customers(uint256 first, uint256 count) external view returns (address[] memory page) {
        uint256 total = _customers.length;
        if (first > total) first = total;
        if (count > total - first) count = total - first;
        page = new address[](count);
        for (uint256 i = 0; i < count; ++i) {
            page[i] = _customers[first + i];
        }
    }

    /// @notice All miners by index.
    function miners() external view returns (Miner[] memory) {
        return _miners;
    }

    /// @notice The customer's index.
    function customerIndex(address account) public view returns (uint256) {
        uint256 number = _customerNumber[account];
        if (number == 0) revert NotCustomer(account);
        return number - 1;
    }

    /// @notice The miner's index.
    function minerIndex(address account) public view returns (uint256) {
        uint256 number = _minerNumber[account];
        if (number == 0) revert NotMiner(account);
        return number - 1;
    }

    /// @dev Admit customers in the order given; return the index of the first.
    function _admitCustomers(address[] calldata accounts) internal returns (uint256 first) {
        first = _customers.length;
        for (uint256 i = 0; i < accounts.length; ++i) {
            address account = accounts[i];
            if (account == address(0)) revert ZeroAddress();
            if (_customerNumber[account] != 0) revert AlreadyAdmitted(account);
            _customers.push(account);
            _customerNumber[account] = first + i + 1;
        }
        emit CustomersAdmitted(first, accounts);
    }

    /// @dev Admit miners in the order given.
    function _admitMiners(Miner[] calldata given) internal {
        uint256 first = _miners.length;
        if (first + given.length > MAX_MINERS) revert TooManyMiners(first + given.length);
        for (uint256 i = 0; i < given.length; ++i) {
            Miner calldata miner = given[i];
            if (miner.account == address(0)) revert ZeroAddress();
            if (_minerNumber[miner.account] != 0) revert AlreadyAdmitted(miner.account);
            // Two miners with one key would draw the same ticket: one holder with two chances of no cost.
            if (miner.vrfKey == 0 || _vrfKeyTaken[miner.vrfKey]) revert WrongVrfKey(miner.vrfKey);
            _miners.push(miner);
            _minerNumber[miner.account] = first + i + 1;
            _vrfKeyTaken[miner.vrfKey] = true;
        }
        emit MinersAdmitted(first, given);
    }
}
