"""Key files: private, whole, never overwritten, never in a project; and what is done with damaged ones."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st

from app.ledger import keystore
from app.ledger.keystore import address_of, create, key_path, load, names, new_key, parse_key
from app.protocol.errors import ConfigError, StoreError

KEY = bytes.fromhex("4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318")
ADDRESS = "0x2c7536E3605D9C16a7a3D7b1898e529396a65c23"
PASSWORD = "päss wörd"
CHEAP = 4  # scrypt's n
ROOT = Path(keystore.__file__).parents[2]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEARTH_KEYS", str(tmp_path / "config" / "keys"))
    return tmp_path / "config" / "keys"


@pytest.fixture
def file(home: Path) -> Path:
    return create("mine", KEY, PASSWORD, work=CHEAP)


def changed(file: Path, **changes: Any) -> Path:
    document = json.loads(file.read_bytes())
    for name, value in changes.items():
        parts = name.split("__")
        place = document
        for part in parts[:-1]:
            place = place[part]
        if value is None:
            del place[parts[-1]]
        else:
            place[parts[-1]] = value
    file.write_text(json.dumps(document))
    return file


def test_there_and_back(home: Path, file: Path) -> None:
    assert file == home / "mine.json"
    account = load(file, PASSWORD)
    assert (bytes(account.key), account.address, address_of(file)) == (KEY, ADDRESS, ADDRESS)
    assert names() == ["mine"]
    assert KEY.hex() not in file.read_text()


def test_others_can_read_it(file: Path) -> None:
    """As geth and every wallet write it."""
    assert bytes(Account.decrypt(file.read_text(), PASSWORD)) == KEY
    document = json.loads(file.read_text())
    assert (document["version"], document["crypto"]["kdf"]) == (3, "scrypt")


def test_we_can_read_others(home: Path, file: Path) -> None:
    file.write_text(json.dumps(Account.encrypt(KEY, PASSWORD, kdf="pbkdf2", iterations=10)))
    assert load(file, PASSWORD).address == ADDRESS


def test_one_without_an_address_is_refused(file: Path) -> None:
    """Without it nothing would notice that a damaged file decrypts to another key."""
    changed(file, address=None)
    with pytest.raises(ConfigError, match="names no address"):
        load(file, PASSWORD)
    with pytest.raises(ConfigError, match="names no address"):
        address_of(file)


def test_the_default_work_is_what_geth_uses(home: Path) -> None:
    path = create("strong", KEY, PASSWORD)
    assert json.loads(path.read_text())["crypto"]["kdfparams"]["n"] == 2**18
    assert load(path, PASSWORD).address == ADDRESS


def test_it_is_for_its_owner_alone(home: Path) -> None:
    umask = os.umask(0)
    try:
        path = create("mine", KEY, PASSWORD, work=CHEAP)
    finally:
        os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert [each.name for each in home.iterdir()] == ["mine.json"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o777])
def test_one_that_is_open_to_others_is_refused(file: Path, mode: int) -> None:
    file.chmod(mode)
    with pytest.raises(ConfigError, match=rf"is open to others \(mode {mode:o}\) \(allowed: chmod 600\)"):
        load(file, PASSWORD)
    with pytest.raises(ConfigError, match="is open to others"):
        address_of(file)


def test_it_is_never_overwritten(home: Path, file: Path) -> None:
    before = file.read_bytes()
    with pytest.raises(ConfigError, match="exists, and a key is never overwritten"):
        create("mine", new_key(), PASSWORD, work=CHEAP)
    file.unlink()
    file.symlink_to(home / "elsewhere")  # a dangling link is a taken name too
    with pytest.raises(ConfigError, match="never overwritten"):
        create("mine", new_key(), PASSWORD, work=CHEAP)
    assert not (home / "elsewhere").exists()
    assert before


def test_it_is_not_overwritten_in_a_race(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look and the write another process takes the name."""
    encrypt = Account.encrypt

    def slow(*arguments: Any, **options: Any) -> Any:
        home.mkdir(parents=True, exist_ok=True)
        (home / "mine.json").write_text("theirs")
        return encrypt(*arguments, **options)

    monkeypatch.setattr(keystore.Account, "encrypt", slow)
    with pytest.raises(ConfigError, match="never overwritten"):
        create("mine", KEY, PASSWORD, work=CHEAP)
    assert (home / "mine.json").read_text() == "theirs"
    assert [each.name for each in home.iterdir()] == ["mine.json"]


def test_a_disk_that_refuses_leaves_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keystore.os, "fsync", full)
    with pytest.raises(StoreError, match=r"mine\.json: cannot be written: No space left on device"):
        create("mine", KEY, PASSWORD, work=CHEAP)
    assert list(home.iterdir()) == []


def test_no_folder_of_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "pyproject.toml").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "app")
    for folder in (ROOT / "keys", ROOT, tmp_path / "app" / "deep" / "keys", tmp_path / "link" / "keys"):
        monkeypatch.setenv("HEARTH_KEYS", str(folder))
        with pytest.raises(ConfigError, match=r"HEARTH_KEYS: .* lies in the project .* whose files are given to other"):
            create("mine", KEY, PASSWORD, work=CHEAP)
        assert not (folder / "mine.json").exists()
    assert not (tmp_path / "app" / "deep").exists()


