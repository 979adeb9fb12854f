"""Pseudo-queries: a user's past records asked again, so that the user's own answers say what is right.

How a record becomes a query is the task's (`Task.pseudo_query`):

`record`      The inputs are the record's own fields, the gold is its answer (LaMP_2N to LaMP_6).

`paraphrase`  Records hold only what the user wrote (LaMP_7: a tweet), and a real query asks to rewrite a paraphrase of
              it. The query comes back with the record's text as its input *and* as its gold. Before it is asked, its
              input has to be replaced by an LLM's paraphrase: `with_inputs(query, text)`. Asked as it is, copying
              the input would be the right answer.

`citation`    LaMP_1 asks which of two references a paper relates to, and records hold papers without references. The
              stand-in for the related reference is one of the author's own papers, set against a paper of another
              author: own papers are nearer to each other than references are, so this is an easier question than the
              real one. The record that must not be seen (`record_id`) is the one that stands for the reference, since
              finding its title in the profile would give the answer away. The paper that asks is another record; it
              stays in the profile, where it says no more about the two options than the query itself does.

Whatever the way, a record is never drawn if its input or answer is empty, or if another record of the profile has the
same input: left out under one id, it would still be seen under the other.
"""

import collections
import dataclasses
from collections.abc import Iterable

from hydrajax.data import draws, tasks
from hydrajax.types import DataError, Query, Record, User


def pseudo_queries(
    task: tasks.Task, user: User, count: int | None, *, seed: int, population: Iterable[User] = ()
) -> tuple[Query, ...]:
    """Draws records of a user's profile without replacement and asks them as queries.

    Args:
      task: decides how.
      user: whose profile; the draw does not depend on other users.
      count: how many at most, None for all. The first 4 of 8 are the draw of 4.
      population: for `citation` tasks, the users among whom the other author is found; use training users. What the
        user's own profile holds is never taken from others, which are read in the order of their ids.

    Returns:
      queries with `pseudo_id`, gold, and `record_id`: `types.profile_for` leaves that record out.

    Raises:
      DataError: a `citation` task without any paper of another author.
    """
    if count is not None and count < 0:
        raise ValueError(f"count is {count}, expected None or a number of pseudo-queries from 0 up")
    order = draws.shuffled(askable(task, user.profile), seed=draws.number(seed, user.id), name=lambda record: record.id)
    if task.pseudo_query == "citation":
        return _citations(task, user, order, count, seed, population)
    return tuple(from_record(task, user, record) for record in order[:count])


def askable(task: tasks.Task, profile: Iterable[Record]) -> list[Record]:
    """The records with an input and an answer whose input no other record of the profile has."""
    records = list(profile)
    texts = collections.Counter(same_text(input_text(task, record)) for record in records)
    return [record for record in records if _complete(task, record) and texts[same_text(input_text(task, record))] == 1]


def pseudo_id(user_id: str, record_id: str) -> str:
    """The id of a record asked as a query: no question of the data has it, and no other record."""
    return f"pseudo:{user_id.replace('%', '%25').replace('/', '%2F')}/{record_id}"


def with_inputs(query: Query, text: str) -> Query:
    """The query with another text in its only slot: how a paraphrase is put in.

    Raises:
      ValueError: the query has more slots than one, or the text is empty.
    """
    if len(query.inputs) != 1:
        raise ValueError(f"query {query.id!r} has the slots {', '.join(query.inputs)}, expected exactly one")
    if not text.strip():
        raise ValueError(f"query {query.id!r} was given an empty text as its input")
    return dataclasses.replace(query, inputs=dict.fromkeys(query.inputs, text.strip()))


def same_text(text: str) -> str:
    """What two texts are compared by: no capitals, single blanks."""
    return " ".join(text.casefold().split())


def input_text(task: tasks.Task, record: Record) -> str:
    """What the record asks as a query; without inputs, what the user wrote."""
    if not task.inputs:
        return task.record_answer(record)
    return " ".join(filter(None, task.record_inputs(record).values()))


def _complete(task: tasks.Task, record: Record) -> bool:
    needed = [field for field in task.inputs.values() if field not in task.optional]
    texts = [task.record_answer(record), input_text(task, record), *(record.fields.get(field, "") for field in needed)]
    return all(text.strip() for text in texts)


def from_record(task: tasks.Task, user: User, record: Record) -> Query:
    """The record asked as a query; where records hold no input, what the user wrote is both input and gold."""
    gold = task.record_answer(record)
    inputs = task.record_inputs(record)
    return Query(
        id=pseudo_id(user.id, record.id),
        user_id=user.id,
        inputs=inputs or {task.slots[0]: gold},
        gold=gold,
        record_id=record.id,
    )


def _citations(
    task: tasks.Task, user: User, order: list[Record], count: int | None, seed: int, population: Iterable[User]
) -> tuple[Query, ...]:
    """Each record in turn as the related reference of another one of the same author."""
    if len(order) < 2 or count == 0:
        return ()
    known = {same_text(task.record_answer(record)) for record in user.profile}
    others = {
        same_text(title): title
        for other in sorted(population, key=lambda other: other.id)
        if other.id != user.id
        for title in map(task.record_answer, other.profile)
        if title.strip()
    }
    strange = [title for key, title in others.items() if key not in known]
    if not strange:
        raise DataError(
            f"user {user.id!r}: pseudo-queries of {task.name} set the user's papers against those of other authors, "
            "and the population holds none"
        )
    queries = []
    for place, record in enumerate(order[:count]):
        related, name = task.record_answer(record), f"{user.id}/{record.id}"
        other = strange[draws.number(seed, name, "other") % len(strange)]
        first = draws.number(seed, name, "order") % 2 == 0
        asking = task.record_answer(order[(place + 1) % len(order)])
        a, b = (related, other) if first else (other, related)
        gold = task.labels[0] if first else task.labels[1]
        inputs = {"title": asking, "a": a, "b": b}
        queries.append(dataclasses.replace(from_record(task, user, record), inputs=inputs, gold=gold))
    return tuple(queries)
