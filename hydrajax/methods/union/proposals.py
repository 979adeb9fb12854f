"""Proposals: candidates that cost no call, from the user's profile, the query, and what other users teach.

A source is an entry of `SOURCES`: a function that proposes answers to queries, best first, each with numbers that the
adapter reads besides the text. What it says of a pseudo-query is made without the record that the query was made of
(`profile_for`). A source that learns from other users (`fit`) answers a query with a model that has seen neither the
query's user nor, in anybody's profile, its text: `out_of_fold` divides the training users for that.
"""

import collections
import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from hydrajax.data import draws, folds, pseudo, tasks
from hydrajax.methods import controls
from hydrajax.methods.union import classifier as factorised_classifier
from hydrajax.methods.union import rewording
from hydrajax.prompting import peers
from hydrajax.prompting.contract import Asked, Embed
from hydrajax.retrieval import retrieve
from hydrajax.types import DataError, Query, Record, Split, User, profile_for

_log = logging.getLogger(__name__)
SMOOTHING = 0.3  # votes that every label has before the profile is counted
LIKENESS = 0.15  # how much less similar a record is that counts e times less
FEWEST_VOTES = 0.02
NEAREST = 4  # records whose answers are proposed


@dataclasses.dataclass(frozen=True, kw_only=True)
class Proposal:
    """An answer and what its source knows of it.

    Attributes:
      text: the answer.
      numbers: one for each of the source's `numbers`, higher for what it trusts more.
    """

    text: str
    numbers: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Known:
    """What sources look at.

    Attributes:
      task: the task.
      embed: texts -> features [N, D].
      seed: of draws.
      default: the label of a user without records: the most frequent one of other users.
      models: what `Source.fit` has learned of other users, by source; None where they are too few to learn from.
    """

    task: tasks.Task
    embed: Embed
    seed: int = 0
    default: str = ""
    models: Mapping[str, Any] = dataclasses.field(default_factory=dict)


Proposals = dict[str, list[Proposal]]  # by query id


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """A way to propose.

    Attributes:
      propose: (known, what is asked) -> proposals to each, best first: the first is the source's own answer. Of the
        asking user it is handed no more than may help to answer.
      suits: whether it can propose anything in a task.
      numbers: names of what each proposal brings.
      fit: (known, training users) -> a model for `Known.models`; None where nothing is learned from others.
    """

    propose: Callable[[Known, Sequence[Asked]], list[list[Proposal]]]
    suits: Callable[[tasks.Task], bool]
    numbers: tuple[str, ...] = ()
    fit: Callable[[Known, Split], Any] | None = None


def every_label(known: Known, asked: Sequence[Asked]) -> list[list[Proposal]]:
    """Every label, by how often the user's other records have it; numbers: log of that share (ratings: expected
    quality if ratings were drawn from these shares)."""
    counts = (factorised_classifier.label_counts(known.task, question.profile) for question in asked)
    return [_by_worth(known.task, np.log(of_user + SMOOTHING)) for of_user in counts]


def most_frequent(known: Known, asked: Sequence[Asked]) -> list[list[Proposal]]:
    """The user's most frequent label, or median rating (which may lie between two); other users' without records."""
    return [_texts(controls.most_frequent_label(known.task, question.profile, known.default)) for question in asked]


def nearest_by_words(known: Known, asked: Sequence[Asked]) -> list[list[Proposal]]:
    """Answers of the records with the highest BM25; number: sum of 1 / rank over records with that answer."""
    proposals = []
    for question in asked:
        ranked = retrieve("bm25", known.task, question.query, question.user, NEAREST, known.seed)
        weights: dict[str, float] = collections.defaultdict(float)
        for rank, record in enumerate(ranked, start=1):
            answer = known.task.normalise(known.task.record_answer(record))
            if answer:
                weights[answer] += 1 / rank
        proposed = [Proposal(text=answer, numbers=(weight,)) for answer, weight in weights.items()]
        proposals.append(proposed or _default(known, 1))
    return proposals


def nearest_by_meaning(known: Known, asked: Sequence[Asked]) -> list[list[Proposal]]:
    """Answers of the user's records by likeness of embeddings; numbers: the answer's share of the votes, a record's
    counting exp(likeness / LIKENESS), as a logarithm; and the highest likeness of a record with it.

    Of texts only the nearest few are proposed, of labels all that the profile has.
    """
    task = known.task
    texts = [task.query_text(question.query) for question in asked]
    vectors = _vectors(
        known, [*texts, *(pseudo.input_text(task, record) for question in asked for record in question.profile)]
    )
    proposals = []
    for question, text in zip(asked, texts, strict=True):
        answered = [(task.normalise(task.record_answer(record)), record) for record in question.profile]
        answered = [(answer, record) for answer, record in answered if answer and _valid(task, answer)]
        alike = np.array([vectors[pseudo.input_text(task, record)] @ vectors[text] for _, record in answered])
        votes: dict[str, float] = collections.defaultdict(float)
        highest: dict[str, float] = {}
        for i in np.argsort(-alike, kind="stable"):
            answer = answered[i][0]
            votes[answer] += float(np.exp((alike[i] - alike.max()) / LIKENESS))
            highest.setdefault(answer, float(alike[i]))
        total = sum(votes.values())
        proposed = [
            Proposal(text=answer, numbers=(float(np.log(votes[answer] / total + FEWEST_VOTES)), highest[answer]))
            for answer in sorted(votes, key=lambda answer: -votes[answer])
        ]
        proposals.append((proposed if task.labels else proposed[:NEAREST]) or _default(known, 2))
    return proposals


