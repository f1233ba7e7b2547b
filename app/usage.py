"""What ``--help`` says, read from the comments of conf/: no second text about the configuration."""

from __future__ import annotations

import re

from app.overrides import CONF, groups

FLAGS = {
    "-m, --multirun": "a sweep: every key may have several values, each job runs on its own (seed=0,1,2)",
    "-v, --verbose": "tracebacks, and the words of the libraries",
    "--optuna N": "with -m: not all combinations, but N jobs whose values Optuna chooses by what earlier ones came to",
    "--resume": "with -m and name=NAME: go on with that sweep; jobs that have ended well are not run again",
    "--cfg": "print the resolved configuration, with -m that of every job, and stop",
    "-h, --help": "print this and stop",
}
_KEY = re.compile(r"([a-z_]+): *(\S.*)")


def usage(program: str) -> str:
    """Return the help text of ``python -m app``, called ``program``.

    Every group is shown with its choices, the first comment of each choice's file, and the keys of config.yaml with
    theirs; nothing needs to be imported for it.
    """
    lines = [
        f"usage: {program} [-m [--optuna N] [--resume]] [-v] [--cfg] [--help] [key=value ...]",
        "",
        "Run a crowdsourcing task: customers train on private features, miners verify, every round goes on a chain.",
        "",
        "flags",
        *(f"  {flag:<16}{text}" for flag, text in FLAGS.items()),
        "",
        "groups (choose one file of conf/: data=digits), * = default",
    ]
    chosen = _defaults()
    width = max(len(choice) for choices in groups().values() for choice in choices) + 1
    for group, choices in sorted(groups().items(), key=lambda item: [*chosen].index(item[0])):
        for number, choice in enumerate(choices):
            star = "*" if chosen.get(group) == choice else " "
            lines.append(f"  {group if number == 0 else '':<11}{star} {choice:<{width}}{_first_comment(group, choice)}")
    lines += ["", "keys"]
    lines += [f"  {key:<11}{value:<6}{comment}" for key, value, comment in _top_keys()]
    lines += [
        "",
        "keys of groups are set with a dot (privacy.epsilon=4); --cfg shows them all, conf/ explains each.",
        "",
        "examples",
        f"  {program}",
        f"  {program} data=digits privacy=none rounds=5",
        f"  {program} data=folder data.path=DIR privacy.epsilon=4",
        f"  {program} -m privacy.epsilon=1,2,4,8 seed=0,1",
    ]
    return "\n".join(lines)


def _defaults() -> dict[str, str]:
    text = (CONF / "config.yaml").read_text("utf-8")
    return dict(re.findall(r"^  - ([a-z]+): ([a-z_-]+)", text, flags=re.MULTILINE))  # in the order of the file


def _first_comment(group: str, choice: str) -> str:
    comments = (
        line[2:] for line in (CONF / group / f"{choice}.yaml").read_text("utf-8").splitlines() if line[:2] == "# "
    )
    return next((comment for comment in comments if not comment.startswith("@package")), "")


def _top_keys() -> list[tuple[str, str, str]]:
    """Return (key, default, comment) of the values at the top of config.yaml."""
    found, comment = [], ""
    for line in (CONF / "config.yaml").read_text("utf-8").splitlines():
        match = _KEY.fullmatch(line)
        if match:
            found.append((match[1], match[2], comment))
        comment = line[2:] if line.startswith("# ") else ""
    return found
