"""One configuration for all entries: what composes, what is refused and in which words."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from app.config import (
    compose,
    compose_all,
    from_plain,
    from_run_config,
    run_config_defaults,
    sweep_parameters,
    to_plain,
)
from app.consistency import _MOST_WEIGHT, warnings
from app.customer.attacks import ATTACKS
from app.learning.config import default_training
from app.overrides import CONF, MOST_JOBS, expand, groups
from app.protocol.errors import ConfigError, ProtocolError
from app.settings import AGGREGATORS as OFFERED
from app.settings import KEYS, TrainOptions
from app.typed import build, convert, describe
from strategies.aggregation import AGGREGATORS
from strategies.fedavg import weighted_mean

CHOICES = [(group, choice) for group, choices in groups().items() for choice in choices]
DEFAULT = compose()
NEEDED = {"rpc": ["chain.url=http://127.0.0.1:8545"], "folder": [f"data.path={CONF}"]}
ELSEWHERE = ["members.path=cards.jsonl", "wallet=keystore", "chain=rpc", *NEEDED["rpc"], "store=ipfs"]
NEEDED["file"] = ELSEWHERE


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_file_of_conf_composes_with_the_others_defaults(group: str, choice: str) -> None:
    config = compose([f"{group}={choice}", *NEEDED.get(choice, [])])
    chosen = getattr(config, group)
    if group == "experiment":
        assert chosen == choice
    elif group != "miners":
        assert chosen.name == choice


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_key_of_conf_has_a_comment_above_it(group: str, choice: str) -> None:
    lines = (CONF / group / f"{choice}.yaml").read_text("utf-8").splitlines()
    assert lines[0].startswith("# ")
    for above, line in itertools.pairwise(lines):
        if line and not line.startswith(("#", " ", "defaults:", "hydra:", "name:")):
            assert above.startswith("# "), line


@pytest.mark.parametrize(("group", "choice"), [pair for pair in CHOICES if pair[0] != "experiment"])
def test_every_file_of_a_group_has_the_same_keys(group: str, choice: str) -> None:
    keys = set(OmegaConf.load(CONF / group / f"{choice}.yaml"))
    assert keys == {key.partition(".")[2] for key in KEYS if key.startswith(f"{group}.")}


def test_defaults_are_the_task_that_the_readme_promises() -> None:
    config = DEFAULT
    assert (config.seed, config.customers, config.data.name, config.miners.count) == (0, 10, "plaid", 4)
    assert config.rounds >= 10
    assert (config.privacy.name, config.privacy.budget) == ("record", config.privacy.epsilon)
    assert (config.attack.name, config.attack.count) == ("sign_flip", 1)
    assert (config.chain.name, config.store.name, config.engine.name) == ("embedded", "embedded", "local")


def test_overrides_reach_their_keys_and_the_budget_follows_epsilon() -> None:
    config = compose(["data=digits", "rounds=3", "++seed=7", "privacy.epsilon=4", "model.hidden=[16]", "name=first"])
    assert (config.data.name, config.rounds, config.seed, config.name) == ("digits", 3, 7, "first")
    assert (config.privacy.epsilon, config.privacy.budget) == (4.0, 4.0)
    assert type(config.privacy.epsilon) is float
    assert config.model.hidden == (16,)


NOISE_KEYS = ("epsilon", "delta", "budget", "clip")
MISTAKES = [
    (["roudns=3"], "roudns", "did you mean rounds?"),
    (["epsilon=4"], "epsilon", "did you mean privacy.epsilon?"),
    (["privcay.epsilon=4"], "privcay.epsilon", "did you mean privacy.epsilon?"),
    (["privacy.epsilom=4"], "privacy.epsilom", "did you mean privacy.epsilon?"),
    (["data.zzz=1"], "data.zzz", "data.alpha"),
    (["+note=1"], "note", "rounds"),
    (["hydra.run.dir=x"], "hydra.run.dir", "unknown key"),
    (["~data"], "data", "cannot be removed"),
    (["data@other=plaid"], "data@other", "unknown key"),
    (["data=plad"], "data", "did you mean plaid?"),
    (["data={path: x}"], "data", "digits, folder, mnist, plaid"),
    (["data=null"], "data", "digits, folder, mnist, plaid"),
    (["miners=7"], "miners", "committee"),
    (["engine=flower"], "engine", "local, ray"),
    (["experiment=nosuch"], "experiment", "private-budget"),
    (["data.name=mnist"], "data.name", "data=mnist"),
    (["rounds"], "'rounds'", "key=value"),
    (["=3"], "'=3'", "key=value"),
    ([""], "''", "key=value"),
    (["model.hidden=[1"], "model.hidden", "cannot read"),
    (["rounds=1", "rounds=2"], "rounds", "given twice"),
    (["rounds=1,2"], "rounds", "-m"),
    (["rounds=0"], "rounds", "1..10000"),
    (["rounds=2.0"], "rounds", "a whole number"),
    (["rounds=true"], "rounds", "a whole number"),
    (["rounds=ten"], "rounds", "a whole number"),
    (["rounds="], "rounds", "a whole number"),
    (["rounds=null"], "rounds", "a whole number"),
    (["seed=-1"], "seed", "0..9223372036854775807"),
    (["customers=100000"], "customers", "3..10000"),
    (["customers=4"], "strategy.f", "0..0"),
    (["strategy.f=4"], "strategy.f", "0..3"),
    (["strategy.f=-1"], "strategy.f", "0..4998"),
    (["strategy.evaluation=both"], "strategy.evaluation", "outlier, paper"),
    (["strategy.aggregator=krum"], "strategy.aggregator", "fedavg, median, multi_krum, nnm_krum, trimmed_mean"),
    (["strategy.gamma_initial=11"], "strategy.gamma_initial", "0..10"),
    (["strategy.gamma_max=256"], "strategy.gamma_max", "1..255"),
    (["strategy.fractional_bits=25"], "strategy.fractional_bits", "1..24"),
    (["strategy.precision=float32"], "strategy.precision", "int16, int32"),
    (["strategy.cohort=4"], "strategy.cohort", "5..10000"),
    (["strategy.f=127", "customers=300"], "strategy.cohort", "257..10000"),
    (
        ["strategy.precision=int32", "strategy.gamma_max=255", "strategy.examples_cap=1000000"],
        "strategy.examples_cap",
        "1..842150",
    ),
    (["miners.count=0"], "miners.count", "1..255"),
    (["miners.tau=0"], "miners.tau", "1..65535"),
    (["miners.weighting=wealth"], "miners.weighting", "equal, stake, reputation"),
    (["miners.weighting=stake"], "miners.stakes", "a list of miners.count=4 whole numbers"),
    (["miners.weighting=stake", "miners.stakes=[1,2]"], "miners.stakes", "a list of miners.count=4 whole numbers"),
    (["miners.weighting=stake", "miners.stakes=[1,2,3,0]"], "miners.stakes[3]", "1..65535"),
    (["miners.weighting=stake", "miners.stakes=[1,2,3,65535]"], "miners.stakes", "at most 65535 together"),
    (["miners.stakes=[1,1,1,1]"], "miners.stakes", "null, or miners.weighting=stake"),
    (["miners.weighting=reputation", "miners.count=11"], "miners.count", "1..10"),
    (["attack.count=11"], "attack.count", "0..10"),
    (["attack=none", "attack.count=1"], "attack.count", "leave it out, attack=sign_flip"),
    (["attack.scale=-1"], "attack.scale", "positive"),
    (["attack.scale=1e308"], "attack.scale", "1e-06 to 1e+09"),
    (["privacy.epsilon=0"], "privacy.epsilon", "positive"),
    (["privacy.epsilon=2e13"], "privacy.epsilon", "1e-06 to 1e+06"),
    (["privacy.epsilon=1e300"], "privacy.epsilon", "1e-06 to 1e+06"),
    (["privacy.budget=1e300"], "privacy.budget", "1e-06 to 1e+06"),
    (["privacy.delta=1e-300"], "privacy.delta", "1e-12 to 1"),
    (["privacy.clip=1e30"], "privacy.clip", "1e-06 to 1e+06"),
    (["privacy.clip=1e-300"], "privacy.clip", "1e-06 to 1e+06"),
    (
        ["strategy.gamma_max=255", "customers=10000", "strategy.examples_cap=4000000000"],
        "strategy.examples_cap",
        "1..5",
    ),
    (["data.alpha=0.3"], "data.alpha", "data.partition=dirichlet"),
    (["data=mnist", "data.column=home"], "data.column", "data.partition=column"),
    (["data.test_share=0.3"], "data.test_share", "leave it out"),
    *((["privacy=none", f"privacy.{key}=0.5"], f"privacy.{key}", "privacy=record") for key in NOISE_KEYS),
    (["attack=none", "attack.scale=2"], "attack.scale", "attack=sign_flip"),
    (["attack=zero", "attack.scale=2"], "attack.scale", "attack=sign_flip"),
    (["strategy.copy_cosine=0.4"], "strategy.copy_cosine", "0.5 to 1"),
    (["strategy.strikes=-1"], "strategy.strikes", "0..10000"),
    (["attack.knowledge=colluders"], "attack.knowledge", "attack=alie"),
    (["attack=copycat", "attack.jitter=0.2"], "attack.jitter", "attack=min_max"),
    (["attack=alie", "attack.knowledge=all"], "attack.knowledge", "omniscient, colluders"),
    (["attack=ipm", "attack.jitter=2"], "attack.jitter", "0 to 1"),
    (["attack=copycat", "privacy.randomness=system"], "privacy.randomness", "seeded-insecure"),
    (["engine=ray", "engine.workers=2"], "engine.workers", "engine=local"),
    (["privacy.epsilon=nan"], "privacy.epsilon", "a finite number"),
    (["privacy.epsilon=1e999"], "privacy.epsilon", "a finite number"),
    (["privacy.epsilon=high"], "privacy.epsilon", "a number"),
    (["privacy.delta=1"], "privacy.delta", "between 0 and 1"),
    (["privacy.budget=1"], "privacy.budget", "8.0 or more"),
    (["privacy.mechanism=paper"], "privacy.mechanism", "gaussian, laplace"),
    (["privacy.normalisation=layer"], "privacy.normalisation", "none, record, public, batch, map"),
    (["privacy.normalisation=map"], "privacy.normalisation", "privacy=paper"),
    (["privacy.calibration=batch"], "privacy.calibration", "privacy=paper"),
    (["privacy.batch_size=32"], "privacy.batch_size", "privacy.normalisation=map"),
    (["privacy=paper", "privacy.batch_size=0"], "privacy.batch_size", "1.."),
    (["privacy=paper", "privacy.calibration=layer"], "privacy.calibration", "batch, map"),
    (["privacy=paper", "privacy.clip=2"], "privacy.clip", "privacy=record"),
    (["privacy.epsilon_label=2"], "privacy.epsilon_label", "privacy.labels=randomized_response"),
    (["privacy.labels=secret"], "privacy.labels", "clear, randomized_response"),
    (["privacy.labels=randomized_response", "privacy.epsilon_label=8"], "privacy.epsilon_label", "below 8.0"),
    (["privacy=none", "privacy.labels=randomized_response"], "privacy.labels", "another privacy"),
    (
        ["privacy=paper", "privacy.labels=randomized_response", "privacy.epsilon_label=3"],
        "privacy.budget",
        "3.0 or more",
    ),
    (["privacy.randomness=dice"], "privacy.randomness", "seeded-insecure, system"),
    (["data.alpha=0"], "data.alpha", "above 0"),
    (["data.public=0"], "data.public", "1.."),
    (["data.records=1"], "data.records", "2.."),
    (["data.test_share=1"], "data.test_share", "between 0 and 1"),
    (["data.partition=random"], "data.partition", "iid, dirichlet, column"),
    (["data.partition=column"], "data.partition", "iid, dirichlet"),
    (["data=mnist", "data.partition=column"], "data.column", "the name of a column"),
    (["data.path=/x"], "data.path", "data=folder"),
    (["data=folder"], "data.path", "train.*"),
    (["data=folder", "data.path=/nowhere/at/all"], "data.path", "that exists"),
    (["model.head=tail"], "model.head", "prototype"),
    (["model.bottleneck=0"], "model.bottleneck", "1.."),
    (["model.bottleneck=4097"], "model.bottleneck", "1..4096"),
    (["model.hidden=[8,x]"], "model.hidden[1]", "a whole number"),
    (["model.hidden=8"], "model.hidden", "a list of whole numbers"),
    (["train.epochs=0"], "train.epochs", "1.."),
    (["train.learning_rate=0"], "train.learning_rate", "above 0"),
    (["train.momentum=1"], "train.momentum", "below 1"),
    (["chain=rpc"], "chain.url", "http://"),
    (["chain=rpc", "chain.url=localhost"], "chain.url", "http://"),
    (["chain.url=http://x"], "chain.url", "another chain"),
    (["rounds=7000"], "rounds", "1..6553"),
    (["terms.reward=-1"], "terms.reward", "0 to 1000000"),
    (["terms.reward=1e-18"], "terms.reward", "ether and more"),
    (["terms.deposit=1e7"], "terms.deposit", "0 to 1000000"),
    (["terms.seal_window=60", "terms.submission_window=60"], "terms.submission_window", "0..59"),
    (["terms.leader_window=86400"], "terms.leader_window", "a longer terms.finalise_window"),
    (["miners.count=7", "terms.leader_window=50000"], "terms.leader_window", "0..43199"),
    (["terms.finalise_window=0"], "terms.finalise_window", "1.."),
    (["rounds=3", "terms.skips=3"], "terms.skips", "0..2"),
    (["terms=consortium"], "terms", "deployment"),
    (["chain=rpc", "chain.url=https://node.example"], "chain.url", "any other with wallet=keystore"),
    (["chain.confirmations=2"], "chain.confirmations", "another chain"),
    (["chain=rpc", "chain.url=http://localhost:1", "chain.confirmations=-1"], "chain.confirmations", "0..1000"),
    (["chain=rpc", "chain.url=env:HEARTH_NO_SUCH_VARIABLE"], "chain.url", "one that starts with http://"),
    (["chain.url=env:HOME"], "chain.url", "another chain"),
    (["wallet.folder=/tmp"], "wallet.folder", "wallet=keystore"),
    (["wallet=keystore", "engine=ray"], "wallet", "engine=local"),
    (["chain.chain_id=0"], "chain.chain_id", "1.."),
    (["store=ipfs", "store.url=ftp://x"], "store.url", "http://"),
    (["store=ipfs", "store.url=/ip4/x"], "store.url", "multiaddr"),
    (["engine.workers=-1"], "engine.workers", "0.."),
    (["name=../x"], "name", "A-Z"),
    (["name=.."], "name", "A-Z"),
    (["name=7"], "name", "text"),
    (["name=${oc.env:HEARTH_NO_SUCH_VARIABLE}"], "name", "HEARTH_NO_SUCH_VARIABLE"),
    (["rounds=${nosuch}"], "rounds", "nosuch"),
]


@pytest.mark.parametrize(("overrides", "key", "hint"), MISTAKES, ids=[" ".join(row[0]) for row in MISTAKES])
def test_a_mistake_is_refused_in_one_line_that_names_the_key(overrides: list[str], key: str, hint: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        compose(overrides)
    assert refusal.value.key == key
    assert hint in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_an_ipfs_node_may_be_named_by_a_multiaddr() -> None:
    assert compose(["store=ipfs", "store.url=/ip4/127.0.0.1/tcp/5001/http"]).store.url == "/ip4/127.0.0.1/tcp/5001/http"


@pytest.mark.parametrize(
    "overrides",
    [
        ["chain=rpc", "chain.url=http://me:secret@127.0.0.1:8545"],
        ["chain=rpc", "chain.url=ftp://secret@127.0.0.1"],
        ["store=ipfs", "store.url=http://me:secret@127.0.0.1:5001"],
        ["store=ipfs", "store.url=[http://me:secret@127.0.0.1"],
        ["store=ipfs", "store.url=http://me:secret@a,http://me:secret@b"],
        ["http://me:secret@127.0.0.1"],
    ],
)
def test_a_password_is_refused_and_never_shown(overrides: list[str]) -> None:
    with pytest.raises(ConfigError) as refusal:
        compose(overrides)
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(("bits", "entry"), [(16, np.int16(0)), (32, np.int32(-(2**31)))])
def test_the_largest_weights_are_what_the_exact_sums_take(bits: int, entry: np.signedinteger) -> None:
    """The bound of the configuration and that of the aggregation are one."""
    update = [np.array([entry])]
    weighted_mean(update, [_MOST_WEIGHT[bits]])
    with pytest.raises(ProtocolError, match="too large"):
        weighted_mean(update, [_MOST_WEIGHT[bits] + 1])


def test_mixtures_count_in_the_weights() -> None:
    given = ["strategy.gamma_max=255", "customers=1000", "strategy.examples_cap=10000000"]
    compose(given)
    with pytest.raises(ConfigError, match=r"strategy\.examples_cap"):
        compose([*given, "strategy.aggregator=nnm_krum"])


def test_the_configuration_offers_exactly_the_rules_that_there_are() -> None:
    assert sorted(AGGREGATORS) == list(OFFERED)


def test_in_a_sweep_a_key_must_be_used_by_one_job_at_least() -> None:
    jobs = [["privacy=record", "privacy.epsilon=4"], ["privacy=none", "privacy.epsilon=4"]]
    assert [config.privacy.name for config in compose_all(jobs)] == ["record", "none"]
    with pytest.raises(ConfigError, match=r"privacy\.epsilon"):
        compose_all([[*job, "seed=1"] for job in jobs[1:]])


def test_a_share_for_the_test_is_refused_where_the_folder_has_one(tmp_path: Path) -> None:
    chosen = ["data=folder", f"data.path={tmp_path}", "data.test_share=0.3"]
    (tmp_path / "train.csv").touch()
    assert compose(chosen).data.test_share == 0.3
    (tmp_path / "test.csv").touch()
    with pytest.raises(ConfigError, match=r"data\.test_share: is not used"):
        compose(chosen)


def test_the_robustness_experiment_is_every_attack_against_every_rule() -> None:
    swept = {key: text.split(",") for key, text in sweep_parameters(["experiment=robustness"]).items()}
    assert swept["attack"] == ["none", *ATTACKS]
    assert sorted(swept["strategy.aggregator"]) == list(OFFERED)
    for attack in ("none", "alie"):
        config = compose(["experiment=robustness", f"attack={attack}"])
        assert (len(config.attack.crew(config.customers)), config.strategy.f) == (0 if attack == "none" else 2, 2)
        assert not any("attack.count" in line for line in warnings(config))


def test_more_attackers_than_are_withstood_are_allowed_and_said() -> None:
    assert warnings(DEFAULT) == []
    (line,) = warnings(compose(["strategy.aggregator=fedavg"]))
    assert line == "warning: strategy.aggregator=fedavg withstands nobody, and attack.count=1 attack"
    (line,) = warnings(compose(["attack.count=3"]))
    assert "attack.count=3" in line
    assert "strategy.f=1" in line


def test_a_path_may_start_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert compose(["data=folder", "data.path=~/mine"]).data.path == str(tmp_path / "mine")
    assert compose(["data=folder", "data.path='~/mine'"]).data.path == str(tmp_path / "mine")


def test_a_path_that_is_there_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    assert compose(["data=folder", "data.path=mine"]).data.path == str((tmp_path / "mine").resolve())
    assert compose(["data=mnist", "data.path=ylecun/mnist"]).data.path == "ylecun/mnist"


plain_configs = st.builds(
    lambda seed, rounds, customers, share, data, attack: [
        f"seed={seed}",
        f"rounds={rounds}",
        f"customers={customers}",
        f"strategy.f={int(share * ((customers - 3) // 2))}",
        f"strategy.cohort={max(256, customers)}",
        f"data={data}",
        f"attack={attack}",
        *([] if attack == "none" else [f"attack.count={int(share * customers)}"]),
        "data.partition=dirichlet",
        f"data.alpha={share + 0.01}",
    ],
    st.integers(0, 2**63 - 1),
    st.integers(1, 6_000),
    st.integers(3, 10_000),
    st.floats(0, 1),
    st.sampled_from(["plaid", "digits", "mnist"]),
    st.sampled_from(["none", "sign_flip"]),
)


@settings(max_examples=20, deadline=None)
@given(plain_configs)
def test_to_plain_and_back_is_the_identity(overrides: list[str]) -> None:
    config = compose(overrides)
    assert from_plain(to_plain(config)) == config


@pytest.mark.parametrize("key", list(KEYS))
def test_a_plain_configuration_needs_every_key_and_no_other(key: str) -> None:
    section, _, leaf = key.rpartition(".")
    missing, strange = to_plain(DEFAULT), to_plain(DEFAULT)
    del (missing[section] if section else missing)[leaf]
    (strange[section] if section else strange)[leaf + "x"] = 1
    with pytest.raises(ConfigError, match="is missing") as refusal:
        from_plain(missing)
    assert refusal.value.key == key
    with pytest.raises(ConfigError, match="unknown key") as refusal:
        from_plain(strange)
    assert refusal.value.key == key + "x"


def test_a_plain_configuration_is_checked_as_a_typed_one_is() -> None:
    plain = to_plain(DEFAULT)
    plain["strategy"]["f"] = 4
    with pytest.raises(ConfigError, match=r"strategy\.f"):
        from_plain(plain)
    with pytest.raises(ConfigError, match="not a section"):
        from_plain(to_plain(DEFAULT) | {"data": "plaid"})


def test_train_options_fill_in_what_suits_the_head() -> None:
    options = TrainOptions(epochs=3, batch_size=None, learning_rate=None, momentum=None)
    filled = options.resolved("mlp", 50)
    assert filled.epochs == 3
    assert None not in dataclasses.astuple(filled)
    assert filled.resolved("prototype", 5000, joint=True) == filled


@pytest.mark.parametrize(("joint", "private"), [(True, False), (False, True)])
def test_what_costs_privacy_in_every_pass_has_one_pass_a_round(joint: bool, private: bool) -> None:
    assert TrainOptions(None, None, None, None).resolved("mlp", 50, joint=joint, private=private).epochs == 1


def test_noise_makes_the_steps_of_a_head_shorter() -> None:
    rates = [default_training("mlp", 6000, noise=noise).learning_rate for noise in (0.0, 1.0, 11.2, 100.0)]
    assert rates == [0.02, 0.014, 0.0018, 0.0002]
    assert default_training("prototype", 6000, noise=11.2).learning_rate == 1.0


class TestRunConfig:
    """``flwr run`` hands over flat keys; they say the same as the overrides of ``python -m app``."""

    @pytest.fixture
    def mirror(self) -> dict[str, Any]:
        mirror = run_config_defaults()
        if not mirror:
            pytest.skip("pyproject.toml has no [tool.flwr.app.config]")
        return mirror

    def test_the_mirror_says_what_conf_says(self, mirror: dict[str, Any]) -> None:
        plain = to_plain(DEFAULT)
        defaults = {
            name: choice
            for entry in OmegaConf.load(CONF / "config.yaml").defaults
            if entry != "_self_"
            for name, choice in entry.items()
        }
        for key, value in mirror.items():
            if key not in ("overrides", "resume"):
                expected = defaults[key] if key in defaults else plain[key]
                assert value == ("" if expected is None else expected), key
        assert mirror["overrides"] == ""

    def test_unchanged_keys_are_no_overrides(self, mirror: dict[str, Any]) -> None:
        assert from_run_config(mirror) == DEFAULT
        assert from_run_config({}) == DEFAULT
        preset = from_run_config(mirror | {"experiment": "private-budget"})
        assert preset == compose(["experiment=private-budget"])
        assert preset.attack.name == "none"

    def test_changed_keys_and_free_overrides_count(self, mirror: dict[str, Any]) -> None:
        free = "privacy.epsilon=4 data.partition=dirichlet data.alpha=0.3"
        changed = mirror | {"rounds": 5, "customers": 6, "data": "digits", "overrides": free}
        assert from_run_config(changed) == compose(["rounds=5", "customers=6", "data=digits", *free.split()])
        assert from_run_config({"overrides": free.replace(" ", "\n") + "\n"}) == compose(free.split())

    @pytest.mark.parametrize(
        ("changed", "key"),
        [
            ({"rounds": 5.0}, "rounds"),
            ({"rounds": True}, "rounds"),
            ({"rounds": "5"}, "rounds"),
            ({"data": "nosuch"}, "data"),
            ({"data": "it's"}, "data"),
            ({"rounds": 5, "overrides": "rounds=6"}, "rounds"),
            ({"overrides": "name='a"}, "overrides"),
            ({"nosuch": 1}, "nosuch"),
        ],
    )
    def test_mistakes_name_the_key(self, changed: dict[str, Any], key: str) -> None:
        with pytest.raises(ConfigError) as refusal:
            from_run_config(run_config_defaults() | changed)
        assert refusal.value.key == key

    def test_text_stays_text(self) -> None:
        assert from_run_config({"name": "123"}).name == "123"
        assert from_run_config({"name": "true"}).name == "true"


class TestExpand:
    """Hydra's sweep grammar."""

    @pytest.mark.parametrize(
        ("text", "values"),
        [
            ("seed=0,1,2", ["0", "1", "2"]),
            ("seed=range(1,4)", ["1", "2", "3"]),
            ("seed=choice(5,7)", ["5", "7"]),
            ("data=plaid,digits", ["plaid", "digits"]),
            ("data=glob(*i*)", ["digits", "mnist", "plaid"]),
            ("model.hidden=[8],[16,8]", ["[8]", "[16,8]"]),
            ("seed=3", ["3"]),
        ],
    )
    def test_values(self, text: str, values: list[str]) -> None:
        key = text.partition("=")[0]
        assert expand([text], KEYS) == [[f"{key}={value}"] for value in values]

    def test_the_product_is_taken_with_the_last_key_fastest(self) -> None:
        jobs = expand(["seed=0,1", "rounds=2", "data=plaid,digits"], KEYS)
        assert [job[0] + " " + job[2] for job in jobs] == [
            "seed=0 data=plaid", "seed=0 data=digits", "seed=1 data=plaid", "seed=1 data=digits",
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("texts", "key"),
        [
            (["seeds=0,1"], "seeds"),
            (["seed=0,1", "seed=2"], "seed"),
            (["privacy.epsilon=interval(1,2)"], "privacy.epsilon"),
            (["seed=range(1,1)"], "seed"),
            (["seed=range(1,5,0)"], "seed"),
            (["privacy.epsilon=range(1.0,5.0,0.0)"], "privacy.epsilon"),
            ([f"seed=range(0,{MOST_JOBS + 1})"], "seed"),
            (["seed=range(0,100)", "rounds=range(1,100)"], "rounds"),
            (["seed=glob(*)"], "seed"),
            (["data=glob(x*)"], "data"),
        ],
    )
    def test_mistakes_name_the_key(self, texts: list[str], key: str) -> None:
        with pytest.raises(ConfigError) as refusal:
            expand(texts, KEYS)
        assert refusal.value.key == key

    def test_an_experiment_may_bring_its_own_sweep(self) -> None:
        assert set(sweep_parameters(["experiment=private-budget", "rounds=3"])) == {"privacy.epsilon", "seed"}
        assert sweep_parameters(["rounds=3"]) == {}


@dataclasses.dataclass(frozen=True)
class _Inner:
    size: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class _Outer:
    rate: float | None
    inner: _Inner


def test_build_converts_no_more_than_it_must() -> None:
    built = build(_Outer, {"rate": 1, "inner": {"size": [1, 2]}})
    assert built == _Outer(1.0, _Inner((1, 2)))
    assert type(built.rate) is float
    assert build(_Outer, {"rate": None, "inner": {"size": []}}) == _Outer(None, _Inner(()))
    assert describe(tuple[int, ...]) == "a list of whole numbers"


@given(st.one_of(st.booleans(), st.none(), st.text(), st.floats(), st.lists(st.integers())))
def test_only_a_whole_number_is_one(value: object) -> None:
    with pytest.raises(ConfigError, match=r"^key: "):
        convert(int, value, "key")


def test_the_configuration_can_be_a_key_of_a_dictionary() -> None:
    assert len({DEFAULT, compose(), compose(["seed=1"])}) == 2
