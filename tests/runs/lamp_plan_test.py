"""A plan of a LaMP run beside what the run asks."""

import pytest

from hydrajax.llm import request, scripted
from hydrajax.runs import run as run_lib
from tests.runs.conftest import Dies, never, quiet


def plan(config, machine):
    """The plan of a run with one LLM, without a word."""
    (planned,) = run_lib.plan(config, machine=machine, say=quiet)
    return planned


@pytest.mark.parametrize("pools", ["shared", "reranked", "zero_shot"])
@pytest.mark.parametrize("task", ["LaMP_3", "LaMP_4", "LaMP_7"])
def test_a_plan_counts_the_calls_of_the_run(tmp_path, lamp, config, settings, machine, run, untrained, task, pools):
    # One number of records: which of several is chosen, no plan can know.
    wanted = config(lamp(tmp_path / "data", task), task, settings=settings(adapter_pools=pools, shown=(2,)))
    here = machine(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scripted.Scripted, "complete", never)
        planned = plan(wanted, machine=here)
    assert sorted(path.name for path in tmp_path.iterdir() if "answers" not in path.name) == ["data"]
    found = run(wanted, tmp_path / "run", here)
    calls = sum(stage.calls for stage in planned.stages.values())
    assert abs(calls - found["llm"]["calls"]) <= 0.05 * found["llm"]["calls"]
    assert planned.model == "scripted" and planned.cost_usd == 0.0


def test_a_plan_of_a_broken_off_run_counts_what_is_left(tmp_path, lamp, config, settings, machine, run, untrained):
    wanted, here = config(lamp(tmp_path / "data"), settings=settings(shown=(2,))), machine(tmp_path)
    whole = plan(wanted, machine=here)
    with pytest.MonkeyPatch.context() as patch:
        Dies(patch, 12)
        with pytest.raises(request.LLMError):
            run(wanted, tmp_path / "run", here)
    rest = plan(wanted, machine=here)
    assert sum(s.calls for s in rest.stages.values()) == sum(s.calls for s in whole.stages.values()) - 12
    assert sum(s.cached for s in rest.stages.values()) == 12


@pytest.mark.parametrize("task", ["LaMP_3", "LaMP_4"])
def test_a_plan_does_not_promise_less_than_is_sent(tmp_path, lamp, config, machine, run, untrained, task):
    # Whichever number of records validation users will choose.
    wanted, here = config(lamp(tmp_path / "data", task), task), machine(tmp_path)
    planned = sum(stage.calls for stage in plan(wanted, machine=here).stages.values())
    assert planned >= 0.95 * run(wanted, tmp_path / "run", here)["llm"]["calls"]


def test_a_plan_says_how_far_its_tokens_depend_on_the_records_shown(
    tmp_path, lamp, config, settings, machine, run, untrained
):
    folder = lamp(tmp_path / "data", "LaMP_3")
    least, middle, most = (
        plan(config(folder, "LaMP_3", settings=settings(shown=shown)), machine=machine(tmp_path)).tokens
        for shown in [(1,), (1, 2), (2,)]
    )
    # Which of the records are shown says a little, how many of them says more.
    assert least[0] <= least[1] < most[0] <= most[1]
    assert middle[1] - middle[0] > max(least[1] - least[0], most[1] - most[0])
    wanted, here = config(folder, "LaMP_3", settings=settings(shown=(1, 2))), machine(tmp_path)
    run(wanted, tmp_path / "run", here)
    assert plan(wanted, machine=here).tokens == (0, 0)


def test_a_plan_of_all_folds_counts_what_they_share_once(tmp_path, lamp, config, settings, machine, run, untrained):
    folder = lamp(tmp_path / "data", "LaMP_3", train=5, dev=4)
    wanted = config(folder, "LaMP_3", folds=3, settings=settings(shown=(2,)))
    planned = sum(stage.calls for stage in plan(wanted, machine=machine(tmp_path)).stages.values())
    sent = run(wanted, tmp_path / "run", machine(tmp_path))["llm"]["calls"]
    assert abs(planned - sent) <= 0.05 * sent
