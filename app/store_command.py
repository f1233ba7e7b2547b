"""``hearth store``: an embedded blob store looked at, packed into an archive, filled from one, cleaned."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from app.command_line import Parser, dispatch
from app.protocol.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from app.store.embedded import EmbeddedStore

_ABOUT = """\
DIR is a run directory or the folder of an embedded store. Archives are CARv1 files, which every IPFS tool reads:

  hearth store export runs/mine mine.car          # then: ipfs dag import mine.car
  ipfs dag export CID > theirs.car                # then: hearth store import DIR theirs.car"""


def main(arguments: Sequence[str]) -> int:
    """Run ``hearth store``; return its exit code.

    Raises
    ------
    HearthError
        If what was asked for cannot be done.
    """
    return dispatch(arguments, _parse, {"show": _show, "export": _export, "import": _import, "gc": _gc})


def _show(options: argparse.Namespace) -> int:
    store = _opened(options.place)
    pins = store.pins()
    for pin in pins:
        print(f"{pin.cid}  {pin.size:>12}  {pin.name}")
    print(f"{len(pins)} blobs, {sum(pin.size for pin in pins)} bytes; {store.size()} bytes on the disk")
    return 0


def _export(options: argparse.Namespace) -> int:
    from app.store.car import write_car
    from app.store.cid import CID

    store = _opened(options.place)
    pins = store.pins()
    if options.cids:
        wanted = {CID.parse(text) for text in options.cids}
        missing = wanted - {pin.cid for pin in pins}
        if missing:
            raise ConfigError(
                "CID", f"{store.path} has no blob {min(map(str, missing))}", "hearth store show lists them"
            )
        pins = [pin for pin in pins if pin.cid in wanted]
    try:
        with open(options.file, "xb") as out:
            try:
                blocks = write_car([(pin.cid, pin.size) for pin in pins], store.block, out)
            except BaseException:
                options.file.unlink()  # half an archive is none
                raise
    except FileExistsError:
        raise ConfigError("FILE", f"{options.file} exists, and is not overwritten", "another name") from None
    except OSError as error:
        raise StoreError(f"{options.file} cannot be written: {error.strerror or error}") from error
    print(f"{len(pins)} blobs in {blocks} blocks written to {options.file}")
    return 0


def _import(options: argparse.Namespace) -> int:
    from app.store.embedded import EmbeddedStore

    store = EmbeddedStore(_folder(options.place))
    try:
        with open(options.file, "rb") as archive:
            roots = store.take(archive)
    except OSError as error:
        raise ConfigError("FILE", f"{options.file} cannot be read: {error.strerror or error}", "an archive") from error
    print(f"{len(roots)} blobs taken from {options.file}")
    return 0


def _gc(options: argparse.Namespace) -> int:
    print(f"{_opened(options.place).gc()} files deleted that no blob needs")
    return 0


def _folder(place: Path) -> Path:
    from app.run_directory import RunDirectory

    run = RunDirectory(place.expanduser().absolute())
    return run.blobs_path if run.config_path.exists() else run.path


def _opened(place: Path) -> EmbeddedStore:
    from app.store.embedded import EmbeddedStore

    folder = _folder(place)
    if not (folder / "blocks").is_dir():
        raise ConfigError("DIR", f"{folder} holds no blobs", "a run directory, or the folder of an embedded store")
    return EmbeddedStore(folder)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser(prog="hearth store", description=_ABOUT)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in (
        ("show", "list the blobs"),
        ("export", "write blobs to an archive"),
        ("import", "take the blobs of an archive"),
        ("gc", "delete what no blob needs"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("place", metavar="DIR", type=Path)
        if name in ("export", "import"):
            command.add_argument("file", metavar="FILE", type=Path)
        if name == "export":
            command.add_argument("cids", metavar="CID", nargs="*", help="which blobs; all, where none is named")
    return parser.parse_args(arguments)