def test_the_default_folder_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HEARTH_KEYS", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert tmp_path in keystore.keys_home().parents
    assert names() == []


@pytest.mark.parametrize(
    "name", ["", "a/b", "../a", ".a", "a.", "a b", "é", "x" * 65, KEY.hex(), "0x" + KEY.hex(), ADDRESS, "-a", "a\n"]
)
def test_unfit_names_are_refused_and_not_repeated(home: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="wallet name: it is not fit for a key file") as caught:
        key_path(name)
    assert len(name) < 10 or name not in str(caught.value)


def test_an_empty_password_is_refused(home: Path) -> None:
    with pytest.raises(ConfigError, match="password: it is empty"):
        create("mine", KEY, "", work=CHEAP)


@pytest.mark.parametrize("password", ["", "pass word", PASSWORD + " ", PASSWORD.upper()])
def test_a_wrong_password(file: Path, password: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(file, password)
    assert str(caught.value).startswith(f"password: it does not open {file}")
    assert password not in str(caught.value) or not password


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"version": 1}, "its version is not 3"),
        ({"crypto": None}, "it lacks 'crypto'"),
        ({"crypto": []}, "damaged"),
        ({"crypto__kdf": "md5"}, "neither scrypt nor pbkdf2"),
        ({"crypto__kdfparams__n": 2**30}, "too much work"),
        ({"crypto__kdfparams__r": 2**30}, "too much work"),
        ({"crypto__kdfparams__p": 17}, "too much work"),
        ({"crypto__kdfparams__n": -4}, "not positive integers"),
        ({"crypto__kdfparams__n": True}, "not positive integers"),
        ({"crypto__kdfparams__n": "4"}, "not positive integers"),
        ({"crypto__kdfparams__n": 5}, "damaged"),
        ({"crypto__kdfparams__n": None}, "it lacks 'n'"),
        ({"crypto__kdfparams__dklen": 2**31}, "too long"),
        ({"crypto__kdfparams__salt": "zz"}, "damaged"),
        ({"crypto__ciphertext": "zz"}, "damaged"),
        ({"crypto__cipher": "rot13"}, "its cipher is not aes-128-ctr"),
        ({"crypto__cipherparams__iv": None}, "it lacks 'iv'"),
        ({"address": "0x" + "00" * 20}, f"it names 0x{'00' * 20}, its key is {ADDRESS}'s"),
    ],
)
def test_a_damaged_file_is_one_line(file: Path, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(changed(file, **changes), PASSWORD)
    assert reason in str(caught.value)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b"null", b"[" * 10_000, b"x" * 70_000])
def test_what_is_no_key_file_is_one_line(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    for read in (lambda: load(file, PASSWORD), lambda: address_of(file)):
        with pytest.raises(ConfigError, match="key file: ") as caught:
            read()
        assert "\n" not in str(caught.value)


@given(st.data())
def test_any_byte_changed_is_noticed_or_harmless(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    file = tmp_path_factory.mktemp("keys") / "k.json"
    whole = FILE
    at = data.draw(st.integers(0, len(whole) - 1))
    file.write_bytes(whole[:at] + bytes([data.draw(st.integers(0, 255))]) + whole[at + 1 :])
    file.chmod(0o600)
    try:
        assert bytes(load(file, PASSWORD).key) == KEY
    except ConfigError as error:
        assert "\n" not in str(error)  # noqa: PT017


FILE = json.dumps(Account.encrypt(KEY, PASSWORD, kdf="scrypt", iterations=CHEAP)).encode()


def test_a_folder_and_a_pipe_are_not_key_files(home: Path) -> None:
    home.mkdir(parents=True)
    (home / "folder.json").mkdir()
    os.mkfifo(home / "pipe.json", 0o600)
    for name in names():
        with pytest.raises(ConfigError, match="key file"):
            address_of(key_path(name))  # and it does not wait for a writer


@pytest.mark.parametrize("text", [KEY.hex(), "0x" + KEY.hex(), f"  {KEY.hex().upper()}\n"])
def test_keys_that_are_read(text: str) -> None:
    assert parse_key(text) == KEY


@pytest.mark.parametrize(
    "text", ["", "0x", KEY.hex()[:-1], KEY.hex() + "0", "g" * 64, "0" * 64, "f" * 64, KEY.hex()[::2]]
)
def test_keys_that_are_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ConfigError, match="private key: this is not one") as caught:
        parse_key(text)
    assert len(text) < 8 or text not in str(caught.value)


def test_new_keys_differ() -> None:
    assert len({new_key() for _ in range(50)}) == 50


def test_a_killed_process_leaves_no_half_key(home: Path) -> None:
    """The name appears only with the whole file behind it."""
    code = (
        "import os, signal\n"
        "from app.ledger import keystore\n"
        "keystore.os.link = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"keystore.create('mine', bytes.fromhex('{KEY.hex()}'), 'x', work=4)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "HEARTH_KEYS": str(home)})
    assert done.returncode == -9
    assert names() == []
    assert create("mine", KEY, PASSWORD, work=CHEAP).exists()
