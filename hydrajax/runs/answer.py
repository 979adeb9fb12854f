"""A trained run used: one question of one user, from retrieval to the chosen answer."""

import contextlib
import dataclasses
import json
import pathlib
from typing import Any

import jax

from hydrajax.data import parsing, tasks
from hydrajax.methods import hydra, scorers
from hydrajax.methods.answers import Answer
from hydrajax.runs import added, folder, load, saved, workbench
from hydrajax.runs.machine import Machine
from hydrajax.types import DataError, Query, User


@dataclasses.dataclass(frozen=True, kw_only=True)
class Explained(Answer):
    """An answer and how it came about; its scores are the adapter's.

    Attributes:
      prediction: the answer, normalised.
      personal: whether the user has a head; otherwise the pooled head chose.
      ranked_by, chosen_by: whose head chose the records, and the answer; where it is not the user's own, why.
      known: whether the user is in the run's data, or came to the run later (`personalise`).
      taught: whether the run's adapter has learned anything; otherwise the first candidate is taken.
    """

    prediction: str
    personal: bool
    ranked_by: str
    chosen_by: str
    known: bool
    taught: bool


def answer(
    run: pathlib.Path,
    user_id: str,
    text: str,
    *,
    llm: str | None = None,
    machine: Machine = Machine(),  # noqa: B008
) -> Explained:
    """Answers as the run's HYDRA does.

    Args:
      run: folder of a finished run.
      user_id: a user of the run's data, or one who came to the run later. Anybody else is a user without a profile:
        zero-shot prompt and pooled head.
      text: the bare input; for a task with several slots, JSON with one text per slot.
      llm: another LLM than the run's.

    Raises:
      DataError: no finished run, or an input that does not fit the task; the user came later, and the heads are damaged
        or not those of the run's scorers.
    """
    config = folder.read_undivided(run)
    data = load.read(config)
    users = data.users
    later = None if user_id in users else added.find(run, user_id)
    if later is not None and later.system != added.digest_of_system(run):
        saved.check_whole(run / "scorers")
        raise DataError(
            f"{run}: user {user_id!r} was personalised for other scorers than it has now, which were changed or "
            "computed anew; personalise again"
        )
    known = user_id in users or later is not None
    users.setdefault(user_id, User(id=user_id) if later is None else later.user)
    query = Query(id=f"asked/{user_id}", user_id=user_id, inputs=_inputs(data.task, text))
    with workbench.opened(machine, [llm or config.llm], config.encoder) as bench:
        system = saved.load(run / "scorers", bench.encode)
        if later is not None:
            system = later.joined(system)
        lab = bench.lab(data.task, users, config.settings, seed=config.seed, reward=data.reward)
        (answered,) = hydra.answer(lab, system, [query])
    return Explained(
        **{field.name: getattr(answered, field.name) for field in dataclasses.fields(answered)},
        prediction=data.task.normalise(answered.text),
        personal=user_id in getattr(system.adapter, "user_rows", {}),
        ranked_by=_whose(system.reranker, users[user_id]),
        chosen_by=_whose(system.adapter, users[user_id]),
        known=known,
        taught=not isinstance(system.adapter, scorers.Untrained),
    )


def _whose(scorer: scorers.TrainedScorer, user: User) -> str:
    """Whose head scores what is asked by this user, and why it is not the user's own."""
    if not isinstance(scorer, scorers.PersonalScorer):
        return "nobody: nothing was learned"
    if user.id in scorer.user_rows:
        if jax.tree.leaves(scorer.heads):
            return "the user's own head"
        return f"the head of everybody (family {scorer.fitted.config.family!r} has nothing of a user's own)"
    if not user.profile:
        why = "the user has no records"
    elif not scorer.user_rows:
        why = "no user has one: validation users were served best without"
    else:
        why = "the user's records teach nothing: no two answers to them differ in quality"
    return f"the pooled head ({why})"


def _inputs(task: tasks.Task, text: str) -> dict[str, str]:
    if len(task.slots) == 1:
        (slot,) = task.slots
        if not text.strip():
            raise DataError("the input is empty, expected the text that is asked about")
        given = None
        with contextlib.suppress(ValueError):
            given = json.loads(text)
        return _texts(task, given) if isinstance(given, dict) else {slot: text.strip()}
    try:
        inputs = json.loads(text)
    except ValueError as error:
        raise DataError(f"task {task.name} asks with {', '.join(task.slots)}: give JSON with these texts") from error
    return _texts(task, inputs)


def _texts(task: tasks.Task, inputs: Any) -> dict[str, str]:
    """The texts by slot of what was given as JSON."""
    if not isinstance(inputs, dict) or set(inputs) != set(task.slots):
        got = f", got {', '.join(map(str, inputs)) or 'none'}" if isinstance(inputs, dict) else ""
        raise DataError(f"the input has not exactly the texts {', '.join(task.slots)}{got}")
    texts = {slot: parsing.text_of(inputs[slot]) or "" for slot in task.slots}
    for slot, given in texts.items():
        if not given.strip():
            raise DataError(f"the input has {inputs[slot]!r:.80} as {slot!r}, expected a text")
    return texts
