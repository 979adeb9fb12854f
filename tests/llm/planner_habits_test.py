"""Plans learn from the answers of a model how long its prompts and answers really are."""

import contextlib
import dataclasses

import pytest

from hydrajax.llm import models, planner, request, sampler, store
from hydrajax.types import Message

THINKING = next(name for name, row in models.CLAUDE.items() if row.thinks)
MODELS = ["claude-haiku-4-5", THINKING, "nobody-9", "local:x@1"]


class Transport:
    """Prompts are three times as long as estimated, answers have a length of their own."""

    def __init__(self, model, written):
        self.model, self.written = model, written
        self.parallel, self.in_turn, self.limits = 16, False, request.Limits()

    def check(self): ...

    async def complete(self, wanted):
        read = 3 * request.estimate_input_tokens(wanted)
        return request.Answer(text="t", stop_reason="end_turn", input_tokens=read, output_tokens=self.written)

    async def close(self): ...


def _ask(i, **rest):
    text = f"question {i} " * (1 + i % 7)
    return request.Request(messages=(Message(role="user", text=text),), **({"max_tokens": 64} | rest))


@pytest.fixture
def answers():
    with contextlib.closing(store.Store(":memory:")) as opened:
        yield opened


def _answered(answers, model, count, written, **rest):
    llm = sampler.StoredSampler(Transport(model, written), answers)
    found = llm.sample([_ask(i, **rest) for i in range(count)], stage="s")
    llm.close()
    return found


def _planned(answers, model, count, **rest):
    counting = planner.Planner(model, answers)
    counting.sample([_ask(1000 + i, **rest) for i in range(count)], stage="s")
    return counting.stages["s"]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("written", [8, 60])
def test_a_plan_expects_what_the_model_did_so_far(answers, model, written):
    _answered(answers, model, 60, written)
    plan = _planned(answers, model, 70)
    assert plan.output_tokens == pytest.approx(70 * written, rel=0.15)
    read = sum(3 * request.estimate_input_tokens(_ask(1000 + i)) for i in range(70))
    assert plan.input_tokens == pytest.approx(read, rel=0.05)


@pytest.mark.parametrize("model", MODELS)
def test_before_anything_was_answered_it_expects_what_is_typical(answers, model):
    row = models.find(model)
    plan = _planned(answers, model, 70)
    read = sum(request.estimate_input_tokens(_ask(1000 + i)) for i in range(70))
    assert plan.input_tokens == pytest.approx(read * row.tokens_per_estimate, rel=0.05)
    assert plan.output_tokens == pytest.approx(70 * 64 * row.filled, rel=0.05)


def test_a_few_answers_are_no_habit(answers):
    before = _planned(answers, "nobody-9", 10)
    _answered(answers, "nobody-9", 49, 1)
    assert answers.habits("nobody-9") is None
    assert _planned(answers, "nobody-9", 10) == before
    _answered(answers, "nobody-9", 50, 1)
    assert answers.habits("nobody-9") is not None
    assert _planned(answers, "nobody-9", 10) != before


def test_the_habits_of_another_model_are_none_of_its_own(answers):
    before = _planned(answers, "nobody-9", 10)
    _answered(answers, "claude-haiku-4-5", 60, 1)
    assert _planned(answers, "nobody-9", 10) == before


def test_answers_that_do_not_say_what_was_expected_teach_nothing(answers):
    answer = request.Answer(text="t", stop_reason="end_turn", input_tokens=9, output_tokens=9)
    answers.put_many(((f"{i:064x}", 0), "m", answer) for i in range(100))
    assert answers.habits("m") is None


def test_what_is_answered_is_no_longer_planned_and_planning_changes_nothing(answers):
    _answered(answers, "claude-haiku-4-5", 60, 8)
    before = list(answers.rows())
    counting = planner.Planner("claude-haiku-4-5", answers)
    counting.sample([_ask(i) for i in range(60)], stage="s")
    counting.sample([_ask(i) for i in range(60)], stage="s")
    assert counting.stages["s"] == dataclasses.replace(planner.StagePlan(), cached=60)
    assert list(answers.rows()) == before and counting.cost() == 0.0