def by_classifier(known: Known, asked: Sequence[Asked]) -> list[list[Proposal]]:
    """Every label by a classifier of other users' records, the text alone; numbers: log P(l | text) - log P(l) of the
    chosen regression, and of a smoother and a sharper one (ratings: expected quality under P(l | text))."""
    models = known.models["classifier"]
    if not asked or models is None:
        return [[] for _ in asked]
    features = factorised_classifier.query_features(known.task, [question.query for question in asked], known.embed)
    evidence = [factorised_classifier.text_evidence(model, features) for model in models]
    worth = [
        factorised_classifier.worth(known.task, of_model + model.log_prior)
        for of_model, model in zip(evidence, models, strict=True)
    ]
    numbers = np.stack(worth if known.task.kind == "rating" else evidence, axis=-1)
    return [
        [
            Proposal(text=known.task.labels[i], numbers=tuple(of_query[i].tolist()))
            for i in np.argsort(-of_best, kind="stable")
        ]
        for of_best, of_query in zip(worth[0], numbers, strict=True)
    ]


def by_factorised_classifier(known: Known, asked: Sequence[Asked]) -> list[list[Proposal]]:
    """Every label by the shared classifier times the user's label prior; number: log P (ratings: expected quality)."""
    if not asked or known.models["factorised"] is None:
        return [[] for _ in asked]
    queries, users = [question.query for question in asked], [question.user for question in asked]
    scores = factorised_classifier.scores(known.models["factorised"][0], known.task, queries, users, known.embed)
    return [_by_worth(known.task, of_query) for of_query in scores]


def query_text(known: Known, asked: Sequence[Asked]) -> list[list[Proposal]]:
    """The query's own text."""
    return [_texts(controls.query_text(known.task, question.query)) for question in asked]


def first_sentence(known: Known, asked: Sequence[Asked]) -> list[list[Proposal]]:
    """The first sentence of the query's text."""
    return [_texts(controls.query_first_sentence(known.task, question.query)) for question in asked]


def own_words(known: Known, asked: Sequence[Asked]) -> list[list[Proposal]]:
    """The query's text without the words that its user would hardly have used (`rewording`), and whole; number: the
    expected ROUGE-1."""
    model = known.models["own words"]
    if model is None:
        return [[] for _ in asked]
    texts = ((known.task.query_text(question.query), _written(known, question.profile)) for question in asked)
    return [
        [Proposal(text=version, numbers=(worth,)) for version, worth in rewording.versions(model, text, written)]
        for text, written in texts
    ]


def _fit_classifier(known: Known, train: Split) -> tuple[factorised_classifier.FactorisedClassifier, ...]:
    """With chosen settings (those of a model that is known already, where there is one), a smoother and a sharper."""
    if known.models.get("classifier"):
        settings = known.models["classifier"][0].settings
        best = factorised_classifier.fit(known.task, train, known.embed, grid=(settings,))
    else:
        best = factorised_classifier.fit(known.task, train, known.embed, seed=known.seed)
    others = [
        dataclasses.replace(best.settings, regularisation=best.settings.regularisation * factor) for factor in (0.1, 10)
    ]
    return best, *(factorised_classifier.fit(known.task, train, known.embed, grid=(setting,)) for setting in others)


def _fit_own_words(known: Known, train: Split) -> rewording.Rewording:
    pairs = [
        (known.task.query_text(query), query.gold, _written(known, profile_for(query, train.users[query.user_id])))
        for query in train.queries
        if query.gold
    ]
    return rewording.fit(pairs)


def _labelled(task: tasks.Task) -> bool:
    return task.kind in ("classification", "rating") and task.answer is not None


def _generated(task: tasks.Task) -> bool:
    return task.kind in ("generation", "reward")


