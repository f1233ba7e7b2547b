"""Pages that are made of the code when the site is built: every key of conf/, every command, the protocol's modules."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    for name, text in (("configuration.md", configuration()), ("commands.md", commands()), ("api.md", api())):
        files.append(File.generated(config, name, content=text))
    return files


def configuration() -> str:
    """Return every file of conf/ as it is: a comment stands above each key."""
    lines = [
        "# Configuration",
        "",
        "Every key with its comment, as `conf/` has it: one file of each group is chosen.",
        "",
    ]
    for path in [ROOT / "conf" / "config.yaml", *sorted((ROOT / "conf").glob("*/*.yaml"))]:
        name = "config" if path.parent.name == "conf" else f"{path.parent.name}={path.stem}"
        lines += [f"## {name}", "", "```yaml", path.read_text("utf-8").strip(), "```", ""]
    for name in ("miner", "mec"):
        text = (ROOT / "conf" / f"{name}.yaml").read_text("utf-8").strip()
        lines += [f"## hearth {name}", "", "```yaml", text, "```", ""]
    return "\n".join(lines)


def commands() -> str:
    """Return what each command says of itself."""
    from app.cli import COMMANDS, main

    lines = ["# Commands", "", "```text", _said(main, []), "```", ""]
    for name in COMMANDS:
        if not name.startswith("-"):
            lines += [f"## hearth {name}", "", "```text", _said(main, [name, "--help"]), "```", ""]
    return "\n".join(lines)


def api() -> str:
    """Return a page that shows the protocol's modules by their docstrings."""
    modules = sorted(path.stem for path in (ROOT / "app" / "protocol").glob("*.py") if path.stem != "__init__")
    lines = ["# The protocol's code", "", "What other implementations would write anew, by its docstrings.", ""]
    for module in modules:
        lines += [f"::: app.protocol.{module}", ""]
    return "\n".join(lines)


def _said(command: object, arguments: list[str]) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        command(arguments)  # type: ignore[operator]
    return out.getvalue().strip()
