import dataclasses
import json
import pathlib

import pytest

from hydrajax import plugins, training
from hydrajax.methods import settings as settings_lib
from hydrajax.nn import families
from hydrajax.runs import config as config_lib
from hydrajax.runs import folder, kinds, presets
from hydrajax.types import DataError


def changed(value):
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value / 2 if isinstance(value, float) else value + 1
    return value


@pytest.mark.parametrize("preset", settings_lib.PRESETS)
def test_a_configuration_survives_its_file(preset, tmp_path):
    config = config_lib.Custom(
        task="t.toml", data_dir="d", train_users=3, dev_users=None, queries_per_user=2, fold=1,
        folds=3, llm="claude-x", base="b", settings=settings_lib.PRESETS[preset], losses=("pairwise",), epochs=(7,),
        scorer=training.FitConfig(
            **{
                f.name: changed(f.default)
                for f in dataclasses.fields(training.FitConfig)
                if f.name not in config_lib.SAID_BY_RUN
            }
        ),
        reranker_family="linear", adapter_family="simplex:bases=3", max_pair_tokens=64, skip_bad=True, seed=5,
        train_base=True, micro_batch=4, remat=True,
    )  # fmt: skip
    folder.prepare(tmp_path, config, "command")
    there = folder.read_config(tmp_path)
    assert there == config
    assert hash(there) == hash(config)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda v: v.pop("settings"),
        lambda v: v["settings"].pop("prompts"),
        lambda v: v["settings"].update(retrieved=0),
        lambda v: v.update(nobody_knows=1),
        lambda v: v.update(losses=None),
    ],
)
def test_what_is_no_configuration_is_called_by_its_file(spoil, tmp_path):
    values = kinds.to_json(config_lib.Demo())
    spoil(values)
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(DataError, match=f"{tmp_path}/config.json"):
        folder.read_config(tmp_path)


