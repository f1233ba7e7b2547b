"""The page, the comparison and the dashboard, on folders that may be unfinished, damaged or hostile."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.append(str(Path(__file__).parent))

from run_folder import LEADER, append_round, metrics, write_run

from app.cli import main
from app.protocol.errors import ConfigError
from app.reporting.charts import curves, shares
from app.reporting.comparison import differing_keys
from app.reporting.dashboard import serve
from app.reporting.page import Prices, render
from app.reporting.run_view import read_run


class Page(HTMLParser):
    """What a browser would make of a page: its texts, its tags, and whatever it would ask the network for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.tags, self.asked = "", [], []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "data", "action") and not (value or "").startswith(("#", "data:")):
                self.asked.append(value)
            if name.startswith("on"):
                self.asked.append(name)

    def handle_data(self, data: str) -> None:
        self.text += data


def page(path: Path, prices: Prices | None = None) -> Page:
    return Page(render([read_run(path)], prices))


def test_a_page_says_what_the_run_came_to_and_asks_for_nothing(tmp_path: Path) -> None:
    shown = page(write_run(tmp_path / "run"))
    assert shown.asked == []
    assert "script" not in shown.tags
    assert "svg" in shown.tags
    for text in ("75.0%", "+25.0 points", "2 of 2", "33.3%", "dissimilar (2)", LEADER[:10], "4 stood", "100,001"):
        assert text in shown.text
    assert "unbounded" in shown.text
    assert "4.5" in shown.text
    assert f"0x{2:064x}" in shown.text
    assert "bafk2" in shown.text
    assert "0xbeef (block 7)" in shown.text


