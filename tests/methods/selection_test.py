import dataclasses
import logging

import numpy as np
import pytest

from hydrajax import training
from hydrajax.methods import scorers, selection
from hydrajax.methods.rows import Row
from hydrajax.training import config

LOSSES = ("cross_entropy", "pairwise")


def row(user_id, pool, quality, *, label=0.0, name="x"):
    return Row(
        user_id=user_id,
        query_id=pool,
        pool=pool,
        first=pool,
        second=f"{name} {quality}",
        extras=(1.0,),
        label=label,
        quality=quality,
    )


TRAIN = [row("t0", "p0", 0.0), row("t0", "p0", 1.0, label=1.0)]
HEADS = [row(user_id, f"own {user_id}", quality) for user_id in ("v0", "n0") for quality in (0.0, 1.0)]
JUDGED = [row("v0", "real", quality) for quality in (0.2, 0.9, 0.4)]


@dataclasses.dataclass(frozen=True)
class Wanted:
    """Stands for what pretraining gives; `best` names the loss and the epochs whose heads find the best row."""

    loss: str
    best: dict
    curves: dict = dataclasses.field(default_factory=lambda: {"pooled": (2.0, 1.0)})


@pytest.fixture
def fake_fits(monkeypatch):
    """Training in no time: heads of `epochs` epochs choose the row whose quality `best` says for (loss, epochs)."""
    calls = []

    def install(best):
        def pretrain(config, examples, num_users, *, checkpoint=None, progress=None):
            calls.append(("pretrain", config.loss, num_users, len(examples.label)))
            return Wanted(config.loss, best)

        def personalise_snapshots(config, fitted, examples, num_users, *, epochs, user_keys, progress=None):
            calls.append(("personalise", config.loss, tuple(epochs), num_users))
            return training.Snapshots(heads={n: n for n in epochs}, curve=(3.0, 2.0))

        class Fake(scorers.PersonalScorer):
            def __init__(self, **values):
                for name, value in values.items():
                    object.__setattr__(self, name, value)

            def scores(self, rows, *, heads=None, pooled=False):
                wanted = self.fitted.best.get((self.fitted.loss, self.heads or 0), 0.2)
                return np.array([-abs(r.quality - wanted) for r in rows], np.float32)

        monkeypatch.setattr(training, "pretrain", pretrain)
        monkeypatch.setattr(training, "personalise_snapshots", personalise_snapshots)
        monkeypatch.setattr(scorers, "PersonalScorer", Fake)
        return calls

    return install


@pytest.fixture
def validated(encode):
    def make(losses=LOSSES, epochs=(0, 1, 4), **rest):
        configs = [training.FitConfig(loss=loss) for loss in losses]
        return selection.ValidatedLearner(encode, configs, epochs=epochs, **rest)

    return make


@pytest.mark.parametrize("best", [("cross_entropy", 0), ("cross_entropy", 4), ("pairwise", 1), ("pairwise", 0)])
def test_validation_users_choose_loss_and_epochs(fake_fits, validated, best):
    fake_fits({best: 0.9})
    learns = validated()
    scorer = learns.fit("adapter", train=TRAIN, personal=HEADS, judged=JUDGED)
    choice = learns.choices["adapter"]
    assert (choice.loss, choice.epochs) == best == (scorer.fitted.loss, scorer.heads or 0)
    assert choice.quality == {f"{loss}/{n}": 0.9 if (loss, n) == best else 0.2 for loss in LOSSES for n in (0, 1, 4)}
    assert choice.curves["pooled"] == [2.0, 1.0]
    assert choice.curves.get("new users") == ([3.0, 2.0] if best[1] else None)


def test_of_equal_settings_the_one_with_fewer_epochs_is_taken(fake_fits, validated):
    fake_fits({("pairwise", n): 0.9 for n in (4, 1)} | {("cross_entropy", 4): 0.9})
    learns = validated(epochs=(4, 1, 0))
    learns.fit("adapter", train=TRAIN, personal=HEADS, judged=JUDGED)
    assert (learns.choices["adapter"].loss, learns.choices["adapter"].epochs) == ("pairwise", 1)


