"""Everything is opened in one place and closed again, whatever happens."""

import numpy as np
import pytest

from hydrajax.data import tasks
from hydrajax.llm import planner, request, scripted
from hydrajax.methods import answers, sampling
from hydrajax.methods import settings as settings_lib
from hydrajax.nn import feature_cache
from hydrajax.runs import config, workbench
from hydrajax.runs import machine as machine_lib
from hydrajax.types import DataError, Message, Query, Record, User
from tests.runs.conftest import features

TASK = tasks.LAMP["LaMP_4"]


def wanted(text="copper"):
    return request.Request(messages=(Message(role="user", text=text),), max_tokens=9)


def user(name):
    return User(id=name, profile=(Record(id=f"{name}0", fields={"text": f"{name} text", "title": "title"}),))


def test_a_lab_is_bound_to_what_is_open(machine, tmp_path):
    users = {name: user(name) for name in ("u", "v")}
    query = Query(id="q", user_id="u", inputs={"text": "violin"}, gold="g")
    with workbench.opened(machine(tmp_path), ["scripted"], config.Base()) as bench:
        lab = bench.lab(TASK, users, settings_lib.Settings(), seed=3, population=users, folder=tmp_path)
        assert lab.ctx.llm is bench.llm and lab.ctx.embed is bench.embed and lab.seed == lab.ctx.seed == 3
        assert lab.ctx.population is users
        assert bench.lab(TASK, users, settings_lib.Settings(cross_user=False), population=users).ctx.population is None
        sampling.answer(lab, "zero_shot", [answers.Prompt(query=query)], stage="s")
        assert bench.llm.usage.calls == 1 and len(bench.store) == 1
        assert (bench.encode([("a", "b")]) == features([("a", "b")])).all()
    with workbench.planning(machine(tmp_path), ["scripted"]) as bench:
        lab = bench.lab(TASK, users, settings_lib.Settings())
        sampling.answer(lab, "zero_shot", [answers.Prompt(query=query)], stage="s")
        (plan,) = bench.plans()
        assert (plan.stages["s"].calls, plan.stages["s"].cached) == (0, 1)


def test_a_plan_counts_and_leaves_nothing_behind(tmp_path, machine, monkeypatch):
    def never(*args):
        raise AssertionError("a base was loaded")

    monkeypatch.setattr(workbench, "encoders", never)
    with workbench.planning(machine(tmp_path), ["scripted", "scripted"], config.Base()) as bench:
        bench.llm.sample([wanted(), wanted("violin")], stage="s")
        assert isinstance(bench.last_llm(), planner.Planner)
        assert [sum(s.calls for s in plan.stages.values()) for plan in bench.plans()] == [2, 0]
        assert bench.afresh().plans()[0].stages == {}
    assert list(tmp_path.iterdir()) == []


def test_a_plan_reads_the_features_that_a_run_keeps_and_remembers_its_own(tmp_path, machine, monkeypatch):
    asked = []

    def encoders(base, cache):
        asked.append(cache)
        return lambda pairs: asked.append(list(pairs)) or features(pairs), features

    monkeypatch.setattr(workbench, "encoders", encoders)
    with workbench.opened(machine(tmp_path), ["scripted"], config.Base()):
        pass
    with workbench.planning(machine(tmp_path), ["scripted"], config.Base()) as bench:
        one, two = ("a", "b"), ("c", "d")
        np.testing.assert_array_equal(bench.encode([one, two, one]), features([one, two, one]))
        np.testing.assert_array_equal(bench.encode([two, one]), features([two, one]))
    assert asked == [tmp_path / "features", feature_cache.ReadOnly(tmp_path / "features"), [one, two]]


def test_a_plan_refuses_a_base_that_there_is_not(tmp_path, machine):
    with (
        pytest.raises(DataError, match="'nosuch' is not an encoder: it has no config.json"),
        workbench.planning(machine(tmp_path), ["scripted"], config.Base(name="nosuch")),
    ):
        pass


@pytest.mark.parametrize("fails", ["base", "inside"])
def test_everything_is_closed_after_an_error(tmp_path, machine, monkeypatch, fails):
    closed = []

    async def close(self):
        closed.append(self)

    monkeypatch.setattr(scripted.Scripted, "close", close)
    if fails == "base":

        def encoders(base, cache):
            raise DataError("no such base")

        monkeypatch.setattr(workbench, "encoders", encoders)
    with (
        pytest.raises(DataError, match="no such"),
        workbench.opened(machine(tmp_path), ["scripted"], config.Base()) as bench,
    ):
        raise DataError("no such thing")
    if fails == "inside":
        assert len(closed) == 1
        with pytest.raises(Exception, match="closed"):
            len(bench.store)


def test_without_an_llm_or_a_base_what_needs_one_is_refused_and_no_store_is_made(tmp_path, machine):
    with workbench.opened(machine(tmp_path), []) as bench:
        with pytest.raises(ValueError, match="without an LLM"):
            bench.llm.sample([wanted()], stage="s")
        with pytest.raises(ValueError, match="without a base"):
            bench.embed(["text"])
    assert list(tmp_path.iterdir()) == []


def test_two_llms_spend_of_one_budget(tmp_path):
    machine = machine_lib.Machine(store=str(tmp_path / "s.sqlite"), max_calls=1)
    with workbench.opened(machine, ["scripted", "scripted"]) as bench:
        bench.llms[0].sample([wanted()], stage="s")
        with pytest.raises(request.Stopped):
            bench.last_llm().sample([wanted("violin")], stage="s")


@pytest.mark.parametrize("limits", [{"max_calls": -1}, {"max_usd": -0.5}, {"parallel": 0}, {"threads": 0}])
def test_a_machine_refuses_what_cannot_be(limits):
    with pytest.raises(ValueError, match=f"{next(iter(limits)).removeprefix('max_')} is {next(iter(limits.values()))}"):
        machine_lib.Machine(**limits)
