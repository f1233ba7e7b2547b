"""The accountant: budget, persistence, crashes, damaged and foreign ledgers."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.privacy.accountant import Accountant
from app.privacy.cost import PrivacyCost, PrivacySpent
from app.protocol.errors import BudgetError, PrivacyError

OWNER = "0x00000000000000000000000000000000000000A1"
RECORDS = "aa" * 32


def cost(epsilon: float, delta: float = 1e-5) -> PrivacyCost:
    return PrivacyCost("gaussian", "record", epsilon, delta)


def charge(accountant: Accountant, release: int, epsilon: float = 4.0, delta: float = 1e-5) -> None:
    accountant.charge(f"{release:064x}", RECORDS, {"clip": 1.0}, cost(epsilon, delta))


def test_a_release_is_counted_and_outlives_the_process(tmp_path: Path) -> None:
    path = tmp_path / "phone" / "privacy.jsonl"
    accountant = Accountant(path, OWNER, 4.0, 1e-5)
    assert accountant.spent() == PrivacySpent("nothing released", "record", 0.0, 0.0, 0, 0.0, 0.0)
    charge(accountant, 1)
    again = Accountant(path, OWNER, 4.0, 1e-5)
    assert again.spent() == PrivacySpent("gaussian", "record", 4.0, 1e-5, 1, 4.0, 1e-5)
    assert again.counted(f"{1:064x}")
    assert not again.counted(f"{2:064x}")


def test_the_release_beyond_the_budget_is_refused_and_not_counted(tmp_path: Path) -> None:
    accountant = Accountant(tmp_path / "ledger", OWNER, 8.0, 1e-3)
    charge(accountant, 1)
    charge(accountant, 2)
    before = (tmp_path / "ledger").read_bytes()
    with pytest.raises(PrivacyError, match=r"release refused: epsilon 8\.49.*budget of epsilon 8\.0"):
        charge(accountant, 3, epsilon=0.5)
    assert (tmp_path / "ledger").read_bytes() == before
    assert accountant.spent().releases == 2


def test_deltas_add_up_too(tmp_path: Path) -> None:
    """At epsilon 200 nothing is gained by composing more tightly, so it is not tried."""
    accountant = Accountant(tmp_path / "ledger", OWNER, 1000.0, 1e-5)
    charge(accountant, 1, epsilon=200.0)
    with pytest.raises(BudgetError, match=r"delta 0\.00002 for a record would exceed"):
        charge(accountant, 2, epsilon=200.0)


@pytest.mark.parametrize("record_set", [RECORDS, "bb" * 32])
def test_record_sets_are_taken_to_overlap(tmp_path: Path, record_set: str) -> None:
    """Adding one record to a set must not give its other records a fresh budget."""
    accountant = Accountant(tmp_path / "ledger", OWNER, 4.0, 1e-5)
    charge(accountant, 1)
    with pytest.raises(PrivacyError, match="refused"):
        accountant.charge("02" * 32, record_set, {}, cost(4.0))


def test_sums_are_exact(tmp_path: Path) -> None:
    accountant = Accountant(tmp_path / "ledger", OWNER, 0.3, 3e-5)
    for release in range(3):  # in binary floating point 0.1 + 0.1 + 0.1 > 0.3
        charge(accountant, release, epsilon=0.1)
    assert accountant.spent().epsilon == 0.3
    with pytest.raises(PrivacyError, match="refused"):
        charge(accountant, 3, epsilon=1e-9, delta=0.0)


@given(st.lists(st.floats(0, 5), max_size=8), st.floats(0.1, 10))
def test_what_is_spent_never_exceeds_the_budget(
    tmp_path_factory: pytest.TempPathFactory, epsilons: list[float], budget: float
) -> None:
    accountant = Accountant(tmp_path_factory.mktemp("law") / "ledger", OWNER, budget, 0.0)
    accepted: list[float] = []
    for release, epsilon in enumerate(epsilons):
        try:
            charge(accountant, release, epsilon, 0.0)
            accepted.append(epsilon)
        except PrivacyError:
            assert math.fsum([*accepted, epsilon]) > budget * (1 - 1e-12)
    assert accountant.spent().epsilon == pytest.approx(math.fsum(accepted))
    assert accountant.spent().epsilon <= budget
    assert accountant.spent().releases == len(accepted)


def test_without_a_mechanism_nothing_is_promised_and_it_shows(tmp_path: Path) -> None:
    accountant = Accountant(tmp_path / "ledger", OWNER, math.inf, 0.0)
    accountant.charge("01" * 32, RECORDS, {}, PrivacyCost("none", "record", math.inf, 0.0))
    spent = Accountant(tmp_path / "ledger", OWNER, math.inf, 0.0).spent()
    assert spent == PrivacySpent("none", "record", math.inf, 0.0, 1, math.inf, 0.0)
    with pytest.raises(PrivacyError, match="refused"):  # the same phone cannot promise epsilon 8 afterwards
        charge(Accountant(tmp_path / "ledger", OWNER, 8.0, 1e-5), 2)


def test_another_phones_ledger_is_refused(tmp_path: Path) -> None:
    charge(Accountant(tmp_path / "ledger", OWNER, 4.0, 1e-5), 1)
    with pytest.raises(PrivacyError, match="is not the privacy ledger of 0xB2"):
        Accountant(tmp_path / "ledger", "0xB2", 4.0, 1e-5)


def damaged(lines: list[bytes]) -> dict[str, bytes]:
    nan = lines[2].replace(b'"clip":1.0', b'"clip":NaN')
    cheaper = lines[1].replace(b'"epsilon":1.0', b'"epsilon":0.5')
    negative = lines[2].replace(b'"epsilon":1.0', b'"epsilon":-9.0')
    return {
        "empty": b"",
        "not ours": b"hello\n",
        "binary": bytes(range(256)),
        "head cut": lines[0][:-5],
        "last line cut": b"".join(lines)[:-20],
        "newline cut": b"".join(lines)[:-1],
        "first entry gone": lines[0] + lines[2] + lines[3],
        "middle entry gone": lines[0] + lines[1] + lines[3],
        "entries swapped": lines[0] + lines[2] + lines[1] + lines[3],
        "entry doubled": b"".join(lines) + lines[3],
        "entry made cheaper": lines[0] + cheaper + lines[2] + lines[3],
        "member added": lines[0] + lines[1].replace(b"{", b'{"note":1,', 1),
        "member removed": lines[0] + lines[1].replace(b',"unit":"record"', b""),
        "wrong type": lines[0] + lines[1].replace(b'"record_set":"', b'"record_set":["').replace(b'",', b'"],', 1),
        "spaces": lines[0] + lines[1].replace(b",", b", ", 1),
        "a list": lines[0] + b"[]\n",
        "not a number": lines[0] + lines[1] + nan,
        "negative": lines[0] + lines[1] + negative,
        "deep": lines[0] + b"[" * 8000 + b"\n",
        "so deep that the stack would overflow": lines[0] + b"[" * 1_000_000 + b"\n",
        "blank line": b"".join(lines) + b"\n",
    }


def whole_ledger(path: Path) -> list[bytes]:
    accountant = Accountant(path, OWNER, 100.0, 1.0)
    for release in (1, 2, 3):
        charge(accountant, release, epsilon=1.0)
    return path.read_bytes().splitlines(keepends=True)


CASES = sorted(damaged([b"{}\n"] * 4))


@pytest.mark.parametrize("case", CASES)
def test_a_damaged_ledger_is_refused_and_left_alone(tmp_path: Path, case: str) -> None:
    path = tmp_path / "ledger"
    data = damaged(whole_ledger(path))[case]
    accountant = Accountant(path, OWNER, 100.0, 1.0)
    path.write_bytes(data)
    for call in (
        lambda: Accountant(path, OWNER, 100.0, 1.0),
        accountant.spent,
        lambda: accountant.counted("00"),
        lambda: charge(accountant, 9),
    ):
        with pytest.raises(PrivacyError, match=r"corrupt at line|is not the privacy ledger") as caught:
            call()
        assert "\n" not in str(caught.value)
    assert path.read_bytes() == data


def test_an_entry_that_could_not_be_read_again_is_not_written(tmp_path: Path) -> None:
    accountant = Accountant(tmp_path / "ledger", OWNER, 100.0, 1.0)
    with pytest.raises(PrivacyError, match="too long"):
        accountant.charge("01", RECORDS, {"note": "x" * 9000}, cost(1.0))
    assert accountant.spent().releases == 0


def test_the_ledger_is_one_json_object_a_line(tmp_path: Path) -> None:
    lines = [json.loads(line) for line in whole_ledger(tmp_path / "ledger")]
    assert lines[0] == {"ledger": "hearth privacy ledger 2", "owner": OWNER}
    assert [line["costs"][0]["epsilon"] for line in lines[1:]] == [1.0, 1.0, 1.0]
    assert lines[1]["parameters"] == {"clip": 1.0}


def test_threads_with_accountants_of_their_own_cannot_overspend_together(tmp_path: Path) -> None:
    refused = []

    def spend(release: int) -> None:
        try:
            charge(Accountant(tmp_path / "ledger", OWNER, 5.0, 1.0), release, epsilon=1.0)
        except PrivacyError:
            refused.append(release)

    threads = [threading.Thread(target=spend, args=(release,)) for release in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Accountant(tmp_path / "ledger", OWNER, 5.0, 1.0).spent().epsilon == 5.0
    assert len(refused) == 7


CRASHING = """
    import os, signal, sys
    steps = int(sys.argv[1])

    def step():
        global steps
        steps -= 1
        if steps < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def dying(call):
        def wrapped(*args, **kwargs):
            step()
            result = call(*args, **kwargs)
            step()
            return result
        return wrapped

    for name in ("open", "fsync", "replace"):
        setattr(os, name, dying(getattr(os, name)))
    from pathlib import Path
    from app.privacy.accountant import Accountant
    from app.privacy.cost import PrivacyCost
    folder = Path(sys.argv[2])
    accountant = Accountant(folder / "ledger", "0xA", 3.0, 1.0)
    for release in range(3):
        accountant.charge(f"{release}", "records", {}, PrivacyCost("gaussian", "record", 1.0, 1e-5))
        step()
        with open(folder / "sent", "a") as file:
            file.write(f"{release}\\n")
        step()
"""


def test_killed_at_any_step_no_release_that_was_sent_is_uncounted(tmp_path: Path) -> None:
    """SIGKILL before and after every call that touches the disk, and around the sending."""
    script, steps, finished = textwrap.dedent(CRASHING), 0, False
    losses = 0
    while not finished:
        folder = tmp_path / str(steps)
        folder.mkdir()
        run = subprocess.run([sys.executable, "-c", script, str(steps), str(folder)], timeout=60, check=False)
        finished = run.returncode == 0
        assert finished or run.returncode == -9
        sent = (folder / "sent").read_text().split() if (folder / "sent").exists() else []
        accountant = Accountant(folder / "ledger", "0xA", 3.0, 1.0)
        assert all(accountant.counted(release) for release in sent)
        assert accountant.spent().releases - len(sent) in (0, 1)
        losses += accountant.spent().releases - len(sent)
        steps += 1
    assert steps > 30  # three releases with five calls each, before and after
    assert losses > 3  # some runs did die between counting and sending