def test_without_anybody_to_judge_everybody_keeps_the_pooled_head(fake_fits, validated):
    fake_fits({("pairwise", 4): 0.9})
    learns = validated()
    assert learns.fit("adapter", train=TRAIN, personal=HEADS, judged=[]).heads is None
    assert learns.choices["adapter"].epochs == 0


def test_the_pooled_head_is_a_choice_only_where_it_is_asked_for(fake_fits, validated):
    fake_fits({("pairwise", 0): 0.9})
    learns = validated(epochs=(1, 4))
    learns.fit("adapter", train=TRAIN, personal=HEADS, judged=JUDGED)
    assert set(learns.choices["adapter"].quality) == {f"{loss}/{n}" for loss in LOSSES for n in (1, 4)}
    assert learns.choices["adapter"].epochs == 1


def test_new_users_have_no_say(fake_fits, validated):
    fake_fits({("pairwise", 4): 0.9})
    chosen = []
    for qualities in ((0.0, 1.0), (0.9, 1.0), (7.0, 0.9)):
        own = [row("v0", f"v0 {i}", quality) for i in range(2) for quality in (0.1, 0.9)]
        others = [row("n0", f"n0 {i}", quality, label=1.0) for i in range(2) for quality in qualities]
        learns = validated()
        learns.fit("adapter", train=TRAIN, personal=[*own, *others], judged=JUDGED)
        chosen.append(learns.choices["adapter"])
    assert chosen[0] == chosen[1] == chosen[2]
    # The real query and both halves of the own pseudo-queries
    assert chosen[0].quality["pairwise/4"] == pytest.approx(0.9)
    assert chosen[0].quality["pairwise/1"] == pytest.approx((0.2 + 0.1 + 0.1) / 3)


def test_without_rows_of_new_users_only_the_pooled_head_is_tried(fake_fits, validated):
    calls = fake_fits({})
    learns = validated()
    assert learns.fit("adapter", train=TRAIN, personal=[], judged=JUDGED).user_rows == {}
    assert set(learns.choices["adapter"].quality) == {"cross_entropy/0", "pairwise/0"}
    assert {name for name, *_ in calls} == {"pretrain"}


def test_without_a_row_to_learn_from_nothing_is_trained(fake_fits, validated, caplog):
    caplog.set_level("INFO")
    calls = fake_fits({})
    learns = validated()
    assert isinstance(learns.fit("adapter", train=[], personal=HEADS, judged=JUDGED), scorers.Untrained)
    assert "the adapter learned nothing, since training users have no questions with" in caplog.text
    assert calls == [] and learns.choices == {}


def test_each_loss_is_pretrained_once_and_personalised_once(fake_fits, validated):
    calls = fake_fits({})
    validated().fit("reranker", train=TRAIN, personal=HEADS, judged=JUDGED)
    assert calls == [step for loss in LOSSES for step in (("pretrain", loss, 1, 2), ("personalise", loss, (1, 4), 2))]


@pytest.mark.parametrize(("losses", "epochs"), [((), (1,)), (LOSSES, ()), (LOSSES, (4, -1))])
def test_there_must_be_something_to_choose_among(validated, losses, epochs):
    with pytest.raises(ValueError, match="expected at least one of each"):
        validated(losses, epochs)


def test_the_mean_is_over_pools_not_over_rows():
    class Longest:
        def scores(self, rows, *, heads=None, pooled=False):
            return np.array([len(r.second) for r in rows], np.float32)

    rows = [
        row("v0", "a", 1.0, name="long enough"),
        row("v0", "b", 0.5, name="long"),
        row("v0", "a", 0.0),
        row("v1", "b", 0.0),
        row("v1", "b", 0.25),
    ]
    assert selection.chosen_qualities(Longest(), rows) == [1.0, 0.5]
    assert selection.chosen_qualities(Longest(), []) == []


