"""Counts what a run would ask for: its own code, with a sampler that counts and guesses of what answers will decide.

Guessed is, until the answers are there: which number of records validation users choose, which records a reranker
prefers and a retriever learns to find, how bandits spread candidates (almost evenly: placeholders teach them nothing),
among which candidates the LLM chooses, and what it says of users where a strategy asks on by what it says.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from hydrajax.data import draws
from hydrajax.llm import planner
from hydrajax.methods import baselines, hydra, llm_choice, scorers, selection, shuffled
from hydrajax.methods.answers import Pool
from hydrajax.methods.collaborative import learn as collaborative
from hydrajax.methods.collaborative import retriever
from hydrajax.methods.lab import Lab
from hydrajax.methods.rows import Row
from hydrajax.methods.union import union
from hydrajax.prompting import contract, reasoning, registry
from hydrajax.prompting.strategies import hypotheses, hypothesis_bank, persona
from hydrajax.types import Candidate, Query, Split

GuessK = Callable[[Sequence[int]], int]

HYPOTHESIS_WORDS = 12  # of a hypothesis, where an answer is not there yet
KEEPS = 3  # of a reranker that is guessed: the first record stays the first for every third question
# Strategies that ask on by what the LLM says.
ASKING_ON = ("hypotheses", "hypothesis_bank", "persona", "peer_difference")
GUESSED_TURN = 3.0  # of a learned retriever: it finds about a quarter of the records anew


def middle(ks: Sequence[int]) -> int:
    """The middle one, of an even number the larger of the two."""
    return sorted(ks)[len(ks) // 2]


def ask(
    lab: Lab,
    people: hydra.People,
    strategies: Sequence[str],
    train: Sequence[Split],
    learner: Callable[[], hydra.Learner | None],
    guess_k: GuessK = middle,
    keeps: int = KEEPS,
) -> "GuessingLearner":
    """Puts to a planner what a run would ask its LLM.

    Args:
      lab: of the run, with a planner for its LLM.
      people: who is who.
      strategies: the prompt strategies that are compared.
      train: training and validation users.
      learner: the run's own, where every answer that its reranker would learn from is stored: what that learns is then
        what the run will learn, and the count is exact. Where that gives None, it is guessed all the same.
      guess_k: which of several numbers of records is counted.
      keeps: of `GuessedScorer`.

    Returns:
      what has seen the rows that scorers would learn from.
    """
    counting = lab.ctx.llm
    assert isinstance(counting, planner.Planner)
    lab = dataclasses.replace(lab, strategy=strategy)

    def choose_k(lab: Lab, name: str, validation: Sequence[Query]) -> tuple[int, dict[int, float]]:
        before = counting.calls
        k, means = selection.choose_k(lab, name, validation)
        # Placeholders do not say which is best.
        return (guess_k(list(means)) if counting.calls > before else k), means

    lab, guessing = teach(lab, people, strategies, learner, keeps)
    prompts = {
        name: baselines.answer(lab, name, people.validation_queries, people.asked, choose_k) for name in strategies
    }
    hydra.hydra(dataclasses.replace(lab, reward=_guessed_quality(lab)), guessing, people, prompts["rag"].k)
    if lab.settings.strategies:
        ks = {name: prompts[name].k for name in lab.settings.strategies}
        _ask_union(lab, union.questions(lab, people, train), ks)
    return guessing


def _guessed_quality(lab: Lab) -> Callable[[Query, str], float]:
    """Of answers that are not there yet: different ones, so that what an adapter would learn from is counted."""

    def quality(query: Query, prediction: str) -> float:
        if any(planner.is_placeholder(text) for text in (prediction, f"{prediction}.")):  # as some tasks normalise it
            return draws.number("quality", prediction) % 2**10 / 2**10
        return lab.quality(query, prediction)

    return quality


def teach(
    lab: Lab,
    people: hydra.People,
    strategies: Sequence[str],
    learner: Callable[[], hydra.Learner | None],
    keeps: int = KEEPS,
) -> tuple[Lab, "GuessingLearner"]:
    """What strategies learn of training users, and the learner that goes on; arguments as of `ask`."""
    counting = lab.ctx.llm
    assert isinstance(counting, planner.Planner)

    def known() -> hydra.Learner | None:
        return None if counting.calls else learner()

    def fit_retriever(lab: Lab, tried: collaborative.Tried, width: int) -> retriever.Retriever:
        return guessed_retriever(width, lab.seed) if counting.calls else collaborative.fit_retriever(lab, tried, width)

    guessing = GuessingLearner(known, seed=lab.seed, keeps=keeps)
    return collaborative.teach(lab, people, strategies, guessing, fit_retriever), guessing


def _ask_union(lab: Lab, asked: union.Questions, ks: dict[str, int]) -> None:
    """The union, with its controls. Of the proposals only the task's labels are put before the LLM that chooses."""
    sampled, _ = union.sample(lab, asked, lab.settings.strategies, ks, thompson=True)
    shuffled.answers(lab, ks, asked.new.queries)
    labels = [Candidate(text=label, source="proposal") for label in lab.ctx.task.labels]
    pools = [
        Pool(
            query=query,
            candidates=labels
            or [candidate for by_query in sampled.values() for candidate in by_query.get(query.id, ())],
        )
        for query in asked.new.queries
    ]
    llm_choice.choose(lab, pools, lab.settings.shown[0])


