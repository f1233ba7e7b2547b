"""The end of a run in a few lines that a stranger understands: accuracy, reputation, privacy, gas, time, evidence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console, Group
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

WIDTH = 100
_BARS = "▁▂▃▄▅▆▇█"
_MOST_ROWS = 5
_ENDS = 3
"""Customers that are named at each end of an order."""


def print_summary(result: Mapping[str, Any], console: Console) -> None:
    """Print the tables of ``result`` (the contents of ``result.json``), at most `WIDTH` columns wide."""
    console.print(summary(result), width=min(console.width, WIDTH))


def summary(result: Mapping[str, Any]) -> Group:
    """Return what `print_summary` prints.

    Parameters
    ----------
    result : mapping
        The contents of ``result.json``. Parts that it does not have are left out.
    """
    data, model = result.get("data", {}), result.get("model", {})
    title = (
        f"{data.get('name', 'task')}: {result['customers']} customers, {result['rounds']} rounds, seed {result['seed']}"
    )
    sections = {
        "data": _data(data),
        "model": _model(model),
        "accuracy": _accuracy(result["accuracy_by_round"], result.get("void", ())),
        "reputation": _reputation(result),
        "worth": _contribution(result.get("contribution", {})),
        "privacy": _privacy(result.get("privacy", {})),
        "probe": _probe(result.get("probe", {})),
        "gas": _gas(result.get("gas", {})),
        "time": _time(result.get("seconds", {})),
        "evidence": _evidence(result),
    }
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True, style="bold")
    grid.add_column(overflow="fold")
    for name, content in sections.items():
        if content is not None:
            grid.add_row(name, content)
    return Group(Rule(Text(title, style="bold"), align="left"), grid)


def short(address: str) -> str:
    """Return the first eight digits of an address or a digest: enough to tell a task's parties apart."""
    return address[:10]


def percent(share: float) -> str:
    """Return a share as a percentage with one decimal."""
    return f"{share:.1%}"


def thousands(number: float) -> str:
    """Return a number with separators between thousands, without decimals."""
    return f"{number:,.0f}"


