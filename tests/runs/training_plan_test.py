"""What a plan says of the training of bases."""

import dataclasses
import logging

import pytest

from hydrajax.cli import run as run_command
from hydrajax.methods.rows import Row
from hydrajax.runs import config as config_lib
from hydrajax.runs import run as run_lib
from hydrajax.runs import training_plan
from hydrajax.training import config as fit_config
from tests.golden import runs as golden
from tests.runs.conftest import quiet


def a_row(text, levels=()):
    return Row(
        user_id="u", query_id=text, pool=text, first="harbour lantern", second=text, extras=(), label=1.0, quality=1.0,
        levels=levels,
    )  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bases") / "base"
    golden.make_base(folder)
    return str(folder)


def trains(base, **changes):
    return config_lib.Demo(base=base, train_base=True, **changes)


def test_tokens_and_trainings_are_counted(base, monkeypatch):
    monkeypatch.setattr(training_plan, "_rate", lambda: 1e9)
    rows = [a_row("copper"), a_row("copper violin meadow")]
    config = trains(base, losses=("pairwise", "cross_entropy"), scorer=fit_config.FitConfig(base_epochs=3))
    fits = training_plan.fits(config, {"reranker": rows, "adapter": rows[:1]}, {"reranker"})
    found = training_plan.training(config, fits)
    # Two losses, and for the reranker two halves of one more; a BERT reads [CLS] two words [SEP] the record [SEP].
    assert (found.fits, found.epochs) == ((2 + 2) + 2, 3)
    assert found.examples == 3 * 2 + 2 * 1
    assert found.tokens == 3 * (3 * (6 + 8) + 2 * 6)
    # Four passes of 2 layers, padded to 16 tokens.
    forward = 2 * (2 * (4 * 16**2 + 2 * 16 * 24) + 4 * 16 * 16)
    least = 4 * 3 * found.examples * 16 * forward / 1e9
    assert found.seconds == pytest.approx((least, 4 * least))


def test_ordinal_is_a_loss_of_ratings_alone(base):
    config = trains(base, losses=("cross_entropy", "ordinal"))
    plain, rated = (training_plan.fits(config, {"adapter": [row]}, ()) for row in (a_row("a"), a_row("a", (1.0, 2.0))))
    assert [fit.losses for fit in (*plain, *rated)] == [("cross_entropy",), ("cross_entropy", "ordinal")]


def test_without_a_base_nothing_is_timed(tmp_path):
    config = config_lib.Demo(base=str(tmp_path), train_base=True)
    found = training_plan.training(config, training_plan.fits(config, {"adapter": [a_row("a")]}, ()))
    assert (found.examples, found.tokens, found.seconds) == (1, None, None)
    plan = run_command._training(found)
    assert plan.endswith("; not timed") and "1 training of a base: at most 1 example, 2 epochs" in plan


def test_a_plan_says_what_training_takes_and_trains_nothing(tmp_path, base, lamp, config, machine, monkeypatch, caplog):
    monkeypatch.setattr(training_plan, "_rate", lambda: 1e9)
    caplog.set_level(logging.INFO, "hydrajax")
    given = config(lamp(tmp_path / "data"), base=base, train_base=True)
    (planned,) = run_lib.plan(given, machine=machine(tmp_path), say=quiet)
    assert planned.training.examples > 0 and planned.training.tokens > 0 and planned.training.seconds[0] > 0
    assert planned.calls[0] <= sum(stage.calls for stage in planned.stages.values()) <= planned.calls[1]
    assert set(planned.seconds) == set(planned.stages)
    caption = run_command.plan_table(planned).caption
    assert "trainings of a base" in caption and " calls and " in caption
    (frozen,) = run_lib.plan(dataclasses.replace(given, train_base=False), machine=machine(tmp_path), say=quiet)
    assert frozen.training is None and frozen.calls == planned.calls
    assert not caplog.messages
