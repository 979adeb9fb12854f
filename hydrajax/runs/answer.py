"""A trained run used: one question of one user, from retrieval to the chosen answer."""

import dataclasses
import json
import pathlib

import numpy as np

from hydrajax.data import tasks
from hydrajax.methods import hydra
from hydrajax.runs import folder, load, saved, workbench
from hydrajax.runs.machine import Machine
from hydrajax.types import Candidate, DataError, Query, Record, User


@dataclasses.dataclass(frozen=True, kw_only=True)
class Explained:
    """An answer and how it came about.

    Attributes:
      text: the chosen candidate, normalised.
      records: shown to the LLM, most relevant first.
      candidates: the pool.
      scores: s_A of each, [len(candidates)].
      personal: whether the user has a head; otherwise the pooled head chose.
      known: whether the user is in the run's data.
    """

    text: str
    records: tuple[Record, ...]
    candidates: tuple[Candidate, ...]
    scores: np.ndarray
    personal: bool
    known: bool


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
      user_id: a user of the run's data. Anybody else is a user without a profile: zero-shot prompt and pooled head.
      text: the bare input; for a task with several slots, JSON with one text per slot.
      llm: another LLM than the run's.

    Raises:
      DataError: no finished run, or an input that does not fit the task.
    """
    config = folder.read_config(run)
    if config.parts():
        raise DataError(
            f"{run}: holds {len(config.parts())} folds; answer with one of them, {run / 'fold-0'} for example"
        )
    data = load.read(config)
    users = data.users
    known = user_id in users
    users.setdefault(user_id, User(id=user_id))
    query = Query(id=f"asked/{user_id}", user_id=user_id, inputs=_inputs(data.task, text))
    with workbench.opened(machine, [llm or config.llm], config.encoder) as bench:
        kept = saved.load(run / "scorers", bench.encode)
        lab = bench.lab(data.task, users, config.settings, seed=config.seed, reward=data.reward)
        records = hydra.rerank(lab, kept.reranker, [query], kept.shown)
        pools = lab.pools(
            "rag", records, [query], samples=config.settings.samples, source="reranked", stage="candidates"
        )
    pool = pools[query.id]
    scores = hydra.candidate_scores(lab, kept.adapter, [query], pools)[query.id]
    return Explained(
        text=data.task.normalise(pool[int(np.argmax(scores))].text),
        records=records[query.id],
        candidates=tuple(pool),
        scores=scores,
        personal=user_id in getattr(kept.adapter, "user_rows", {}),
        known=known,
    )


def _inputs(task: tasks.Task, text: str) -> dict[str, str]:
    if len(task.slots) == 1:
        if not text.strip():
            raise DataError("the input is empty, expected the text that is asked about")
        return {task.slots[0]: text.strip()}
    try:
        inputs = json.loads(text)
    except ValueError as error:
        raise DataError(f"task {task.name} asks with {', '.join(task.slots)}: give JSON with these texts") from error
    if not isinstance(inputs, dict) or set(inputs) != set(task.slots):
        raise DataError(f"the input has not exactly the texts {', '.join(task.slots)}")
    return {slot: str(inputs[slot]) for slot in task.slots}