def strategy(name: str) -> contract.Strategy:
    """The prompt strategy, or what stands in for one that asks on by what the LLM says: for `Lab.strategy`."""
    guessing = {guess.name: guess for guess in (GuessingBank, GuessingPersona)}
    return guessing[name]() if name in guessing else registry.get(name)


class GuessingBank(hypothesis_bank.HypothesisBank):
    """Reads a list of hypotheses, one of each kind, in an answer that is not there yet, so that trials are counted."""

    name = hypothesis_bank.HypothesisBank.name

    def read(self, answer: str) -> hypotheses.Parsed:
        """See `Hypotheses.read`."""
        if not planner.is_placeholder(answer):
            return super().read(answer)
        words = " ".join(answer.split()[:HYPOTHESIS_WORDS])
        return hypotheses.Parsed(lines=tuple(f"{kind}: {words}" for kind in hypotheses.KINDS))


class GuessingPersona(persona.Persona):
    """Takes reasoning that is not there yet to hold, so that every set of it that may be tried is counted."""

    name = persona.Persona.name

    def read(self, answer: str) -> reasoning.Prediction | None:
        """See `Persona.read`."""
        if not planner.is_placeholder(answer):
            return super().read(answer)
        return reasoning.Prediction(reasoning=answer, answer=answer)

    def holds(self, prediction: str, gold: str, without: str, ctx: contract.Context) -> bool:
        """See `Persona.holds`."""
        return planner.is_placeholder(prediction) or super().holds(prediction, gold, without, ctx)


def guessed_retriever(width: int, seed: int) -> retriever.Retriever:
    """Stands in for one that is still to be learned: it finds records that the base does not find first."""
    rng = np.random.default_rng(draws.number(seed, "guessed retriever"))
    noise = GUESSED_TURN / (2 * width**0.5) * rng.normal(size=(width, width))  # of this spectral norm
    untaught = retriever.untaught(width)
    return dataclasses.replace(untaught, text=untaught.text + noise)


@dataclasses.dataclass(frozen=True)
class GuessingLearner:
    """`hydra.Learner`: trains only what it can, and guesses the rest.

    Attributes:
      known: the run's own learner where every answer that it would learn from is stored, else None.
      seed: of the guesses.
      keeps: of `GuessedScorer`.
      taught: rows of training users that the scorers would learn from, by scorer.
      cross_fitted: scorers that would be cross-fitted.
    """

    known: Callable[[], hydra.Learner | None] = lambda: None
    seed: int = 0
    keeps: int = KEEPS
    taught: dict[str, Sequence[Row]] = dataclasses.field(init=False, default_factory=dict, compare=False)
    cross_fitted: set[str] = dataclasses.field(init=False, default_factory=set, compare=False)
    _learners: dict[str, hydra.Learner] = dataclasses.field(init=False, default_factory=dict, compare=False)

    def fit(
        self, name: str, *, train: Sequence[Row], personal: Sequence[Row], judged: Sequence[Row]
    ) -> scorers.TrainedScorer:
        """See `hydra.Learner.fit`."""
        self.taught[name] = train
        if name not in ("reranker", collaborative.RERANKER):
            return scorers.Untrained()  # nothing is asked after the adapter has chosen
        known = self.known()
        if known is not None:
            self._learners[name] = known
            return known.fit(name, train=train, personal=personal, judged=judged)
        return GuessedScorer(seed=self.seed, keeps=self.keeps)

    def cross_fit(
        self, name: str, scorer: scorers.TrainedScorer, *, train: Sequence[Row], personal: Sequence[Row]
    ) -> scorers.TrainedScorer:
        """See `hydra.Learner.cross_fit`; a guess has learned from nothing."""
        self.cross_fitted.add(name)
        if name not in self._learners:
            return scorer
        return self._learners[name].cross_fit(name, scorer, train=train, personal=personal)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GuessedScorer:
    """Stands in for a reranker that is still to be learned.

    How many prompts it will change decides how many calls there are. Here the first row of every third question stays
    the first (in finished runs the learned reranker kept the retriever's first record for .16 to .46 of the queries),
    and all other rows change places at random: equal pairs of texts alike, as a scorer has it. One that changes nothing
    asks for the least, one that changes all for the most.

    Attributes:
      seed: of the draws, which depend on it and on the texts alone.
      keeps: every how many-th question keeps its first row; 1: all rows stay where they are; 0: none does, and users
        who ask the same differ.
    """

    seed: int = 0
    keeps: int = KEEPS

    def scores(self, rows: Sequence[Row], *, heads: scorers.Heads = None, pooled: bool = False) -> np.ndarray:
        """See `TrainedScorer.scores`."""
        if self.keeps == 1:
            return np.zeros(len(rows), np.float32)
        scores = []
        asked: set[str] = set()
        for row in rows:
            first = row.query_id not in asked
            asked.add(row.query_id)
            stays = first and self.keeps > 0 and draws.number(self.seed, "stays", row.first) % self.keeps == 0
            whose = () if self.keeps else (row.user_id,)
            scores.append(2.0 if stays else draws.number(self.seed, *whose, row.first, row.second) % 2**20 / 2**20)
        return np.array(scores, np.float32)
