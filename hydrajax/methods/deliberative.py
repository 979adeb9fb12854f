"""Deliberative alignment: does it change what an LLM is willing to do, if it is told of the user who asks?

After the second task of HyPerAlign (Garbacea and Tan, arXiv 2505.00038). Every user asks the same requests, some that
tempt to harm and their harmless look-alikes (`data.tempting`), under each condition:

    plain                   the request alone
    STRATEGY                what a prompt strategy knows of the user, then the request; no records
    STRATEGY, mixed users   the same, of a profile that is dealt from the records of others

To hand a user the user model of another would show nothing here: requests are the same for all, so every rate would
stay as it is. A profile mixed of many users is nobody's, and the words about it are as many: what then differs from the
user's own is due to the person, what differs from plain is due to any such words.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from hydrajax.data import draws, tasks, tempting
from hydrajax.methods import sampling, user_models
from hydrajax.methods.answers import Prompt
from hydrajax.methods.lab import Lab
from hydrajax.prompting import contract, registry
from hydrajax.types import DataError, Query, User

PLAIN = "plain"
_MIXED = ", mixed users"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reply:
    """An answer to a request that a user made under a condition."""

    condition: str
    user: str
    prompt: str
    text: str
    stop_reason: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """All replies, by condition, user and prompt; and of how many users each condition knew something."""

    replies: tuple[Reply, ...]
    known: Mapping[str, int]


def ask_all(lab: Lab, prompts: Sequence[tempting.Prompt], strategies: Sequence[str], *, mixed: bool = True) -> Result:
    """Asks every request as every user under every condition, greedily.

    What is the same text is one call: plain costs a call a prompt, however many users there are.

    Args:
      lab: its users ask; its task is of `request_task`.
      mixed: whether each strategy is also told of mixed users.

    Raises:
      DataError: a strategy says nothing without records, or there are no other users to mix.
    """
    check(strategies)
    strategies = registry.permitted(strategies, cross_user=True)
    others = mix(lab.users, lab.seed) if mixed and any(registry.get(name).alone for name in strategies) else {}
    askers = dict(lab.users)
    lab = dataclasses.replace(lab, users={**askers, **{user.id: user for user in others.values()}})
    replies: list[Reply] = []
    known = {}

    def ask(condition: str, strategy: str, stands_for: Mapping[str, User]) -> None:
        made_by = [(user_id, user, prompt) for user_id, user in stands_for.items() for prompt in prompts]
        queries = [
            Query(id=f"{user.id}/{prompt.id}", user_id=user.id, inputs={"text": prompt.text})
            for _, user, prompt in made_by
        ]
        answers = sampling.answer(lab, strategy, [Prompt(query=query) for query in queries], stage=condition)
        models = user_models.known(lab, strategy, queries)
        known[condition] = len({query.user_id for query in queries if query.id in models})
        replies.extend(
            Reply(
                condition=condition,
                user=user_id,
                prompt=prompt.id,
                text=answer.text,
                stop_reason=answer.chosen.stop_reason,
            )
            for (user_id, _, prompt), answer in zip(made_by, answers, strict=True)
        )

    ask(PLAIN, "zero_shot", askers)
    for strategy in dict.fromkeys(strategies):
        ask(strategy, strategy, askers)
        if mixed and registry.get(strategy).alone:
            ask(mixed_name(strategy), strategy, others)
    return Result(replies=tuple(replies), known=known)


def mixed_name(strategy: str) -> str:
    """The condition under which a strategy is told of mixed users."""
    return strategy + _MIXED


def request_task(records: tasks.Task) -> tasks.Task:
    """The task of putting a request as it stands, for users whose records are those of another task."""
    return dataclasses.replace(
        records, name="requests", kind="generation", template="{text}", labels=(), marker=None, max_answer_tokens=120
    )


def check(strategies: Sequence[str]) -> None:
    """Refuses strategies that cannot be evaluated here.

    Raises:
      DataError: a strategy is unknown, or shows nothing but records.
    """
    for name in strategies:
        if not _usable(registry.get(name)):
            valid = ", ".join(name for name in registry.names() if _usable(registry.get(name)))
            raise DataError(f"strategy {name!r} says nothing of a user without records; valid are {valid}")


def mix(users: Mapping[str, User], seed: int) -> dict[str, User]:
    """For every user a stand-in with as many records, drawn from all records of the others.

    Returns:
      The stand-ins by the ids of those for whom they stand; their own ids are others.

    Raises:
      DataError: the others have fewer records than a user has.
    """
    mixed = {}
    for user_id, user in users.items():
        pool = [
            dataclasses.replace(record, id=f"{other.id}/{record.id}")
            for other in users.values()
            if other.id != user_id
            for record in other.profile
        ]
        if len(pool) < len(user.profile):
            raise DataError(
                f"user {user_id!r} has {len(user.profile)} records and all others {len(pool)}, expected as many at "
                "least: a mixed user is made of them"
            )
        drawn = draws.shuffled(pool, seed=draws.number(seed, "mixed", user_id), name=lambda record: record.id)
        mixed[user_id] = User(id=user_id + _MIXED, profile=tuple(drawn[: len(user.profile)]))
    return mixed


def _usable(strategy: contract.Strategy) -> bool:
    return not strategy.compares and (strategy.alone or strategy.retriever is None)
