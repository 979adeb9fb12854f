"""The candidates of `families`: what the LLM is asked, and which answers make a pool."""

import dataclasses
from collections.abc import Mapping, Sequence

from experiments import kinds
from experiments.data import Data
from hydrajax.methods import answers, lab, sampling, settings
from hydrajax.runs import workbench
from hydrajax.types import Candidate, Query, Split

SAMPLES = 2  # besides the greedy answer, of each prompt


@dataclasses.dataclass(frozen=True, kw_only=True)
class Candidates:
    """A task with its candidates.

    Attributes:
      lab: judges.
      whole: everybody, cleaned of what others' questions ask.
      learned: records asked as questions, each user's in the order of the draw.
      pools: by query id, real and learned.
      greedy: the LLM's one answer with records, by query id; {} without an LLM.
    """

    lab: lab.Lab
    whole: Split
    learned: Sequence[Query]
    pools: Mapping[str, answers.Pool]
    greedy: Mapping[str, str]

    def of(self, queries: Sequence[Query]) -> list[answers.Pool]:
        """The pools of these queries."""
        return [self.pools[query.id] for query in queries]


def make(config: kinds.Families, data: Data, bench: workbench.Workbench) -> Candidates:
    """Asks for what its pool is made of.

    Args:
      config: a part with its sizes.
      data: who is asked.
      bench: has the LLM.
    """
    chosen = dataclasses.replace(settings.SMALL, pseudo_queries=config.pseudo)
    here = bench.lab(config.lamp_task, data.held_out.users, chosen, seed=config.seed)
    learned = sampling.pseudo_queries(here, tuple(data.held_out.users))
    queries = [*learned, *data.held_out.queries]
    if config.pools == ("sampled",):
        pools, greedy = sampled(here, queries, shown=config.shown or 0, alone=config.alone or 0)
    else:
        labels = tuple(Candidate(text=label, source="proposal") for label in config.lamp_task.labels)
        pools, greedy = [answers.Pool(query=query, candidates=labels) for query in queries], {}
    by_query = {pool.query.id: pool for pool in pools}
    return Candidates(lab=here, whole=data.held_out, learned=learned, pools=by_query, greedy=greedy)


def sampled(
    here: lab.Lab, queries: Sequence[Query], *, shown: int, alone: int
) -> tuple[list[answers.Pool], dict[str, str]]:
    """The pools, and by query id the greedy answer with `shown` records; `alone` records are shown by themselves too.

    Whatever was said with a record in sight is one source: what several prompts agree on shows in the votes.
    """
    ranked = [answers.Prompt(query=query, records=here.retrieve(query, max(shown, alone))) for query in queries]
    together = [dataclasses.replace(prompt, records=prompt.records[:shown]) for prompt in ranked]
    rag = sampling.sample(here, "rag", together, samples=SAMPLES, source="reranked", stage="candidates with records")
    bare = [answers.Prompt(query=query) for query in queries]
    zero = sampling.sample(here, "zero_shot", bare, samples=SAMPLES, stage="zero-shot candidates")
    by_one = [dataclasses.replace(prompt, records=(r,)) for prompt in ranked for r in prompt.records[:alone]]
    with_records = {pool.query.id: list(pool.candidates) for pool in rag}
    for answer in sampling.answer(here, "rag", by_one, stage="candidates with one record"):
        with_records[answer.query.id].append(dataclasses.replace(answer.chosen, source="reranked", greedy=False))
    normalise = here.ctx.task.normalise
    pools = [
        dataclasses.replace(
            pool, candidates=[*sampling.merge(with_records[pool.query.id], normalise), *pool.candidates]
        )
        for pool in zero
    ]
    return pools, {pool.query.id: pool.candidates[0].text for pool in rag}
