"""The configuration of an authorship run: whose texts, which strategies, which judge."""

import dataclasses
from typing import Any, ClassVar, Literal

from hydrajax import plugins
from hydrajax.data import authorship
from hydrajax.prompting import contract, registry
from hydrajax.runs.config import Configuration, absolute, check_temperature
from hydrajax.types import check_least

PROMPTS = contract.PromptSettings(max_answer_tokens=250)
LARGE_PROMPT = 12_000  # tokens of shown texts, for Claude
LOCAL_WORDS = 120  # of a shown text, for a small local LLM
COMPARED_WITH = ("zero_shot", "icl_random")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Authorship(Configuration):
    """Authorship: articles from a first sentence in an author's style, win rates of strategies by a judge."""

    experiment: ClassVar[str] = "hyperalign"
    loader: ClassVar[str] = "hydrajax.runs.load_authors"
    module: ClassVar[str] = "hydrajax.runs.authorship"

    data: tuple[str, ...]
    """JSONL or JSONL.gz files of {author, file, text}, or folders with one folder an author. The first one
    gives the texts that are shown, the others those that are judged."""
    authors: int = 10
    """How many are drawn. A first run with fewer is quicker; below 6 there are no intervals."""
    strategies: tuple[str, ...] = (*COMPARED_WITH, "hypotheses")
    """Prompt strategies to compare, apart or joined by commas; zero_shot and icl_random are always there."""
    judge: Literal["classifier", "llm"] = "classifier"
    """A classifier trained on texts that no strategy is shown, which asks nobody; or an LLM, in both orders."""
    judge_llm: str | None = None
    """With --judge llm: another LLM than the one that writes, named as with --llm; by default the same one judges."""
    judge_words: int = 150
    """Most words of a text that are compared."""
    judge_texts: int = 30
    """Most texts of each author that the classifier learns from."""
    samples: int = 3
    """Texts of each strategy for each first sentence, the greedy one among them."""
    control_samples: int = 1
    """The same where prompts are made of another author's texts."""
    shown: int = 7
    """Texts of each author that strategies may show."""
    validation: int = 2
    """Held-out texts of each author: the judge's accuracy is measured on them, and the LLM as a judge sees one."""
    test: int = 2
    """Texts of each author whose first sentences are asked."""
    shown_words: int | Literal["auto", "all"] | None = "auto"
    """Of a shown text at most its beginning; `auto`: 120 words for a local LLM, everything for Claude."""
    temperature: float = 0.7
    """Of the sampled texts; one of them is greedy."""
    cross_user: bool = True
    """Whether strategies that compare authors may look at other authors' shown texts."""
    prompts: contract.PromptSettings = PROMPTS
    """How prompts are built. For Claude `max_prompt_tokens` is 12,000 where it is not given."""

    def __post_init__(self):
        super().__post_init__()
        large = self.llm.startswith("claude")
        object.__setattr__(self, "strategies", tuple(dict.fromkeys((*COMPARED_WITH, *self.strategies))))
        if isinstance(self.shown_words, str):
            words = LOCAL_WORDS if self.shown_words == "auto" and not large else None
            object.__setattr__(self, "shown_words", words)
        if large and self.prompts.max_prompt_tokens == PROMPTS.max_prompt_tokens:
            object.__setattr__(self, "prompts", dataclasses.replace(self.prompts, max_prompt_tokens=LARGE_PROMPT))
        least = {"authors": 2, "shown_words": 10, "judge_words": 10, "judge_texts": authorship.LEAST_UNSEEN}
        least |= dict.fromkeys(("shown", "validation", "test", "samples", "control_samples"), 1)
        check_least(self, **least)
        check_temperature(self.llm, self.temperature, "temperature")
        if self.judge_llm is not None and self.judge != "llm":
            raise ValueError(
                f"judge_llm is {self.judge_llm}, but a {self.judge} judges and asks nobody; give --judge llm"
            )

    @property
    def compared(self) -> tuple[str, ...]:
        """The strategies without those that look at other authors' texts where that is switched off.

        Raises:
          DataError: one of them does not exist.
        """
        return registry.permitted(self.strategies, cross_user=self.cross_user)

    @property
    def llms(self) -> tuple[str, ...]:
        return (self.llm,) if self.judge_llm in (None, self.llm) else (self.llm, self.judge_llm)

    def paths(self) -> dict[str, Any]:
        return super().paths() | {
            "data": tuple(map(absolute, self.data)),
            "judge_llm": self.judge_llm and plugins.absolute(self.judge_llm),
            "strategies": tuple(map(plugins.absolute, self.strategies)),
        }