def sparkline(values: Sequence[float]) -> str:
    """Return one block character for each value, from the lowest to the highest of them."""
    low, high = min(values), max(values)
    steps = len(_BARS) - 1
    heights = [round((value - low) / (high - low) * steps) if high > low else steps // 2 for value in values]
    return "".join(_BARS[height] for height in heights)


def _data(data: Mapping[str, Any]) -> Text | None:
    if not data:
        return None
    return Text(
        f"{thousands(data['train'])} records ({data['kind']}, {data['classes']} classes), {thousands(data['public'])} "
        f"of them the manufacturer's public set; {thousands(data['test'])} for the test"
    )


def _model(model: Mapping[str, Any]) -> Text | None:
    if not model:
        return None
    return Text(
        f"{model['name']}, cut after '{model['split']}'; the MEC trains the head '{model['head']}', "
        f"{thousands(model['parameters'])} parameters"
    )


def _accuracy(by_round: Sequence[float], void: Sequence[int]) -> Group:
    change = (by_round[-1] - by_round[0]) * 100
    headline = Text.assemble(
        f"public set alone {percent(by_round[0])} -> with the customers' data ",
        (percent(by_round[-1]), "bold"),
        f" ({change:+.1f} points)",
    )
    step = -(-(len(by_round) - 1) // 20) or 1
    shown = [by_round[number] for number in sorted({*range(0, len(by_round), step), len(by_round) - 1})]
    label = "each round" if step == 1 else f"each {step} rounds"
    numbers = " ".join(f"{value * 100:.1f}" for value in shown)
    lines = [headline, Text(f"{label} {sparkline(shown)} {numbers}")]
    if void:
        told = ", ".join(map(str, void))
        lines.append(Text(f"VOID rounds, too few valid updates to learn from: {told}", style="yellow"))
    return Group(*lines)


def _reputation(result: Mapping[str, Any]) -> Table | None:
    reputation: Mapping[str, int] = result.get("reputation", {})
    if not reputation:
        return None
    adversaries = set(result.get("adversaries", ()))
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("customers", "at the end", "lowest", "in the model", "judged bad", "earned (ether)"):
        table.add_column(name, justify="left" if name == "customers" else "right", no_wrap=True)
    honest = [address for address in reputation if address not in adversaries]
    hostile = [address for address in reputation if address in adversaries]
    if honest:
        table.add_row(f"{len(honest)} honest", *_standing(result, honest))
    for address in hostile if len(hostile) <= _MOST_ROWS else ():
        table.add_row(f"attacker {short(address)}", *_standing(result, [address]), style="red")
    if len(hostile) > _MOST_ROWS:
        table.add_row(f"{len(hostile)} attackers", *_standing(result, hostile), style="red")
    return table


def _standing(result: Mapping[str, Any], addresses: Sequence[str]) -> Iterable[str]:
    """Yield the cells of one group of customers, each the span of its members' values."""
    history: Mapping[str, Sequence[int]] = result.get("reputation_by_round", {})
    rejected: Mapping[str, Sequence[str]] = result.get("rejected", {})
    yield _span(result["reputation"][address] for address in addresses)
    yield _span(min(history.get(address) or [result["reputation"][address]]) for address in addresses)
    if "aggregated" in result:
        yield _span(result["aggregated"].get(address, 0) for address in addresses) + f" of {result['rounds']}"
    else:
        yield "-"
    yield _span(sum(address in losers for losers in rejected.values()) for address in addresses)
    yield _ether(result.get("rewards", {}), addresses)


def _contribution(gained: Mapping[str, float]) -> Text | None:
    """Return who lowered the loss most, and least; nothing where that was not measured."""
    if not gained:
        return None
    ordered = sorted(gained.items(), key=lambda item: -item[1])
    shown = ordered if len(ordered) <= 2 * _ENDS else [*ordered[:_ENDS], *ordered[-_ENDS:]]
    texts = [f"{short(address)} {value:+.3f}" for address, value in shown]
    if len(shown) < len(ordered):
        texts.insert(_ENDS, "...")
    return Text("lowered the loss on the test records by: " + ", ".join(texts))


def _ether(rewards: Mapping[str, int], addresses: Sequence[str]) -> str:
    """Return what each of some customers has earned, in ether; ``result.json`` has the wei."""
    earned = [rewards.get(address, 0) / 10**18 for address in addresses]
    low, high = f"{min(earned):.4f}", f"{max(earned):.4f}"
    return low if low == high else f"{low}..{high}"


def _span(values: Iterable[int]) -> str:
    values = list(values)
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low}..{high}"


def _privacy(privacy: Mapping[str, Any]) -> Group | None:
    if not privacy:
        return None
    if privacy.get("epsilon") is None:
        return Group(Text("NONE: features left the phones in the clear", style="red"))
    contradicting = privacy.get("contradicting", ())
    releases = privacy["releases"]
    lines = [
        Text(
            f"epsilon {privacy['epsilon']:g}, delta {privacy['delta']:g} spent; mechanism {privacy['mechanism']}, "
            f"unit {privacy['unit']}, {releases} release{'' if releases == 1 else 's'}"
        )
    ]
    if privacy["unit"] == "coordinate":
        lines.append(_of_a_record(privacy))
    randomness = str(privacy.get("randomness", ""))
    if "insecure" in randomness:
        lines.append(Text(f"noise: {randomness}. INSECURE: it can be repeated, so it protects nobody", style="yellow"))
    elif randomness:
        lines.append(Text(f"noise: {randomness}"))
    if privacy.get("labels"):
        of_label = f", epsilon {privacy['label_epsilon']:g} of a label" if privacy.get("label_epsilon") else ""
        lines.append(Text(f"labels: {privacy['labels']}{of_label}"))
    if privacy.get("phone_epsilon"):
        of_phone = f"DP-SGD, epsilon {privacy['phone_epsilon']:g} of a record in their updates"
        lines.append(Text(f"the phone's own layers: {of_phone}"))
    if privacy.get("neighbouring"):
        lines.append(Text(f"neighbours: {privacy['neighbouring']}"))
    if contradicting:
        lines.append(Text("receipts claim another cost: " + ", ".join(map(short, contradicting)), style="yellow"))
    if privacy.get("not_covered"):
        lines.append(Text("not covered: " + "; ".join(privacy["not_covered"])))
    return Group(*lines)


def _of_a_record(privacy: Mapping[str, Any]) -> Text:
    """Say what the paper's per-coordinate noise comes to for a record."""
    joint, public = privacy["record_epsilon"], privacy["record_epsilon_public_statistics"]
    told = f"for a whole record epsilon {joint:,.0f} ({public:,.0f} if the batch's statistics were public constants)"
    return Text(f"{told}: NO protection of a record to speak of", style="yellow")


def _probe(probe: Mapping[str, Any]) -> Group | None:
    """Return what an adversary got out of the releases, beside what it has without them."""
    if not probe:
        return None
    grid = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("epsilon", "error (MSE)", "likeness (SSIM)", "members found", "at most"):
        grid.add_column(name, justify="right", no_wrap=True)
    for row in probe["strengths"]:
        epsilon = "no noise" if row["epsilon"] is None else f"{row['epsilon']:g}"
        found = (percent(row["true_positive_rate"]), percent(row["most_possible"]))
        grid.add_row(epsilon, f"{row['mse']:.4f}", f"{row['ssim']:.3f}", *found)
    for name, label in (("mean_of_class", "class mean"), ("mean_image", "mean image")):
        free = probe["for_nothing"][name]
        grid.add_row(label, f"{free['mse']:.4f}", f"{free['ssim']:.3f}", "-", "-")
    told = (
        f"{probe['attacked']} records drawn again from their releases, and told from as many others with "
        f"{percent(probe['false_positive_rate'])} false alarms; the adversary owns {thousands(probe['own'])} records"
    )
    return Group(Text(told), grid, Text(f"pictures: {probe['picture']}", overflow="fold"))


def _gas(gas: Mapping[str, Any]) -> Text | None:
    if not gas:
        return None
    per_round = gas["seal"] + gas["finalise"]
    more = [f"{name} {thousands(gas[name])}" for name in ("deploy", "total") if name in gas]
    return Text(
        f"a round {thousands(per_round)} (seal {thousands(gas['seal'])}, finalise {thousands(gas['finalise'])}), "
        f"a customer and round {thousands(gas['per_customer'])}" + "".join(f"; {text}" for text in more)
    )


def _time(seconds: Mapping[str, float]) -> Text | None:
    if not seconds:
        return None
    parts = ", ".join(f"{name} {value:.1f}" for name, value in seconds.items() if name != "total")
    return Text(f"{seconds['total']:.1f} s" + (f" ({parts})" if parts else ""))


def _evidence(result: Mapping[str, Any]) -> Group:
    """Return what identifies the run; nothing in it is broken over lines: it is there to be copied."""
    head = result.get("head", {})
    pairs = {
        "model": result.get("model_digest"),
        "head": f"{head['hash']} (block {head['number']})" if head else None,
        "contract": f"{result['contract']} on chain {result['chain_id']}" if result.get("contract") else None,
        "directory": result.get("place"),
    }
    return Group(*(Text(f"{name:<10}{value}", overflow="fold") for name, value in pairs.items() if value))
