"""CFRAG: users alike, and which of their records help, are learned of training users (SIGIR 2025, arXiv 2504.05731).

    1. users       u = what a transformer makes of a user's records, learned by contrast             `users`
    2. retriever   the best n records of the user and of each of the m nearest users are shown to the LLM, one alone;
                   from the quality m_i of its answers w and t are learned                           `retriever`
    3. reranker    records that this retriever finds are shown alone, too; from those answers
                   r(q, p, u), KL(softmax(m / .1) || softmax(r)), is learned                         a `TrainedScorer`

Questions are the training users' real ones, so no record is in the profile that answers it. Whatever is asked of a
training user is ranked by what the other half of these users taught.
"""

import dataclasses
import functools
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from hydrajax import progress
from hydrajax.data import draws, tasks
from hydrajax.methods import answers as answers_lib
from hydrajax.methods import hydra, llm_stages, rows, sampling
from hydrajax.methods.answers import Prompt
from hydrajax.methods.collaborative import retriever, users
from hydrajax.methods.collaborative.retriever import Retriever
from hydrajax.methods.lab import Lab
from hydrajax.methods.rows import Row
from hydrajax.methods.scorers import TrainedScorer
from hydrajax.prompting import collaboration, peers
from hydrajax.prompting.collaboration import Candidates
from hydrajax.prompting.contract import Asked
from hydrajax.types import Query, profile_for

STRATEGY = "cfrag"
RERANKER = "cfrag reranker"  # the scorer's name
FAMILY, LOSS = "shared", "distillation"  # of the reranker: one for everybody, who is told apart by what it reads
# What a `selection.ValidatedLearner` has to be told.
FITTED: Mapping[str, Mapping[str, str]] = {"families": {RERANKER: FAMILY}, "losses": {RERANKER: LOSS}}

Tried = Sequence[tuple[Candidates, np.ndarray]]  # candidates, and the quality of the LLM's answer to each


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Learned:
    """`collaboration.Parts`, learned.

    Attributes:
      encoder: users by the features of their records.
      retriever: finds candidates.
      reranker: orders them; None: they stay in the retriever's order.
    """

    task: tasks.Task
    encoder: Callable[[Sequence[np.ndarray]], np.ndarray]
    retriever: Retriever
    reranker: TrainedScorer | None = None

    def users(self, features: Sequence[np.ndarray]) -> np.ndarray:
        """See `collaboration.Parts`."""
        return self.encoder(features)

    def texts(self, features: np.ndarray) -> np.ndarray:
        """See `collaboration.Parts`."""
        return self.retriever.texts(features)

    def liked(self, users: np.ndarray) -> np.ndarray:
        """See `collaboration.Parts`."""
        return self.retriever.liked(users)

    def rerank(self, found: Sequence[Candidates]) -> Sequence[np.ndarray]:
        """See `collaboration.Parts`."""
        if self.reranker is None:
            return [one.scores for one in found]
        scores = self.reranker.scores([row for one in found for row in pairs(self.task, one)])
        return [np.array(of_one) for of_one in answers_lib.split(scores, [len(one.records) for one in found])]


FitRetriever = Callable[[Lab, Tried, int], Retriever]


def fit_retriever(lab: Lab, tried: Tried, width: int) -> Retriever:
    """From the candidates of questions and what they were worth; features are [N, width]."""
    return retriever.fit(tried, width=width, weight=lab.ctx.settings.peer_weight, seed=lab.seed)


def teach(
    lab: Lab,
    people: hydra.People,
    strategies: Sequence[str],
    learner: hydra.Learner,
    fit_retriever: FitRetriever = fit_retriever,
) -> Lab:
    """The lab in which `cfrag` ranks records by what training users taught; the lab itself where it is not asked for.

    Args:
      strategies: those that will be asked for.
      learner: fits the reranker.
      fit_retriever: fits the retriever.
    """
    ctx = lab.ctx
    if STRATEGY not in strategies or ctx.settings.peer_ranking == "frozen" or ctx.population is None:
        return lab
    everybody = peers.population(ctx, STRATEGY)
    params = _user_encoder(_Profiles.of(everybody.features, lab.seed))
    encoder = collaboration.Frozen().users if params is None else _Remembering(params)
    width = everybody.means.shape[1]
    first = Learned(task=ctx.task, encoder=encoder, retriever=retriever.untaught(width))
    tried = try_records(lab, candidates(lab, people.label_queries, lambda user_id: first))

    halves = _halves([query.user_id for query in people.label_queries], lab.seed)
    others = [[one for one in tried if one[0].query.user_id not in half] for half in halves]
    finds = dataclasses.replace(first, retriever=fit_retriever(lab, tried, width))
    half_finds = [dataclasses.replace(first, retriever=fit_retriever(lab, part, width)) for part in others]

    tried = try_records(lab, candidates(lab, people.label_queries, _serving(finds, half_finds, halves)))
    learned = labelled(lab, tried)
    reranker = learner.fit(RERANKER, train=learned, personal=[], judged=[])
    cross_fitted = learner.cross_fit(RERANKER, reranker, train=learned, personal=[])
    ranks = dataclasses.replace(finds, reranker=reranker)
    half_ranks = [dataclasses.replace(part, reranker=cross_fitted) for part in half_finds]
    taught = {**ctx.taught, STRATEGY: _serving(ranks, half_ranks, halves)}
    return dataclasses.replace(lab, ctx=dataclasses.replace(ctx, taught=taught))


