"""Settings that nothing looks at are named before a run and in its plan, once; what a preset says is not."""

import ast
import pathlib
import re

import pytest

from hydrajax import training
from hydrajax.methods import settings as settings_lib
from hydrajax.prompting import contract, registry
from hydrajax.prompting import strategies as strategies_folder
from hydrajax.runs import authorship_config, machine, run, without_effect
from hydrajax.runs.config import Lamp

MACHINE = machine.Machine()


def of(*, machine=MACHINE, llm="scripted", prompts=None, scorer=None, kind=Lamp, **changes):
    preset = settings_lib.PRESETS["default"]
    in_settings = {name: changes.pop(name) for name in ("strategies", "candidates", "cross_user") if name in changes}
    settings = {**vars(preset), **in_settings, "prompts": contract.PromptSettings(**(prompts or {}))}
    fit = training.FitConfig(**(scorer or {}))
    config = kind(
        task="LaMP_3", llm=llm, preset="default", settings=settings_lib.Settings(**settings), scorer=fit, **changes
    )
    return without_effect.sentence(config, machine)


def test_defaults_say_nothing():
    assert of() == of(strategies=("rag",), candidates=4) == of(llm="local") == of(llm="claude-haiku-4-5") == ""


@pytest.mark.parametrize("preset", settings_lib.PRESETS)
@pytest.mark.parametrize("family", ["mlp", "facets"])
def test_presets_say_nothing(preset, family):
    plain = Lamp(task="LaMP_3", llm="scripted", preset=preset)
    assert without_effect.sentence(plain, MACHINE) == ""
    changed = Lamp(task="LaMP_3", llm="scripted", preset=preset, adapter_family=family)
    assert without_effect.sentence(changed, MACHINE) == ""


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"candidates": 4}, "--candidates (no --strategies)"),
        ({"cross_user": False}, "--no-cross-user (no strategy that looks at other users' records)"),
        ({"prompts": {"peers": 3}}, "--settings.prompts.peers (no strategy cfrag or peer_difference)"),
        ({"machine": machine.Machine(key_file="k")}, "--key-file (no LLM behind an API)"),
        ({"machine": machine.Machine(threads=2, salt_file="s")}, "--salt-file (no LLM behind an API); --threads"),
        (
            {"scorer": {"family": "linear", "learning_rate": 0.1}},
            "--scorer.learning-rate (fitted exactly, without steps: family linear)",
        ),
        ({"scorer": {"family": "simplex", "dropout": 0.5}}, "--scorer.dropout (no dropout in family simplex)"),
        (
            {"scorer": {"family": "facets"}, "reranker_family": "linear", "adapter_family": "mlp"},
            "--scorer.family (reranker and adapter have families of their own)",
        ),
    ],
)
def test_what_has_no_effect_is_named(changes, sentence):
    assert of(**changes).startswith(sentence)


@pytest.mark.parametrize(
    "changes",
    [
        {"strategies": ("rag", "pag"), "candidates": 4},
        {"strategies": ("cfrag",), "cross_user": False},
        {"strategies": ("peer_difference",), "prompts": {"peers": 3}},
        {"prompts": {"summary_records": 3}},  # of `pag`, which every run asks
        {"llm": "claude-haiku-4-5", "machine": machine.Machine(key_file="k")},
        {"llm": "local", "machine": machine.Machine(threads=2)},
        {"scorer": {"family": "linear", "learning_rate": 0.1}, "adapter_family": "mlp"},
        {"scorer": {"family": "linear", "learning_rate": 0.1}, "train_base": True},
        {"scorer": {"family": "simplex", "pooled_learning_rate": 0.1}},  # of what users share
        {"scorer": {"family": "low_rank_mlp", "dropout": 0.5}},
    ],
)
def test_what_has_an_effect_somewhere_is_not(changes):
    assert of(**changes) == ""


def test_one_s_own_strategy_may_look_at_anything(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from hydrajax.prompting import contract\n\n\nclass Mine(contract.Strategy):\n    pass\n\n\nSTRATEGY = Mine()\n"
    )
    assert of(strategies=(str(tmp_path / "mine.py"),), prompts={"peers": 3}) == ""


def test_another_kind_of_run_has_prompts_of_its_own():
    config = authorship_config.Authorship(data=("a",), llm="scripted", prompts=contract.PromptSettings(peers=3))
    assert "--prompts.peers (no strategy cfrag or peer_difference)" in without_effect.sentence(config, MACHINE)
    assert without_effect.sentence(authorship_config.Authorship(data=("a",), llm="scripted"), MACHINE) == ""


def test_the_table_knows_every_strategy_that_names_a_setting():
    folder = pathlib.Path(strategies_folder.__file__).parent
    for path in folder.glob("[a-z]*.py"):
        named = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
        read = set(re.findall(r"settings\.(\w+)", path.read_text())) & named
        for setting in read & {*without_effect.OF_STRATEGIES}:
            assert path.stem in without_effect.OF_STRATEGIES[setting], (path.stem, setting)
    assert {name for names in without_effect.OF_STRATEGIES.values() for name in names} <= {*registry.names()}
    assert {*without_effect.OF_STRATEGIES} <= {*contract.PromptSettings.__dataclass_fields__}


def test_run_and_plan_say_it_once(lamp, config, machine, tmp_path, untrained, settings):
    of_data = config(lamp(tmp_path), settings=settings(candidates=3), folds=2)
    for call in (
        lambda say: run.plan(of_data, machine=machine(tmp_path), say=say),
        lambda say: run.run(of_data, tmp_path / "run", command="c", machine=machine(tmp_path), say=say),
    ):
        said = []
        call(said.append)
        assert [line for line in said if "without effect" in line] == [
            "note: without effect here: --candidates (no --strategies)"
        ]
