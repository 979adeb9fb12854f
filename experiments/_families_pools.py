"""The candidates of `families`: who is drawn from a task, what the LLM is asked, which answers make a pool."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Literal

from hydrajax.data import folds, lamp, tasks
from hydrajax.llm import sampler
from hydrajax.methods import answers, lab, sampling, settings
from hydrajax.prompting import contract
from hydrajax.types import Candidate, Query, Split

Pool = Literal["sampled", "labels"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Size:
    """How much of a task is used.

    Attributes:
      users: how many of LaMP's training and dev users, None for all that have questions.
      queries: questions of each at most.
      pseudo: p, records of each that are asked as questions to learn from.
      shown: k, records in a prompt.
      alone: most relevant records that are also shown alone.
      seeds: initialisations of the families in `SEEDED`; answers are the same for all.
    """

    users: tuple[int | None, int | None]
    queries: int
    pseudo: int
    shown: int = 0
    alone: int = 0
    seeds: int = 3


# Users, prompts and sample numbers are those of `lamp_small` where they can be: its store then holds half the answers.
SIZES: Mapping[Pool, Mapping[str, Size]] = {
    "sampled": {
        "LaMP_2M": Size(users=(None, None), queries=2, pseudo=3, shown=2, alone=4),
        "LaMP_3": Size(users=(40, 25), queries=2, pseudo=3, shown=4),
        "LaMP_2N": Size(users=(40, 25), queries=1, pseudo=3, shown=4, alone=4),
    },
    "labels": {
        "LaMP_2M": Size(users=(None, None), queries=3, pseudo=8, seeds=1),
        "LaMP_3": Size(users=(40, 25), queries=2, pseudo=8, seeds=1),
        "LaMP_2N": Size(users=(40, 25), queries=1, pseudo=8, seeds=1),
    },
}
SMOKE = Size(users=(8, 4), queries=1, pseudo=2, shown=1, alone=1, seeds=1)
SAMPLES = 2  # besides the greedy answer, of each prompt


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bench:
    """A task with its candidates.

    Attributes:
      lab: judges.
      whole: everybody, cleaned of what others' questions ask.
      learned: records asked as questions, each user's in the order of the draw.
      pools: candidates by query id, real and learned.
      greedy: the LLM's one answer with records, by query id; {} without an LLM.
    """

    lab: lab.Lab
    whole: Split
    learned: Sequence[Query]
    pools: Mapping[str, Sequence[Candidate]]
    greedy: Mapping[str, str]


def everybody(task: tasks.Task, size: Size, data_dir: str, seed: int) -> Split:
    """The drawn users of both of LaMP's splits, cleaned once for all folds.

    Cleaning for a fold removes what its held-out users' questions ask. Here every user counts as held out: that removes
    the union over all folds, so nothing is left for any of them to remove from a profile.
    """
    drawn = []
    for name, users in zip(("train", "dev"), size.users, strict=True):
        split, _ = lamp.read_split(pathlib.Path(data_dir) / task.name, task, name)
        drawn.append(folds.subset(split, users=users, queries_per_user=size.queries, seed=seed))
    train, dev = drawn
    both = Split(name="all", users={**train.users, **dev.users}, queries=(*train.queries, *dev.queries))
    return folds.hold_out(task, Split(name="nobody", users={}, queries=()), both).held_out


def make_bench(pool: Pool, task: tasks.Task, size: Size, data_dir: str, seed: int, llm: sampler.Sampler) -> Bench:
    """Reads, draws and asks."""
    whole = everybody(task, size, data_dir, seed)
    chosen = dataclasses.replace(settings.SMALL, pseudo_queries=size.pseudo)
    bench = lab.Lab(
        ctx=contract.Context(task=task, llm=llm, settings=chosen.prompts),
        users=whole.users,
        settings=chosen,
        seed=seed,
    )
    learned = sampling.pseudo_queries(bench, tuple(whole.users))
    queries = [*learned, *whole.queries]
    if pool == "labels":
        proposals = [Candidate(text=label, source="proposal") for label in task.labels]
        return Bench(lab=bench, whole=whole, learned=learned, pools={q.id: proposals for q in queries}, greedy={})
    pools, greedy = sampled_pools(bench, queries, size)
    return Bench(lab=bench, whole=whole, learned=learned, pools=pools, greedy=greedy)


def sampled_pools(
    bench: lab.Lab, queries: Sequence[Query], size: Size
) -> tuple[dict[str, list[Candidate]], dict[str, str]]:
    """Candidates by query id, and the greedy answer with k records.

    Whatever was said with a record in sight is one source: what several prompts agree on shows in the votes.
    """
    shown = [
        answers.Prompt(query=query, records=bench.retrieve(query, max(size.shown, size.alone))) for query in queries
    ]
    rag = sampling.sample(
        bench,
        "rag",
        [dataclasses.replace(prompt, records=prompt.records[: size.shown]) for prompt in shown],
        samples=SAMPLES,
        source="reranked",
        stage="candidates with records",
    )
    bare = [answers.Prompt(query=query) for query in queries]
    zero = sampling.sample(bench, "zero_shot", bare, samples=SAMPLES, stage="zero-shot candidates")
    one_record = [
        dataclasses.replace(prompt, records=(record,)) for prompt in shown for record in prompt.records[: size.alone]
    ]
    said: dict[str, list[Candidate]] = {pool.query.id: list(pool.candidates) for pool in rag}
    for alone in sampling.answer(bench, "rag", one_record, stage="candidates with one record"):
        said[alone.query.id].append(dataclasses.replace(alone.chosen, source="reranked", greedy=False))
    normalise = bench.ctx.task.normalise
    pools = {pool.query.id: [*sampling.merge(said[pool.query.id], normalise), *pool.candidates] for pool in zero}
    return pools, {pool.query.id: pool.candidates[0].text for pool in rag}