SOURCES: Mapping[str, Source] = {
    "labels": Source(propose=every_label, suits=_labelled, numbers=("prior",)),
    "most frequent": Source(propose=most_frequent, suits=_labelled),
    "nearest by words": Source(propose=nearest_by_words, suits=lambda task: task.answer is not None, numbers=("rank",)),
    "nearest by meaning": Source(
        propose=nearest_by_meaning,
        suits=lambda task: task.answer is not None and bool(task.inputs),
        numbers=("votes", "likeness"),
    ),
    "classifier": Source(
        propose=by_classifier,
        suits=factorised_classifier.suits,
        numbers=("evidence", "smooth", "sharp"),
        fit=_fit_classifier,
    ),
    "factorised": Source(
        propose=by_factorised_classifier, suits=factorised_classifier.suits, numbers=("worth",), fit=_fit_classifier
    ),
    "query text": Source(propose=query_text, suits=_generated),
    "first sentence": Source(propose=first_sentence, suits=_generated),
    "own words": Source(
        propose=own_words,
        suits=lambda task: task.pseudo_query == "paraphrase",
        numbers=("expected",),
        fit=_fit_own_words,
    ),
}


def suiting(task: tasks.Task, sources: Mapping[str, Source] = SOURCES) -> dict[str, Source]:
    """The sources that can propose something in a task."""
    return {name: source for name, source in sources.items() if source.suits(task)}


def propose(
    known: Known, users: Mapping[str, User], queries: Sequence[Query], sources: Mapping[str, Source]
) -> dict[str, Proposals]:
    """What every source proposes, by source and query id.

    Args:
      known: with the models that `fit_models` made.
      users: who asks, by id; of a pseudo-query's user the sources get the other records alone.
    """
    asked = [Asked(query=query, profile=profile_for(query, users[query.user_id])) for query in queries]
    ids = [query.id for query in queries]
    return {name: dict(zip(ids, source.propose(known, asked), strict=True)) for name, source in sources.items()}


def fit_models(known: Known, train: Split, asked: Split, sources: Mapping[str, Source]) -> Known:
    """Models of the sources that learn from others, fitted on `train` for what `asked` asks.

    Args:
      train: who is learned from; what `asked` asks is removed from their records and questions before.
      asked: other users and their queries, pseudo-queries too.

    Raises:
      DataError: a user is on both sides.
    """
    clean = folds.hold_out(known.task, train, asked).train
    made: dict[Any, Any] = {}  # sources with the same fit share the model
    for source in sources.values():
        if source.fit is not None and source.fit not in made:
            try:
                made[source.fit] = source.fit(known, clean)
            except DataError as error:  # too few users: the source proposes nothing
                _log.warning("%s", error)
                made[source.fit] = None
    models = {name: made[source.fit] for name, source in sources.items() if source.fit is not None}
    records = [record for user in clean.users.values() for record in user.profile]
    default = controls.most_frequent_label(known.task, records) if _labelled(known.task) else ""
    return dataclasses.replace(known, models=models, default=default)


def out_of_fold(
    known: Known, train: Split, queries: Sequence[Query], sources: Mapping[str, Source], *, parts: int = 4
) -> dict[str, Proposals]:
    """What every source proposes for the training users' own queries, models fitted without the asking user.

    Args:
      known: task, embedding; of models of all training users, the settings are taken over.
      train: the training users with their real queries.
      queries: what is asked: their real queries, and pseudo-queries.
      parts: of the training users, each answered by models of the others.
    """
    part_of = parts_of(list(train.users), parts, known.seed)
    by_source: dict[str, Proposals] = {name: {} for name in sources}
    for part in range(parts):
        ids = [user_id for user_id in train.users if part_of[user_id] == part]
        asked = [query for query in queries if part_of[query.user_id] == part]
        if not asked:
            continue
        rest = folds.part(train, [user_id for user_id in train.users if part_of[user_id] != part])
        held = Split(name="left out", users={u: train.users[u] for u in ids}, queries=tuple(asked))
        fitted = fit_models(known, rest, held, sources)
        for name, proposals in propose(fitted, train.users, asked, sources).items():
            by_source[name].update(proposals)
    return by_source


def parts_of(user_ids: Sequence[str], parts: int, seed: int) -> dict[str, int]:
    """user id -> part, drawn; parts differ by at most one user."""
    return {user_id: i % parts for i, user_id in enumerate(draws.shuffled(user_ids, seed=seed, name=str))}


def _by_worth(task: tasks.Task, scores: Float[np.ndarray, " L"]) -> list[Proposal]:
    worth = factorised_classifier.worth(task, scores)
    order = np.argsort(-np.round(worth, 9), kind="stable")
    return [Proposal(text=task.labels[i], numbers=(float(worth[i]),)) for i in order]


def _valid(task: tasks.Task, answer: str) -> bool:
    return not task.labels or answer in task.labels


def _default(known: Known, numbers: int) -> list[Proposal]:
    return [Proposal(text=known.default, numbers=(0.0,) * numbers)] if known.default else []


def _texts(text: str) -> list[Proposal]:
    return [Proposal(text=text)] if text else []


def _written(known: Known, profile: Sequence[Record]) -> list[str]:
    return [known.task.record_answer(record) for record in profile]


def _vectors(known: Known, texts: Sequence[str]) -> dict[str, np.ndarray]:
    """Unit vectors by text."""
    different = list(dict.fromkeys(texts))
    if not different:
        return {}
    return dict(zip(different, peers.unit(known.embed(different)), strict=True))
