import pytest

from hydrajax.methods import settings as settings_lib


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"retrieved": 0}, "retrieved is 0"),
        ({"samples": 0}, "samples is 0"),
        ({"derangements": 0}, "derangements is 0"),
        ({"strategies": ("rag,pag",), "candidates": 1}, "at least one for each of the 2 strategies"),
        ({"shown": ()}, "shown is ()"),
        ({"shown": (0, 1)}, "shown is (0, 1)"),
        ({"shown": (1, 11)}, "shown is (1, 11)"),
        ({"temperature": -0.1}, "temperature is -0.1"),
        ({"pseudo_queries": -1}, "pseudo_queries is -1"),
        ({"trial_queries": -1}, "trial_queries is -1"),
        ({"label_queries": 0}, "label_queries is 0"),
        ({"retriever": "bm52"}, "bm25, random, recency"),
        ({"validation": -0.1}, "validation is -0.1"),
        ({"validation": 1.0}, "validation is 1.0"),
        ({"adapter_labels": "gold"}, "adapter_labels is 'gold'"),
    ],
)
def test_what_cannot_be_run_is_refused(changes, said):
    with pytest.raises(ValueError) as error:
        settings_lib.Settings(**changes)
    assert said in str(error.value) and "expected" in str(error.value)


def test_what_may_be_left_out_may_be_left_out():
    settings_lib.Settings(temperature=0.0, pseudo_queries=None, trial_queries=0, label_queries=None)


def test_the_paper_has_its_own_numbers_and_features():
    paper = settings_lib.PRESETS["paper"]
    assert (paper.retriever, paper.retrieved, paper.shown) == ("bm25", 10, (4,))
    assert (paper.samples, paper.temperature, paper.greedy) == (8, 1.0, False)
    assert (paper.pseudo_queries, paper.trial_queries, paper.label_queries) == (None, 10, 1)
    assert (paper.adapter_pools, paper.adapter_labels) == ("reranked", "quality")
    assert not (paper.identity or paper.votes or paper.surface or paper.styles or paper.strategies)
    assert paper.validation == 0


@pytest.mark.parametrize(("samples", "half"), [(1, 1), (2, 1), (5, 2), (8, 4)])
def test_shared_pools_take_half_of_the_samples_from_either_prompt(samples, half):
    assert settings_lib.Settings(samples=samples).shared_samples == half
