from __future__ import annotations

from app.protocol.keys import simulation_account, simulation_secret


def test_keys_depend_on_seed_role_and_index_alone() -> None:
    cases = [
        (seed, role, index) for seed in (0, 1, 10) for role in ("customer", "miner", "vrf") for index in (0, 1, 10)
    ]
    secrets = [simulation_secret(*case) for case in cases]
    assert len(set(secrets)) == len(cases)
    assert secrets == [simulation_secret(*case) for case in cases]
    assert all(len(secret) == 32 for secret in secrets)


def test_the_account_is_that_of_the_secret() -> None:
    account = simulation_account(3, "customer", 2)
    assert bytes(account.key) == simulation_secret(3, "customer", 2)
    assert account.address == simulation_account(3, "customer", 2).address