def test_of_equal_scores_the_first_of_the_pool_is_chosen():
    rows = [row("v0", "a", 0.3), row("v0", "a", 0.9)]
    assert selection.chosen_qualities(scorers.Untrained(), rows) == [0.3]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_scorer_and_choice(encode):
    def many(group):
        names = [f"{group}{i}" for i in range(3)]
        return [
            row(user_id, f"{user_id} {p}", q, label=q) for user_id in names for p in (0, 1) for q in (0.0, 0.5, 1.0)
        ]

    def fitted(seed):
        config = training.FitConfig(pooled_epochs=2, learning_rate=0.05, fit_bank=False, dropout=0.0, seed=seed)
        learns = selection.ValidatedLearner(encode, [config], epochs=(2,))
        scorer = learns.fit("adapter", train=many("t"), personal=many("n"), judged=JUDGED)
        return scorer.scores(JUDGED, pooled=True), learns.choices

    (first, choices), (again, same), (other, _) = fitted(0), fitted(0), fitted(1)
    np.testing.assert_array_equal(first, again)
    assert choices == same
    assert (first != other).any()


@pytest.mark.slow
def test_training_users_have_heads_in_what_is_kept_and_none_while_others_learn(encode):
    train = [row(user_id, f"{user_id} p", q, label=q) for user_id in ("t0", "t1") for q in (0.0, 0.5, 1.0)]
    config = training.FitConfig(family="linear", fit_bank=False)
    learns = selection.ValidatedLearner(encode, [config], epochs=(1,))
    scorer = learns.fit("adapter", train=train, personal=HEADS, judged=JUDGED)
    kept = learns.with_training_users("adapter")
    assert set(scorer.user_rows) == {"v0", "n0"} and set(kept.user_rows) == {"v0", "n0", "t0", "t1"}
    np.testing.assert_array_equal(kept.scores(JUDGED), scorer.scores(JUDGED))
    np.testing.assert_array_equal(scorer.scores(train), scorer.scores(train, pooled=True))
    assert (kept.scores(train) != scorer.scores(train)).any()
    assert isinstance(learns.with_training_users("reranker"), scorers.Untrained)


def test_what_its_fits_warn_of_is_told_once_by_the_scorer_s_name(fake_fits, validated, monkeypatch, caplog):
    fake_fits({})
    pretrain, log = training.pretrain, logging.getLogger("hydrajax.training.choosing")

    def warns(config, *args, **rest):
        log.warning("%s is of no use", config.loss)
        return pretrain(config, *args, **rest)

    monkeypatch.setattr(training, "pretrain", warns)
    validated(LOSSES, (1,)).fit("adapter", train=TRAIN, personal=HEADS, judged=JUDGED)
    assert caplog.messages == [f"adapter: {LOSSES[0]} is of no use"]


def test_a_label_of_progress_says_what_is_done_with_a_base_that_is_trained():
    open_ = training.FitConfig(train_base=True)
    frozen, closed = training.FitConfig(), config.resolved(open_)
    assert list(map(scorers.stages_of, (frozen, open_, closed))) == [
        "pretraining", "choosing rates and priors, then training the base", "training the base"
    ]  # fmt: skip


def test_a_scorer_can_have_a_family_of_its_own(fake_fits, validated, monkeypatch):
    fake_fits({})
    families = []
    pretrain = training.pretrain
    monkeypatch.setattr(
        training,
        "pretrain",
        lambda config, *args, **rest: families.append(config.family) or pretrain(config, *args, **rest),
    )
    learns = validated(("pairwise",), families={"reranker": "simplex:bases=3"})
    for name in ("reranker", "adapter"):
        learns.fit(name, train=TRAIN, personal=HEADS, judged=JUDGED)
    assert families == ["simplex:bases=3", training.FitConfig().family]
    assert [learns.choices[name].family for name in ("reranker", "adapter")] == families


def test_of_equal_numbers_the_smaller_one_is_taken(world, bench, settings, answering):
    place = world()
    here = bench(place, settings(shown=(3, 1, 2)), transport=answering(lambda r: "always the same"))
    assert selection.choose_k(here, "rag", place.people.validation_queries)[0] == 1


def test_one_number_needs_no_choosing(world, bench, settings):
    place = world()
    here = bench(place, settings(shown=(2,)))
    assert selection.choose_k(here, "rag", place.people.validation_queries) == (2, {})
    assert selection.choose_k(here, "zero_shot", place.people.validation_queries) == (0, {})
    assert here.ctx.llm.seen == []