def test_paths_are_absolute_and_names_stay(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    config = config_lib.Custom(task="my.toml", data_dir="data", llm="models/x.gguf")
    there = config.resolved()
    here = pathlib.Path(tmp_path).resolve()
    assert (there.task, there.data_dir, there.llm) == (
        str(here / "my.toml"), str(here / "data"), str(here / "models/x.gguf"),
    )  # fmt: skip
    named = config_lib.Lamp(task="LaMP_7", llm="local")
    assert named.resolved() == named


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"folds": 3, "fold": 3}, "fold is 3, expected 0 to 2"),
        ({"fold": 0}, "none without --folds"),
        ({"folds": 1}, "folds is 1"),
        ({"losses": ()}, "losses is empty, expected some of"),
        ({"losses": ("nope",)}, "nope"),
        ({"scorer": training.FitConfig(family="forest")}, "unknown head family 'forest', expected one of"),
        ({"reranker_family": "forest"}, "unknown head family 'forest', expected one of"),
        ({"adapter_family": "low_rank_mlp:rank=0"}, "rank of LowRankMlp is 0, expected 1 or more"),
        ({"epochs": (-1,)}, "epochs is -1, expected one number or more, from 0 up"),
        (
            {"preset": "paper", "epochs": (1, 2)},
            r"validation is 0, expected users to choose with among epochs \(1, 2\)",
        ),
        (
            {"llm": "claude-haiku-4-5", "settings": settings_lib.Settings(temperature=1.2)},
            "number from 0 to 1 for claude",
        ),
        ({"max_pair_tokens": 0}, "max_pair_tokens is 0, expected at least 8"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_what_cannot_be_run_is_refused_when_it_is_configured(changes, said):
    with pytest.raises(ValueError, match=said):
        config_lib.Lamp(task="LaMP_3", **changes)


def test_the_papers_numbers_stand_in_its_configuration():
    kept = kinds.to_json(config_lib.Lamp(task="LaMP_5", base="longformer", preset="paper"))
    assert (kept["train_users"], kept["dev_users"], kept["base"]) == (100, 50, "longformer")
    assert (kept["pooling"], kept["max_pair_tokens"]) == ("cls", "base")
    assert (kept["losses"], kept["epochs"]) == (["cross_entropy"], [2])
    scorer = kept["scorer"]
    assert (scorer["family"], scorer["init"], scorer["loss"], scorer["dropout"]) == (
        "mlp",
        "fresh",
        "cross_entropy",
        0.1,
    )
    assert scorer["users_per_batch"] * scorer["batch_examples"] == 64
    assert scorer["epochs"] == scorer["pooled_epochs"] == 2
    assert {value for name, value in scorer.items() if name.endswith("learning_rate")} == {2e-5}
    assert (scorer["weight_decay"], scorer["prior_strength"], scorer["offset_strength"]) == (0.01, 0.0, 0.0)
    assert not scorer["scaled"] and not scorer["standardise"]
    assert None not in scorer.values()  # nothing is left to be chosen
    settings = {
        "retrieved": 10,
        "shown": [4],
        "samples": 8,
        "temperature": 1.0,
        "trial_queries": 10,
        "label_queries": 1,
    }
    assert settings.items() <= kept["settings"].items() and kept["settings"]["pseudo_queries"] is None
    assert config_lib.Lamp(task="LaMP_5", preset="paper").encoder == config_lib.Base(
        pooling="cls", max_pair_tokens=None
    )


def test_what_is_given_wins_over_the_preset():
    given = {"losses": ("listwise",), "epochs": (3,), "pooling": "mean", "max_pair_tokens": 64}
    config = config_lib.Lamp(task="LaMP_5", preset="paper", **given)
    assert {name: getattr(config, name) for name in given} == given
    assert config.scorer == presets.PRESETS["paper"]["scorer"]


def test_an_llm_in_a_python_file_is_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, absolute in (
        ("mine.py:Echo", f"{tmp_path / 'mine.py'}:Echo"),
        ("mine.module:Echo", "mine.module:Echo"),
        ("llama:8b", "llama:8b"),
    ):
        assert config_lib.Demo(llm=name).resolved().llm == absolute


def test_files_of_ones_own_are_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = settings_lib.Settings(strategies=("rag", "own/mine.py"), retriever="bm25")
    scorer = training.FitConfig(family="mlp")
    lamp = config_lib.Lamp(task="LaMP_3", settings=settings, scorer=scorer).resolved()
    assert lamp.settings.strategies == ("rag", str(tmp_path / "own" / "mine.py"))
    assert plugins.absolute("head.py:rank=4") == f"{tmp_path / 'head.py'}:rank=4"
    assert plugins.absolute("low_rank_mlp:rank=4") == "low_rank_mlp:rank=4"
    here = str(tmp_path / "head.py")
    assert families.absolute("head.py:rank=4") == f"{here}:rank=4"
    inner = "generic_plus_offset:alpha=0.3,inner="
    assert families.absolute(f"{inner}head.py") == inner + here
    assert families.absolute(f"{inner}head.py:rank=4") == f"{inner}{here}:rank=4"
    assert families.absolute("low_rank_mlp:rank=4") == "low_rank_mlp:rank=4" and families.absolute("mlp") == "mlp"


def test_how_scorers_are_fitted_says_whether_the_base_learns():
    config = config_lib.Demo(train_base=True, micro_batch=4, remat=True)
    assert (config.fit.train_base, config.fit.micro_batch, config.encoder.remat) == (True, 4, True)
    assert dataclasses.replace(config.fit, train_base=False, micro_batch=None) == config.scorer


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"scorer": training.FitConfig(seed=3)}, "scorer.seed is 3, in a run it is --seed"),
        ({"scorer": training.FitConfig(fit_bank=False)}, "scorer.fit_bank is False, but in a run training users get"),
        ({"scorer": training.FitConfig(train_base=True)}, "scorer.train_base is True, in a run it is --train-base"),
        ({"scorer": training.FitConfig(micro_batch=2)}, "scorer.micro_batch is 2, in a run it is --micro-batch"),
        ({"micro_batch": 2}, "micro_batch is 2, but the base is frozen"),
        ({"micro_batch": 0, "train_base": True}, "micro_batch is 0, expected 1 or more"),
        ({"remat": True}, "remat is True, but the base is frozen"),
        ({"scorer": training.FitConfig(base_epochs=5)}, "scorer.base_epochs is 5, but the base is frozen"),
        ({"scorer": training.FitConfig(base_learning_rate=1e-4)}, "scorer.base_learning_rate is 0.0001, but the base"),
        ({"scorer": training.FitConfig(base_batch_examples=8)}, "scorer.base_batch_examples is 8, but the base"),
        ({"losses": ("pairwise", "pairwise")}, "losses is pairwise, pairwise, expected each of them once"),
        ({"epochs": (2, 0, 2)}, "epochs is 2, 0, 2, expected each of them once"),
    ],
)
def test_what_trains_a_base_is_refused_where_none_is_trained(given, says):
    with pytest.raises((ValueError, DataError), match=says):
        config_lib.Demo(**given)