def test_costs_are_in_the_users_currency(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    assert f"{100_001 * 20e-9:.6f}" in page(run).text
    shown = page(run, Prices(gwei=10, ether=3000.0, currency="EUR")).text
    assert f"{100_001 * 10e-9 * 3000:,.2f}" in shown
    assert "EUR" in shown


def test_a_run_that_has_not_ended_is_shown_as_far_as_it_is(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "rounds: 5\n", ended=False)
    with (run / "metrics.jsonl").open("ab") as file:
        file.write(json.dumps(metrics(3)).encode()[:100])  # killed while it wrote
    shown = page(run)
    assert "has not ended: 2 of 5 rounds" in shown.text
    (run / "metrics.jsonl").unlink()
    assert "0 of 5 rounds" in page(run).text


EVIL = "<script>alert(1)</script><img src=http://evil.example>"


def test_what_hostile_evidence_says_is_text(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", json.dumps({"rounds": 3, "data": {"name": EVIL}}))
    append_round(run, 3, rejected={EVIL: EVIL}, absent={EVIL: EVIL}, leader=EVIL, reputation={EVIL: 7})
    result = json.loads((run / "result.json").read_text())
    result["privacy"] |= {"mechanism": EVIL, "not_covered": [EVIL]}
    result |= {"seconds": {EVIL: 1.0}, "contract": EVIL, "adversaries": [EVIL], "head": {"hash": EVIL, "number": EVIL}}
    (run / "result.json").write_text(json.dumps(result))
    shown = Page(render([read_run(run)] * 2))
    assert shown.asked == []
    assert {"script", "img"}.isdisjoint(shown.tags)
    assert shown.text.count(EVIL) >= 8


@pytest.mark.parametrize(
    ("file", "content", "problem"),
    [
        ("config.yaml", "a: [", "is no YAML of ours"),
        ("config.yaml", "a: &a [1]\nb: [*a, *a]", "is no YAML of ours"),
        ("config.yaml", "- 1", "is no configuration"),
        ("metrics.jsonl", "{}\n", "line 1 is not a round's"),
        ("metrics.jsonl", "[1]\n", "is damaged"),
        ("metrics.jsonl", json.dumps(metrics(2)) + "\n", "line 1 is that of round 2"),
        ("metrics.jsonl", json.dumps(metrics(1, gas_seal="1")) + "\n", "line 1 is not a round's"),
        ("metrics.jsonl", json.dumps(metrics(1, rejected=["x"])) + "\n", "line 1 is not a round's"),
        ("result.json", "{", "is damaged"),
        ("result.json", "[" * 100_000, "is damaged"),
        ("rounds/0001/manifest.json", "{}", "is damaged"),
        ("rounds/0001/record.json", "{}", "is no round record"),
        ("reconstructions.png", "<svg>", "is no PNG picture"),
    ],
)
def test_a_damaged_file_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, content: str, problem: str
) -> None:
    run = write_run(tmp_path / "run")
    (run / file).write_text(content)
    for command in (["report", str(run)], ["compare", str(run), str(run)]):
        assert main(command) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert f"{run / file} {problem}" in error
    assert not (run / "report.html").exists()


def test_only_a_report_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run")
    for _ in range(2):
        assert main(["report", str(run)]) == 0
    notes = tmp_path / "notes.txt"
    notes.write_text("mine")
    assert main(["report", str(run), "--output", str(notes)]) == 2
    assert main(["report", str(run), "--output", str(tmp_path / "no" / "x.html")]) == 2
    assert main(["report", str(tmp_path)]) == 2
    assert main(["report", str(run), "--gas-price", "-1"]) == 2
    assert main(["report", str(run), "--ether-price", "many"]) == 2
    assert capsys.readouterr().err.count("error: ") == 5
    assert notes.read_text() == "mine"


def test_compare_names_keys_and_changes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = write_run(tmp_path / "one", "rounds: 2\nname: one\nprivacy:\n  epsilon: 8.0\n")
    two = write_run(tmp_path / "two", "rounds: 2\nname: two\nprivacy:\n  epsilon: 4.0\n  labels: clear\n", ended=False)
    append_round(two, 3)
    assert main(["compare", str(one), str(two)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["privacy.epsilon", "8.0", "4.0"] in lines
    assert ["privacy.labels", "None", "clear"] in lines
    assert ["accuracy", "75.0%", "87.5%", "+12.5", "points"] in lines
    assert ["seconds", "2.0", "-"] in lines
    assert main(["compare", "--json", str(one), str(two)]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["configuration"] == {"privacy.epsilon": [8.0, 4.0], "privacy.labels": [None, "clear"]}
    assert value["measures"]["rounds"] == [2, 3]
    assert main(["compare", str(one), str(one)]) == 0
    assert "configuration: the same" in capsys.readouterr().out


def test_keys_that_only_one_run_has_differ(tmp_path: Path) -> None:
    runs = [read_run(write_run(tmp_path / text[:1], text)) for text in ("a: 1\nx: {y: 2}", "b: 1\nx: {y: 2}")]
    assert differing_keys(runs) == {"a": [1, None], "b": [None, 1]}


def test_a_chart_is_its_own(tmp_path: Path) -> None:
    line = curves({EVIL: [(0, 0.5), (1, 0.75)], "b": [(0, 0.25)]}, "round", "accuracy", percent=True)
    for chart in (line, shares({"one": {"a": 1.0, EVIL: 2.0}, "two": {"a": 1.0}}, "seconds")):
        assert Page(chart).asked == []
        assert set(Page(chart).tags).isdisjoint({"script", "img", "style", "metadata"})
        assert "<text" in chart
        assert EVIL in Page(chart).text
    assert curves({"b": [(0, 0.25)]}, "x", "y") == curves({"b": [(0, 0.25)]}, "x", "y")


@pytest.fixture
def dashboard(tmp_path: Path) -> Iterator[Callable[..., tuple[int, str]]]:
    """Serve ``tmp_path / runs``; return a way to ask."""
    (tmp_path / "runs").mkdir()
    ready, address = threading.Event(), []

    def told(url: str) -> None:
        address.append(re.sub(r"http://|/$", "", url))
        ready.set()

    arguments = (tmp_path / "runs", 0, Prices(), told)
    threading.Thread(target=serve, args=arguments, daemon=True).start()
    assert ready.wait(30)

    def ask(path: str, host: str | None = None) -> tuple[int, str]:
        connection = http.client.HTTPConnection(address[0], timeout=30)
        connection.putrequest("GET", path, skip_host=True)
        connection.putheader("Host", host or address[0])
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    return ask


def test_the_dashboard_follows_a_run(tmp_path: Path, dashboard: Callable[..., tuple[int, str]]) -> None:
    assert "No run yet" in dashboard("/")[1]
    run = write_run(tmp_path / "runs" / "a,b=1", "rounds: 3\n", ended=False)
    assert "going on" in dashboard("/")[1]
    assert "2 of 3" in dashboard("/")[1]
    status, before = dashboard("/run/a,b=1")
    assert (status, "has not ended" in before, 'http-equiv="refresh"' in before) == (200, True, True)
    append_round(run, 3)
    (run / "result.json").write_text("{}")
    after = dashboard("/run/a%2Cb=1")[1]
    assert ("has not ended" in after, 'http-equiv="refresh"' in after) == (False, False)
    assert "3 of 3" in dashboard("/")[1]
    (run / "result.json").write_text("{")
    os.utime(run / "result.json", (1, 1))
    write_run(tmp_path / "runs" / "sweep" / "1-seed=0")
    index = dashboard("/")[1]
    assert "damaged" in index
    assert '"/run/sweep/1-seed=0"' in index
    assert dashboard("/run/sweep/1-seed=0")[0] == 200
    assert dashboard("/run/a,b=1")[0] == 500


def test_the_dashboard_answers_this_machine_about_runs_alone(
    tmp_path: Path, dashboard: Callable[..., tuple[int, str]]
) -> None:
    write_run(tmp_path / "secret")
    (tmp_path / "runs" / "link").symlink_to(tmp_path / "secret")
    write_run(tmp_path / "runs" / "run")
    for path in ("/run/../secret", "/run/%2e%2e/secret", "/run/link", "/run/", "/run/.", "/etc/passwd", "/run/run/x"):
        assert dashboard(path)[0] == 404
    assert dashboard("/", "evil.example")[0] == 403
    assert dashboard("/", "evil.example:80")[0] == 403
    assert dashboard("/", "localhost:1")[0] == 200
    with pytest.raises(ConfigError, match="is not a folder"):
        serve(tmp_path / "nowhere", 0, Prices())


@pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no chromium to look at the page with")
@pytest.mark.parametrize("width", [390, 1100])
def test_a_browser_shows_it(tmp_path: Path, width: int) -> None:
    run = write_run(tmp_path / "run")
    assert main(["report", str(run)]) == 0
    shot = tmp_path / "shot.png"
    line = [
        "chromium",
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        f"--user-data-dir={tmp_path}",
    ]
    line += [
        "--enable-logging=stderr",
        f"--window-size={width},1200",
        f"--screenshot={shot}",
        f"file://{run}/report.html",
    ]
    said = subprocess.run(line, capture_output=True, text=True, timeout=120, check=True).stderr
    assert "Content Security Policy" not in said
    picture = np.asarray(Image.open(shot).convert("RGB"))
    assert picture.shape[1] == width
    colours = {tuple(colour) for colour in picture.reshape(-1, 3)[::7]}
    assert any(abs(r - 0x2F) + abs(g - 0x7E) + abs(b - 0xBC) < 12 for r, g, b in colours)  # the curve is drawn
