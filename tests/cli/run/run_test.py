"""What a person at the terminal sees of a run that goes well."""

import json
import pathlib
import sys

import pytest

from hydrajax.cli import main
from hydrajax.cli import run as run_command
from hydrajax.llm import planner, scripted
from hydrajax.methods import settings as settings_lib
from hydrajax.runs import accounts, authorship_config, run
from hydrajax.runs import config as config_lib
from tests.cli.run.conftest import lamp, refused


def test_a_run_prints_its_table_and_where_it_lies(data, capfd, untrained):
    main.main(lamp(data))
    out = capfd.readouterr().out
    for method in ("zero_shot", "hydra", "oracle", "shuffled_heads"):
        assert f"  {method} " in out
    path = pathlib.Path(out.splitlines()[-1])
    assert path.name == "report.html" and path.is_file() and path.parts[0] == "runs"
    command = json.loads((path.parent / "config.json").read_text())["command"]
    assert command.startswith("hydrajax run lamp --task LaMP_3")


@pytest.mark.slow
def test_the_same_command_finds_its_folder_again_and_another_one_its_own(data, capfd, untrained):
    places = []
    for more in ([], [], ["--seed", "1"], ["--settings.samples", "2"]):
        main.main(lamp(data, *more))
        places.append(capfd.readouterr().out.splitlines()[-1])
    assert places[0] == places[1]
    assert len(set(places)) == 3


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (config_lib.Lamp(task="LaMP_3", data_dir="/tmp/d"), "LaMP_3-15f8502e"),
        (config_lib.Lamp(task="LaMP_2M", preset="paper", seed=3, train_users=None), "LaMP_2M-e771c04b"),
        (
            authorship_config.Authorship(data=("/tmp/a", "/tmp/b"), strategies=("hypotheses", "pag")),
            "hyperalign-60e054dd",
        ),
    ],
)
def test_folders_are_called_by_what_the_run_is(config, name):
    assert run_command.default_folder(config) == pathlib.Path("runs") / name


def test_head_families_are_named_for_both_scorers_or_apart(data, capfd, untrained):
    main.main(lamp(data, "--scorer.family", "simplex:bases=4", "--adapter-family", "facets", "--out", "run"))
    config = json.loads(pathlib.Path("run/config.json").read_text())
    assert config["scorer"]["family"] == "simplex:bases=4"
    assert (config["reranker_family"], config["adapter_family"]) == (None, "facets")


def test_a_plan_writes_nothing_and_calls_nobody(data, capfd, monkeypatch):
    async def never(self, wanted):
        raise AssertionError("the LLM was called")

    monkeypatch.setattr(scripted.Scripted, "complete", never)
    main.main(lamp(data, "--plan", "--out", "run", "--store", "answers.sqlite"))
    out, err = capfd.readouterr()
    assert list(pathlib.Path.cwd().iterdir()) == []
    assert "nothing was called" in out and "record trials" in out and "h of calls" in out
    assert err == ""


@pytest.mark.parametrize(
    ("calls", "tokens", "sentence"),
    [
        ((1161, 1161), (900, 1200), "about 1,161 calls and 900 to 1,200 tokens in all"),
        ((5, 9), (900, 1200), "about 5 to 9 calls and 900 to 1,200 tokens in all"),
        ((5, 5), (900, 900), ""),
    ],
)
def test_a_plan_says_a_range_only_where_there_is_one(calls, tokens, sentence):
    stages = {"rag": planner.StagePlan(calls=5, input_tokens=800, output_tokens=100)}
    plan = accounts.Plan(
        model="scripted", stages=stages, tokens=tokens, cost_usd=0.0, seconds={"rag": 1.0}, calls=calls
    )
    caption = run_command.plan_table(plan).caption
    assert sentence in caption and ("in all" in caption) == bool(sentence)
    assert "tokens out: by the length that answers of scripted have had so far, or usually have" in caption


def test_presets_follow_the_llm_and_single_settings_override_them(data, capfd, monkeypatch):
    seen = []

    def planned(config, **rest):
        seen.append(config.settings)
        raise ValueError("seen enough")

    monkeypatch.setattr(run, "plan", planned)
    for llm, *more in (
        ("local",),
        ("claude-haiku-4-5",),
        ("local", "--preset", "paper"),
        ("claude-haiku-4-5", "--settings.samples", "3"),
    ):
        refused(lamp(data, "--plan", *more, llm=llm), capfd)
    presets = settings_lib.PRESETS
    assert seen[:3] == [presets["small"], presets["default"], presets["paper"]]
    assert (seen[3].samples, seen[3].retrieved) == (3, presets["default"].retrieved)
    refused(["run", "demo", "--plan"], capfd)
    assert seen[4] == presets["demo"]


@pytest.mark.parametrize("written", [["--strategies", "rag,persona"], ["--strategies", "rag", "persona"]])
def test_strategies_of_the_union_are_options_of_the_run(written, monkeypatch):
    seen = []
    monkeypatch.setattr(run, "plan", lambda config, **rest: seen.append(config) or sys.exit(0))
    with pytest.raises(SystemExit):
        main.main(["run", "lamp", "--task", "LaMP_3", *written, "--candidates", "5", "--no-cross-user", "--plan"])
    chosen = seen[0].settings
    assert (chosen.strategies, chosen.candidates, chosen.cross_user) == (("rag", "persona"), 5, False)
