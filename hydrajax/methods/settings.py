"""What a HYDRA run can be told: sizes, sampling, training; and presets of it."""

import dataclasses
import math
from typing import Annotated, Literal

import tyro

from hydrajax import retrieval
from hydrajax.prompting import contract, registry
from hydrajax.types import check_least, check_once, check_types

_SHORT = tyro.conf.arg(prefix_name=False)  # --strategies instead of --settings.strategies on the command line


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of a HYDRA run. The paper's are `PAPER`.

    Attributes:
      retriever: how the first N records are found.
      retrieved: N, records that the reranker sees.
      shown: numbers k of records to show. With several, each prompt baseline gets the one that serves validation
        users best, and the reranked prompts get that of `rag`.
      samples: b, sampled candidates per prompt.
      greedy: whether the greedy answer is a candidate besides them; in the paper it is not.
      temperature: of the samples.
      pseudo_queries: records of each profile that are asked as queries, in an order drawn by seed and user; None for
        all.
      trial_queries: of these pseudo-queries, how many are used to learn which record helps, the first of the draw; None
        for all.
      label_queries: real queries of each training user whose records are labelled for the reranker, and for that of
        `cfrag` those that it may show; None for all.
      adapter_pools: what the adapter learns from. `reranked`: for `hydra`, b candidates from the reranked prompt of
        every pseudo-query, and for `hydra_adapter` b zero-shot ones, each method with an adapter of its own (the
        paper). `shared`: one adapter for both, half of the candidates zero-shot and half with the k most relevant
        records, which costs half the calls and can be sampled before the reranker is trained. `zero_shot`: one
        adapter for both, from b zero-shot candidates; where users are asked the same, they share the candidates.
        `feedback`: one adapter for both, from what users said of answers that they were shown, without any call.
      adapter_labels: what the adapter learns from. `quality`: right or wrong, and for texts above or below the mean of
        the pool. `gold`: for texts, the gold (1) against every candidate (0), as HYDRA's public code has it; settings
        are then judged by the validation users' real queries, and by how well the gold is told from candidates.
      identity: whether the adapter also reads what a candidate is: its source, and in label tasks the label, for
        ratings the value too; not in the paper.
      votes: whether the adapter also reads a candidate's share of votes and whether it is greedy; not in the paper.
      styles: instructions that are put under the question in turn, one a sample, so that candidates differ in more
        than chance; the greedy answer has none.
      surface: whether the adapter also reads what shows of a candidate (its length, its signs); not in the paper.
      prompts: how prompts are built.
      strategies: prompt strategies whose answers are candidates side by side (the union), apart or joined by
        commas; each is compared by itself too, with the user's records and with another user's. None: no union.
      candidates: how many candidates of the LLM the union has, spread over its strategies.
      cross_user: whether strategies may look at other users' records; without, those that compare users are left out.
      validation: share of the training users on whom settings are chosen; 0 where nothing is to be chosen.
      derangements: permutations of the shuffled-heads control.
    """

    retriever: str = "bm25"
    retrieved: int = 10
    shown: tuple[int, ...] = (4,)
    samples: int = 8
    greedy: bool = True
    temperature: float = 1.0
    pseudo_queries: int | None = 4
    trial_queries: int | None = None
    label_queries: int | None = None
    adapter_pools: Literal["reranked", "shared", "zero_shot", "feedback"] = "reranked"
    adapter_labels: Literal["quality", "gold"] = "quality"
    identity: bool = True
    votes: bool = True
    styles: tuple[str, ...] = ()
    surface: bool = False
    prompts: contract.PromptSettings = contract.PromptSettings()
    strategies: Annotated[tuple[str, ...], _SHORT] = ()
    candidates: Annotated[int, _SHORT] = 8
    cross_user: Annotated[bool, _SHORT] = True
    validation: float = 0.2
    derangements: int = 10

    def __post_init__(self):
        check_types(self)
        object.__setattr__(self, "strategies", registry.apart(self.strategies))
        check_once(self, "strategies", "shown")
        check_least(self, retrieved=1, samples=1, candidates=1, derangements=1, temperature=0)
        check_least(self, pseudo_queries=0, trial_queries=0, label_queries=1)
        if self.strategies and self.candidates < len(self.strategies):
            wanted = f"at least one for each of the {len(self.strategies)} strategies"
            raise ValueError(f"candidates is {self.candidates}, expected {wanted}")
        if not math.isfinite(self.temperature):
            raise ValueError(f"temperature is {self.temperature}, expected a finite number")
        if self.retriever not in retrieval.names():
            retrieval.retriever(self.retriever)  # refuses what is none
        if not self.shown or min(self.shown) < 1 or max(self.shown) > self.retrieved:
            raise ValueError(f"shown is {self.shown}, expected numbers from 1 to retrieved ({self.retrieved})")
        if not 0 <= self.validation < 1:
            raise ValueError(f"validation is {self.validation}, expected a share from 0 up, less than 1")
        if self.adapter_labels == "gold" and self.votes:
            raise ValueError("adapter_labels is 'gold', expected votes to be off: a gold has none, which would tell it")

    @property
    def shared_samples(self) -> int:
        """Samples from each of the two prompts where pools are shared."""
        return max(1, self.samples // 2)


# Zhuang et al., arXiv 2406.02888: for the reranker 10 pseudo-queries and a real query a user, at most 110 trials; for
# the adapter 8 candidates of every record. Nothing is chosen, so all training users train.
PAPER = Settings(
    greedy=False,
    pseudo_queries=None,
    trial_queries=10,
    label_queries=1,
    identity=False,
    votes=False,
    validation=0.0,
)
SMALL = Settings(
    retrieved=5,
    shown=(1, 2, 4),
    samples=4,
    temperature=0.7,
    pseudo_queries=3,
    trial_queries=1,
    label_queries=1,
    adapter_pools="shared",
    surface=True,
    prompts=contract.PromptSettings(
        max_record_tokens=80, persona_records=10, max_reasoning_tokens=60, trials=2, demonstrations=2
    ),
)
DEMO = Settings(
    retrieved=2,
    shown=(1,),
    samples=4,
    temperature=0.7,
    pseudo_queries=None,
    trial_queries=0,
    label_queries=1,
    adapter_pools="zero_shot",
    surface=True,
    styles=(
        "Use at most six words.",
        "Be warm and enthusiastic, with exclamation marks!",
        "Ask a question.",
        "Use vivid images of colours, sounds and smells.",
    ),
    prompts=contract.PromptSettings(
        max_record_tokens=80,
        max_answer_tokens=16,
        summary_records=2,
        max_summary_tokens=16,
        persona_records=6,
        max_reasoning_tokens=30,
        trials=2,
        demonstrations=2,
    ),
)

PRESETS = {"paper": PAPER, "default": Settings(), "small": SMALL, "demo": DEMO}
