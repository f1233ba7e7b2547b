"""``hearth wallet`` as people type it."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from app.cli import main
from app.ledger import keystore
from app.ledger.keystore import load

KEY = "4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318"
ADDRESS = "0x2c7536E3605D9C16a7a3D7b1898e529396a65c23"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of keys, cheap encryption, no terminal and no password but what a test gives."""
    monkeypatch.setenv("HEARTH_KEYS", str(tmp_path / "keys"))
    monkeypatch.delenv("HEARTH_PASSWORD", raising=False)
    encrypt = keystore.Account.encrypt
    monkeypatch.setattr(
        keystore.Account, "encrypt", lambda key, password, kdf, iterations: encrypt(key, password, kdf, 4)
    )
    return tmp_path / "keys"


def type_in(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def test_new_prints_address_and_file_and_no_key(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEARTH_PASSWORD", "x")
    assert main(["wallet", "new", "mine"]) == 0
    said = capsys.readouterr()
    account = load(home / "mine.json", "x")
    assert said.out == f"mine  {account.address}  {home / 'mine.json'}\n"
    assert said.err == ""
    assert bytes(account.key).hex() not in said.out


def test_import_from_the_standard_input(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = tmp_path / "password"
    secret.write_text("first line \r\nsecond line\n")
    secret.chmod(0o600)
    type_in(monkeypatch, f"0x{KEY}\n")
    assert main(["wallet", "import", "mine", "--password-file", str(secret)]) == 0
    assert capsys.readouterr().out == f"mine  {ADDRESS}  {home / 'mine.json'}\n"
    assert load(home / "mine.json", "first line ").address == ADDRESS


def test_show_one_and_all(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["wallet", "show"]) == 0
    assert capsys.readouterr().out == f"no keys in {home} (hearth wallet new NAME makes one)\n"
    monkeypatch.setenv("HEARTH_PASSWORD", "x")
    for name in ("b", "a"):
        main(["wallet", "new", name])
    (home / "c.json").write_text("damaged")
    capsys.readouterr()
    assert main(["wallet", "show", "b"]) == 0
    assert capsys.readouterr().out.startswith("b  0x")
    assert main(["wallet", "show"]) == 1
    said = capsys.readouterr()
    assert [line.split()[0] for line in said.out.splitlines()] == ["a", "b"]
    assert said.err.startswith("error: key file: ")
    assert said.err.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["--help"], ["new", "--help"], ["show", "-h"], ["import", "--help"]])
def test_help_at_each_level(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["wallet", *arguments]) == 0
    said = capsys.readouterr()
    assert said.out.startswith(" ".join(["usage: hearth wallet", *(word for word in arguments if word[0] != "-")]))
    assert said.err == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["import", "mine", KEY],
        ["import", KEY],
        ["import", "0x" + KEY],
        ["import", "mine", "--key", KEY],
        ["new", "mine", "--password", KEY],
        [KEY],
        ["show", "mine", KEY],
    ],
)
def test_a_key_on_the_command_line_is_refused_and_not_repeated(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    monkeypatch.setenv("HEARTH_PASSWORD", "x")
    type_in(monkeypatch, KEY)
    assert main(["wallet", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert KEY not in said.err
    assert not home.exists()


@pytest.mark.parametrize(
    ("arguments", "typed", "error"),
    [
        (["new", "mine"], "", "password: there is no terminal to ask at"),
        (["import", "mine"], "", "private key: the standard input does not hold one"),
        (["import", "mine"], "x" * 2000, "private key: the standard input does not hold one"),
        (["import", "mine"], KEY[1:], "private key: this is not one"),
        (["show", "nobody"], "", "cannot be read: No such file or directory"),
        (["new", "a/b"], "", "wallet name: it is not fit for a key file"),
        (["new"], "", "hearth wallet new: these arguments do not fit"),
        (["steal"], "", "hearth wallet: these arguments do not fit"),
    ],
)
def test_bad_input_is_one_line_and_two(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    typed: str,
    error: str,
) -> None:
    def nobody(*_: object, **__: object) -> str:
        raise EOFError

    monkeypatch.setattr("getpass.getpass", nobody)
    type_in(monkeypatch, typed)
    assert main(["wallet", *arguments]) == 2
    said = capsys.readouterr()
    assert error in said.err
    assert said.err.count("\n") == 1
    assert not home.exists()


def test_a_password_file_that_others_can_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    secret = tmp_path / "password"
    for content, mode, error in [
        (b"x\n", 0o644, "is open to others (mode 644) (allowed: chmod 600)"),
        (b"\n", 0o600, f"the first line of {secret} is empty"),
        (b"\xff\n", 0o600, "is not text in UTF-8"),
    ]:
        secret.write_bytes(content)
        secret.chmod(mode)
        assert main(["wallet", "new", "mine", "--password-file", str(secret)]) == 2
        assert error in capsys.readouterr().err
    assert main(["wallet", "new", "mine", "--password-file", str(tmp_path / "none")]) == 2
    assert "No such file" in capsys.readouterr().err


def test_a_taken_name_is_told_before_anything_is_typed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEARTH_PASSWORD", "x")
    main(["wallet", "new", "mine"])
    monkeypatch.setattr(sys, "stdin", None)
    assert main(["wallet", "import", "mine"]) == 2
    assert "never overwritten" in capsys.readouterr().err


def at_a_terminal(home: Path, arguments: list[str], typed: list[str]) -> tuple[int, str]:
    """Run the command at a terminal of its own; type a line at each prompt."""
    code = f"import sys; from app.cli import main; sys.exit(main({arguments!r}))"
    child, terminal = pty.fork()
    if not child:
        os.environ["HEARTH_KEYS"] = str(home)
        os.chdir(Path(keystore.__file__).parents[2])
        os.execv(sys.executable, [sys.executable, "-c", code])
    said = b""
    waiting = list(typed)
    while True:
        try:
            said += os.read(terminal, 1024)
        except OSError:  # the child has closed its side
            break
        if waiting and said.count(b": ") > len(typed) - len(waiting):
            os.write(terminal, waiting.pop(0).encode() + b"\n")
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said.decode()


def test_typed_at_a_terminal_and_not_shown(home: Path) -> None:
    code, said = at_a_terminal(home, ["wallet", "import", "mine"], [KEY, "secret", "secret"])
    assert (code, ADDRESS in said) == (0, True)
    assert KEY not in said
    assert "secret" not in said
    assert load(home / "mine.json", "secret").address == ADDRESS


def test_a_mistyped_password_makes_no_key(home: Path) -> None:
    code, said = at_a_terminal(home, ["wallet", "new", "mine"], ["secret", "secert"])
    assert (code, "password: the two differ" in said) == (2, True)
    assert not (home / "mine.json").exists()


def test_control_c_is_not_a_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: object, **__: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("getpass.getpass", interrupted)
    assert main(["wallet", "new", "mine"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_the_command_as_a_process(home: Path) -> None:
    environment = {**os.environ, "HEARTH_KEYS": str(home), "HEARTH_PASSWORD": "x"}
    command = [sys.executable, "-m", "app.cli", "wallet", "import", "mine"]
    done = subprocess.run(
        command, input=KEY, env=environment, capture_output=True, text=True, cwd=Path(keystore.__file__).parents[2]
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"mine  {ADDRESS}  {home / 'mine.json'}\n"
    assert json.loads((home / "mine.json").read_text())["crypto"]["kdfparams"]["n"] == 2**18
