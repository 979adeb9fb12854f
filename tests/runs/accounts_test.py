import collections

import pytest

from hydrajax.data import tasks
from hydrajax.llm import usage
from hydrajax.methods import lab
from hydrajax.prompting import contract
from hydrajax.runs import accounts

ZERO = "zero-shot candidates to learn from"
SHOWN = "candidates with records to learn from"
ASKED = "candidates with reranked records"
CALLS = {"zero_shot": 1, "icl_random": 2, "rag": 4, "pag: user models": 8, "pag": 16, "record trials": 32, ZERO: 64,
         SHOWN: 128, "zero-shot candidates": 256, ASKED: 510, "paraphrases": 1024}  # fmt: skip


class Named:
    def __init__(self, model):
        self.model, self.usage = model, usage.Usage(model="m")

    def sample(self, requests, *, stage):
        raise AssertionError("the LLM was called")


@pytest.fixture
def bench(settings):
    """A lab whose ledger holds powers of two, so that a sum says what it is made of."""

    def make(pools, model="scripted", users=("a",)):
        ctx = contract.Context(task=tasks.LAMP["LaMP_4"], llm=Named(model))
        ledger = {
            (stage, user): collections.Counter(calls=n, input_tokens=10 * n, output_tokens=n)
            for user in users
            for stage, n in CALLS.items()
        }
        ledger["rag", "somebody else"] = collections.Counter(calls=10**6)
        # b + 1 = 3 samples of the reranked prompt
        return lab.Lab(ctx=ctx, users={}, settings=settings(adapter_pools=pools, samples=2), ledger=ledger)

    return make


@pytest.mark.parametrize(
    ("pools", "adapter", "hydra"),
    [
        ("shared", 1024 + 64 + 256 + 128, 1024 + 32 + 128 + 510 + 64),
        ("reranked", 1024 + 64 + 256, 1024 + 32 + 128 + 510),
        ("zero_shot", 1024 + 64 + 256, 1024 + 32 + 64 + 510),
    ],
)
def test_a_method_costs_what_it_needs(bench, pools, adapter, hydra):
    found = {method: cost["calls"] for method, cost in accounts.new_user(bench(pools), ["a"]).items()}
    assert found == {
        "zero_shot": 1, "icl_random": 2, "rag": 4, "pag": 8 + 16, "hydra_reranker": 1024 + 32 + 510 / 3,
        "hydra_adapter": adapter, "hydra": hydra,
    }  # fmt: skip


def test_costs_are_a_mean_over_users_of_whom_some_cost_nothing(bench):
    here = bench("shared", users=("a", "b"))
    found = accounts.new_user(here, ["a", "b", "without a profile", "d"])["rag"]
    assert (found["calls"], found["input_tokens"], found["output_tokens"]) == (2.0, 20.0, 2.0)


def test_dollars_follow_the_models_price(bench):
    # 1 and 5 dollars for a million tokens in and out
    found = accounts.new_user(bench("shared", "claude-haiku-4-5"), ["a"])["rag"]
    assert found["cost_usd"] == pytest.approx((40 * 1.0 + 4 * 5.0) / 1e6)
    assert accounts.new_user(bench("shared", "unheard-of"), ["a"])["rag"]["cost_usd"] is None


def test_parts_add_up_and_what_is_unknown_stays_unknown():
    parts = [{"model": "m", "calls": 1, "cost_usd": None}, {"model": "m", "calls": 2, "cost_usd": 0.5}]
    assert accounts.summed(parts) == {"model": "m", "calls": 3, "cost_usd": None}
    assert accounts.averaged([{"calls": 1, "cost_usd": 0.0}, {"calls": 2, "cost_usd": 1.0}]) == {
        "calls": 1.5,
        "cost_usd": 0.5,
    }
