// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Calls again what has just paid it
/// @notice A test's attacker; never deployed by the application.
contract Reenterer {
    address private _target;
    bytes private _data;
    /// @notice Whether it refuses every payment.
    bool public refusing;
    /// @notice How often it was paid.
    uint256 public payments;
    /// @notice How often a call from within a payment succeeded.
    uint256 public reentries;

    /// @notice Begin to refuse payments.
    function refuse() external {
        refusing = true;
    }

    /// @notice Call the target, with the value sent; when paid, do so again.
    function attack(address target, bytes calldata data) external payable {
        (_target, _data) = (target, data);
        (bool success, bytes memory reason) = target.call{value: msg.value}(data);
        if (success) return;
        assembly ("memory-safe") {
            revert(add(reason, 32), mload(reason))
        }
    }

    receive() external payable {
        if (refusing) revert();
        ++payments;
        (bool success,) = _target.call(_data);
        if (success) ++reentries;
    }
}
