"""A control without any LLM for label and rating tasks: a shared classifier times the user's label prior.

    answer = argmax_l  log P(l | text) - log P(l) + w log P(l | user),    P(l | user) = (n_l + a) / (n + a L)

P(l | text) is a logistic regression on the base's features of all training users' records, P(l) the share of a label
among these records, n_l how often the user's own profile has the label. A user without a profile is answered by
P(l | text) alone. A rating is answered by what has the least expected error under these probabilities. The regression's
C, w and a are chosen by the quality of the answers to training users left out in turn; users who are reported are never
looked at.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from hydrajax.data import pseudo, tasks
from hydrajax.methods import logistic
from hydrajax.prompting.contract import Embed
from hydrajax.types import DataError, Query, Record, Split, User, profile_for

REGULARISATION = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
USER_WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
SMOOTHING = (0.1, 0.3, 1.0, 3.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What is chosen on validation users: C of the regression, the prior's weight w and its smoothing a."""

    regularisation: float = 1e-2
    user_weight: float = 1.0
    smoothing: float = 1.0


GRID = tuple(
    Settings(regularisation=c, user_weight=w, smoothing=a)
    for c, w, a in itertools.product(REGULARISATION, USER_WEIGHTS, SMOOTHING)
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FactorisedClassifier:
    """A fitted control.

    Attributes:
      regression: of standardised features; None where the training records have one label alone.
      log_prior: [L], log P(l) among the training records; of no use for labels without a record.
      settings: the chosen ones.
      validation_accuracy: of these settings on the validation users (a maximum over the grid, so an optimistic one);
        of ratings the mean quality.
    """

    regression: Any
    log_prior: np.ndarray
    settings: Settings
    validation_accuracy: float | None = None


def fit(
    task: tasks.Task, train: Split, embed: Embed, *, grid: Sequence[Settings] = GRID, folds: int = 4, seed: int = 0
) -> FactorisedClassifier:
    """Fits the control on training users, its settings chosen on training users left out in turn.

    Validation asks the left-out users' real questions where these have golds, and otherwise their records, each with
    the rest of the profile. A text that is asked there is removed from the records that the fold is fitted on.

    Args:
      task: a label or rating task whose records hold an input and a label.
      train: the training users with their profiles and queries. Never the users who are reported.
      embed: texts -> features [N, D].
      grid: settings to choose from; the first of equally good ones is taken.
      folds: parts of the training users that are left out in turn.
      seed: of the division into folds.

    Raises:
      DataError: the task has no labels in its records, or no training record has one.
    """
    if not suits(task):
        raise DataError(
            f"task {task.name} ({task.kind}) cannot have a factorised classifier, expected a classification or rating "
            "task whose records hold an input and a label"
        )
    records = [(user.id, record) for user in train.users.values() for record in user.profile]
    target = np.array([_label(task, record) for _, record in records], int)
    records = [entry for entry, label in zip(records, target, strict=True) if label >= 0]
    target = target[target >= 0]
    if not len(target):
        raise DataError(f"no record of the {len(train.users)} training users has a label of task {task.name}")
    texts = [pseudo.input_text(task, record) for _, record in records]
    features = np.asarray(embed(texts), np.float64)
    asked = [query for query in train.queries if _index(task, query.gold) >= 0] or [
        pseudo.from_record(task, train.users[user_id], record) for user_id, record in records
    ]
    owners = [user_id for user_id, _ in records]
    settings, accuracy = grid[0], None
    if len(grid) > 1:
        settings, accuracy = _choose(task, train, asked, (texts, owners, features, target), embed, grid, folds, seed)
    fitted = _fit(task, features, target, settings)
    return dataclasses.replace(fitted, validation_accuracy=accuracy)


def suits(task: tasks.Task) -> bool:
    """Whether the task's records hold an input and a label."""
    return task.kind in ("classification", "rating") and task.answer is not None and bool(task.inputs)


def predict(
    model: FactorisedClassifier, task: tasks.Task, queries: Sequence[Query], users: Sequence[User], embed: Embed
) -> list[str]:
    """The control's answers.

    Args:
      queries: real ones or pseudo-queries, whose own record is left out of the label prior.
      users: who asks, one a query.
      embed: the function that the model was fitted with.
    """
    if not queries:
        return []
    return [task.labels[i] for i in np.argmax(worth(task, scores(model, task, queries, users, embed)), axis=-1)]


def scores(
    model: FactorisedClassifier, task: tasks.Task, queries: Sequence[Query], users: Sequence[User], embed: Embed
) -> Float[np.ndarray, "N L"]:
    """What is maximised (see above) of every query and label; arguments as of `predict`, at least one query."""
    counts = np.stack([label_counts(task, profile_for(q, user)) for q, user in zip(queries, users, strict=True)])
    return _scores(text_evidence(model, query_features(task, queries, embed)), counts, model.log_prior, model.settings)


def text_evidence(model: FactorisedClassifier, features: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N L"]:
    """log P(l | text) - log P(l) of every text and label; 0 for labels that no training record has.

    Args:
      features: of the texts, for example `query_features`.
    """
    evidence = np.zeros((len(features), len(model.log_prior)))
    if model.regression is not None:
        known = model.regression.classes_
        evidence[:, known] = logistic.log_probabilities(model.regression, features) - model.log_prior[known]
    return evidence


def query_features(task: tasks.Task, queries: Sequence[Query], embed: Embed) -> Float[np.ndarray, "N D"]:
    """Features of the queries' texts."""
    return np.asarray(embed([task.query_text(query) for query in queries]), np.float64)


def worth(task: tasks.Task, logits: Float[np.ndarray, "*N L"]) -> Float[np.ndarray, "*N L"]:
    """What answering each label is worth where P is the softmax of the logits: log P(l), of ratings E[quality]."""
    log_p = logistic.log_softmax(logits)
    if task.kind != "rating":
        return log_p
    return np.exp(log_p) @ _closeness(task)


def label_counts(task: tasks.Task, profile: Sequence[Record]) -> Float[np.ndarray, " L"]:
    """How often a profile has each label."""
    labels = [label for label in (_label(task, record) for record in profile) if label >= 0]
    return np.bincount(np.array(labels, int), minlength=len(task.labels)).astype(float)


def _choose(task, train, asked, rows, embed, grid, folds, seed) -> tuple[Settings, float | None]:
    texts, owners, features, target = rows
    users = sorted(train.users)
    fold_of = dict(
        zip(users, np.random.default_rng(seed).permutation(len(users)) % min(folds, len(users)), strict=True)
    )
    right = np.zeros(len(grid))
    judged = 0
    asked_features = query_features(task, asked, embed)
    for fold in sorted(set(fold_of.values())):
        held = [i for i, query in enumerate(asked) if fold_of[query.user_id] == fold]
        held_texts = {task.query_text(asked[i]) for i in held}
        kept = [i for i, text in enumerate(texts) if fold_of[owners[i]] != fold and text not in held_texts]
        if not held or not kept:
            continue
        gold = np.array([_index(task, asked[i].gold) for i in held])
        counts = np.stack([label_counts(task, profile_for(asked[i], train.users[asked[i].user_id])) for i in held])
        fitted: dict[float, tuple[np.ndarray, np.ndarray]] = {}
        for g, settings in enumerate(grid):
            if settings.regularisation not in fitted:
                model = _fit(task, features[kept], target[kept], settings)
                fitted[settings.regularisation] = text_evidence(model, asked_features[held]), model.log_prior
            ratio, log_prior = fitted[settings.regularisation]
            answers = np.argmax(worth(task, _scores(ratio, counts, log_prior, settings)), axis=-1)
            right[g] += np.sum(answers == gold) if task.kind != "rating" else np.sum(_closeness(task)[answers, gold])
        judged += len(held)
    if not judged:
        return grid[0], None
    return grid[int(np.argmax(right))], float(right.max() / judged)


def _closeness(task: tasks.Task) -> Float[np.ndarray, "L L"]:
    """Quality of each rating as the answer where another is the gold."""
    ratings = np.array([float(label) for label in task.labels])
    lowest, highest = task.scale
    return 1.0 - np.abs(ratings[:, None] - ratings) / (highest - lowest)


def _fit(task: tasks.Task, features: np.ndarray, target: np.ndarray, settings: Settings) -> FactorisedClassifier:
    counts = np.bincount(target, minlength=len(task.labels))
    several = np.count_nonzero(counts) > 1
    return FactorisedClassifier(
        regression=logistic.fit(features, target, c=settings.regularisation, standardise=True) if several else None,
        log_prior=np.log(np.maximum(counts, 1) / counts.sum()),
        settings=settings,
    )


def _scores(ratio: np.ndarray, counts: np.ndarray, log_prior: np.ndarray, settings: Settings) -> np.ndarray:
    total = counts.sum(axis=-1, keepdims=True)
    log_user = np.log((counts + settings.smoothing) / (total + settings.smoothing * counts.shape[-1]))
    return ratio + np.where(total > 0, settings.user_weight * log_user, log_prior)


def _label(task: tasks.Task, record: Record) -> int:
    return _index(task, task.record_answer(record))


def _index(task: tasks.Task, answer: str | None) -> int:
    label = task.normalise(answer or "")
    return task.labels.index(label) if label in task.labels else -1
