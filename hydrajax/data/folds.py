"""Dividing users: validation users, smaller draws, folds; and what has to be removed so that nothing leaks.

A question that is held out may be somebody else's record: a film that others tagged, a paper of a co-author. Whatever
looks at other users could then copy the answer. So what a held-out question asks is removed from the records and the
questions of the training users, and from the profiles of the other held-out users. Held-out questions themselves stay,
all of them: their golds teach nobody.
"""

import collections
import dataclasses
import fractions
from collections.abc import Collection, Iterable, Mapping, Sequence

from hydrajax.data import draws, pseudo, tasks
from hydrajax.types import DataError, Query, Record, Split, User


@dataclasses.dataclass(frozen=True, kw_only=True)
class Removed:
    """How much was removed from one division, since a held-out question asks it.

    Attributes:
      train_questions: questions of training users.
      train_records: records of training users' profiles.
      held_out_records: records of held-out users' profiles, because of another held-out user's question.
    """

    train_questions: int = 0
    train_records: int = 0
    held_out_records: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fold:
    """Training users, held-out users, and what was removed to keep them apart."""

    train: Split
    held_out: Split
    removed: Removed


def validation_cut(split: Split, amount: float | int, seed: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The ids of the users to fit on, and of those to choose settings on.

    Only users with queries are cut off, since the others can decide nothing; both parts are in the split's order.

    Args:
      split: the training users.
      amount: how many validation users: a share of the users with queries if it is below 1, else a number. A share is
        rounded up.

    Raises:
      ValueError: `amount` leaves no user with queries on one side.
    """
    asked = _asked_users(split)
    # A share of .2 is one in five, also where .2 in binary is a little more.
    exact = fractions.Fraction(amount).limit_denominator(10**6)
    number = -(-len(asked) * exact.numerator // exact.denominator) if amount < 1 else int(amount)
    if not 0 < number < len(asked):
        raise ValueError(
            f"{amount} of the {len(asked)} users with queries in split {split.name!r} make {number} validation users, "
            "expected at least one on either side"
        )
    cut = set(draws.shuffled(asked, seed=seed, name=str)[:number])
    return tuple(u for u in split.users if u not in cut), tuple(u for u in split.users if u in cut)


def subset(split: Split, *, users: int | None, queries_per_user: int | None = None, seed: int) -> Split:
    """A draw of users that have queries, and of their queries. A smaller draw is the beginning of a larger one.

    Args:
      split: drawn from.
      users: how many, None for all that have queries.
      queries_per_user: at most how many of each, None for all.
      seed: of both draws.

    Returns:
      users in the order of the draw, their queries in the order of the file.

    Raises:
      DataError: there are fewer users with queries than asked for.
    """
    asked = _asked_users(split)
    if users is not None and not asked:
        raise DataError(f"split {split.name!r} has {len(split.users)} users and no question of theirs, expected some")
    if users is not None and not 0 < users <= len(asked):
        raise DataError(
            f"split {split.name!r} has {len(asked)} users with queries, got {users} users to draw, "
            f"expected 1 to {len(asked)}"
        )
    if queries_per_user is not None and queries_per_user < 1:
        raise ValueError(f"queries_per_user is {queries_per_user}, expected None or at least 1")
    whole = part(split, draws.shuffled(asked, seed=seed, name=str)[:users])
    of_user: dict[str, list[str]] = {user_id: [] for user_id in whole.users}
    for query in draws.shuffled(whole.queries, seed=seed, name=lambda query: query.id):
        of_user[query.user_id].append(query.id)
    kept = {query_id for ids in of_user.values() for query_id in ids[:queries_per_user]}
    return dataclasses.replace(whole, queries=tuple(query for query in whole.queries if query.id in kept))


def part(split: Split, user_ids: Iterable[str], name: str | None = None) -> Split:
    """The users with these ids, in their order, and their queries.

    Raises:
      DataError: the split has no such user.
    """
    ids = list(user_ids)
    unknown = [user_id for user_id in ids if user_id not in split.users]
    if unknown:
        raise DataError(f"split {split.name!r} has no user {unknown[0]!r}")
    users = {user_id: split.users[user_id] for user_id in ids}
    queries = tuple(query for query in split.queries if query.user_id in users)
    return Split(name=name or split.name, users=users, queries=queries)


def hold_out(task: tasks.Task, train: Split, held_out: Split) -> Fold:
    """Removes what a held-out question asks from everybody else's records and from the training questions.

    Two texts are the same if they are so without regard to capitals and blanks. Compared are the bare inputs of the
    question with those of other questions and records. Where records hold no input (LaMP_7), the record's text is
    compared with the question and with its gold; of LaMP_1's questions the title of the asking paper is compared.
    Users stay, also those who lose all records or questions.

    Raises:
      DataError: a user is on both sides.
    """
    both = sorted(set(train.users) & set(held_out.users))
    if both:
        raise DataError(f"user {both[0]!r} is in {train.name!r} and in {held_out.name!r}, expected different users")
    askers: dict[str, set[str]] = collections.defaultdict(set)
    for query in held_out.queries:
        for text in _held_out_texts(task, query):
            askers[text].add(query.user_id)

    def asked_by_another(record: Record, user_id: str) -> bool:
        return bool(askers.get(_record_text(task, record), set()) - {user_id})

    train_users, train_records = _without(train.users, asked_by_another)
    held_users, held_records = _without(held_out.users, asked_by_another)
    queries = tuple(query for query in train.queries if not any(t in askers for t in _question_texts(task, query)))
    return Fold(
        train=Split(name=train.name, users=train_users, queries=queries),
        held_out=Split(name=held_out.name, users=held_users, queries=held_out.queries),
        removed=Removed(
            train_questions=len(train.queries) - len(queries),
            train_records=train_records,
            held_out_records=held_records,
        ),
    )


def asked_of_own_records(task: tasks.Task, split: Split) -> tuple[Query, ...]:
    """The questions that ask what a record of the asker's own profile already answers: looking it up is enough there.

    Texts are compared as in `hold_out`.
    """
    texts = {
        user_id: {_record_text(task, record) for record in user.profile} - {""} for user_id, user in split.users.items()
    }
    return tuple(query for query in split.queries if texts[query.user_id] & set(_held_out_texts(task, query)))


def k_folds(task: tasks.Task, splits: Sequence[Split], *, folds: int, seed: int) -> tuple[Fold, ...]:
    """All users of all splits, re-divided: every user is held out in exactly one fold, and each fold is cleaned.

    Args:
      task: decides what texts are compared.
      splits: usually train and dev, with different users.
      folds: how many; users with queries are divided evenly, and so are those without.

    Raises:
      DataError: a user or a query id is in two splits, or there are fewer users with queries than folds.
    """
    whole = union(splits)
    asked = _asked_users(whole)
    if not 2 <= folds <= len(asked):
        raise DataError(
            f"{len(asked)} users with queries cannot be divided into {folds} folds, expected 2 to {len(asked)}"
        )
    silent = [user_id for user_id in whole.users if user_id not in set(asked)]
    order = [*draws.shuffled(asked, seed=seed, name=str), *draws.shuffled(silent, seed=seed, name=str)]
    fold_of = {user_id: place % folds for place, user_id in enumerate(order)}
    return tuple(
        hold_out(
            task,
            part(whole, [u for u in whole.users if fold_of[u] != fold], "train"),
            part(whole, [u for u in whole.users if fold_of[u] == fold], "dev"),
        )
        for fold in range(folds)
    )


def union(splits: Sequence[Split]) -> Split:
    """The users and questions of all splits.

    Raises:
      DataError: a user or a question id is in two of them.
    """
    users: dict[str, User] = {}
    queries: dict[str, Query] = {}
    for split in splits:
        for query in split.queries:
            if query.id in queries:
                raise DataError(f"question {query.id!r} is in two splits, the second is {split.name!r}")
            queries[query.id] = query
        for user_id, user in split.users.items():
            if user_id in users:
                raise DataError(f"user {user_id!r} is in two splits, the second is {split.name!r}")
            users[user_id] = user
    return Split(name="all", users=users, queries=tuple(queries.values()))


def _without(users: Mapping[str, User], unwanted) -> tuple[dict[str, User], int]:
    """The users without their unwanted records, and the number of these."""
    kept, removed = {}, 0
    for user_id, user in users.items():
        profile = tuple(record for record in user.profile if not unwanted(record, user_id))
        removed += len(user.profile) - len(profile)
        kept[user_id] = user if len(profile) == len(user.profile) else dataclasses.replace(user, profile=profile)
    return kept, removed


def _question_texts(task: tasks.Task, query: Query) -> Collection[str]:
    text = query.inputs.get("title", "") if task.pseudo_query == "citation" else task.query_text(query)
    return {pseudo.same_text(text)} - {""}


def _held_out_texts(task: tasks.Task, query: Query) -> Collection[str]:
    gold = pseudo.same_text(query.gold or "") if task.pseudo_query == "paraphrase" else ""
    return {*_question_texts(task, query), gold} - {""}


def _record_text(task: tasks.Task, record: Record) -> str:
    return pseudo.same_text(pseudo.input_text(task, record))


def _asked_users(split: Split) -> list[str]:
    """The ids of the users that have queries, in the split's order."""
    asked = {query.user_id for query in split.queries}
    return [user_id for user_id in split.users if user_id in asked]