def candidates(lab: Lab, queries: Sequence[Query], parts: collaboration.Taught) -> list[Candidates]:
    """The records that may be shown for queries, as many of each user as may be shown at most."""
    asked = [Asked(query=query, profile=profile_for(query, lab.users[query.user_id])) for query in queries]
    return collaboration.candidates(asked, max(lab.settings.shown), parts, lab.ctx, STRATEGY)


def try_records(lab: Lab, found: Sequence[Candidates]) -> Tried:
    """Each candidate is shown to the LLM alone; how good its answer is."""
    prompts = [Prompt(query=one.query, records=(record,)) for one in found for record in one.records]
    given = sampling.answer(lab, STRATEGY, prompts, stage=llm_stages.COLLABORATIVE_TRIALS)
    qualities = np.array([lab.quality(answer.query, answer.text) for answer in given], np.float64)
    sizes = [len(one.records) for one in found]
    return list(zip(found, map(np.array, answers_lib.split(qualities, sizes)), strict=True))


def labelled(lab: Lab, tried: Tried) -> list[Row]:
    """What the reranker learns from: candidates of which one is worth more than another."""
    learned = [row for one, _ in tried for row in pairs(lab.ctx.task, one)]
    qualities = [float(quality) for _, of_one in tried for quality in of_one]
    return rows.differing(rows.judged(lab.ctx.task, learned, qualities))


def pairs(task: tasks.Task, found: Candidates) -> list[Row]:
    """The pairs (question, record) with the user, in units of a feature's, and the retriever's score, standardised."""
    scores = (found.scores - found.scores.mean()) / max(float(found.scores.std()), 1e-6) if len(found.records) else ()
    user = found.user * math.sqrt(len(found.user))
    return [
        rows.pair(task, found.query, task.record_text(record), (score, *user))
        for record, score in zip(found.records, scores, strict=True)
    ]


class _Remembering:
    """Encodes nobody twice: population and askers are the same whatever is asked."""

    def __init__(self, params: users.Params):
        self._params = params
        self._known: dict[str, np.ndarray] = {}

    def __call__(self, features: Sequence[np.ndarray]) -> np.ndarray:
        names = [_digest(of_user) for of_user in features]
        new = {name: of_user for name, of_user in zip(names, features, strict=True) if name not in self._known}
        self._known.update(zip(new, users.encode(self._params, list(new.values())), strict=True))
        return np.array([self._known[name] for name in names])


@dataclasses.dataclass(frozen=True)
class _Profiles:
    """Features of everybody's records, and a seed; told apart by their digest."""

    digest: str
    seed: int
    features: Sequence[np.ndarray] = dataclasses.field(compare=False, repr=False)

    @classmethod
    def of(cls, features: Sequence[np.ndarray], seed: int) -> "_Profiles":
        return cls(" ".join(map(_digest, features)), seed, features)


@functools.lru_cache(maxsize=2)
def _user_encoder(profiles: _Profiles) -> users.Params | None:
    """A plan asks for the same one several times."""
    with progress.bar("cfrag: user encoder") as advance:
        return users.fit(profiles.features, seed=profiles.seed, advance=advance)


def _digest(features: np.ndarray) -> str:
    return hashlib.sha256(features.tobytes()).hexdigest()


def _serving(whole: Learned, of_half: Sequence[Learned], halves: Sequence[set[str]]) -> collaboration.Taught:
    """What serves each user: those of a half what is theirs, all others the whole."""
    served = {user_id: part for part, half in zip(of_half, halves, strict=True) for user_id in half}
    return lambda user_id: served.get(user_id, whole)


def _halves(user_ids: Sequence[str], seed: int) -> tuple[set[str], set[str]]:
    """Of users, each in one."""
    drawn = draws.shuffled(dict.fromkeys(user_ids), seed=draws.number("halves of users", seed), name=str)
    return set(drawn[::2]), set(drawn[1::2])
