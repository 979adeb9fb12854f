"""`hydrajax run hyperalign`: write in an author's style, and let a judge say whose style it is."""

import dataclasses
import hashlib
import json
import pathlib
import sys
from typing import Literal

import rich.console

from hydrajax import cli_llm, files
from hydrajax.evaluation.authorship import report as authorship_report
from hydrajax.runs import authorship
from hydrajax.runs import config as config_lib

LOCAL_WORDS = 120  # of a shown text, for a small local LLM
LARGE_PROMPT = 12_000  # tokens of shown texts, for Claude


@dataclasses.dataclass(frozen=True, kw_only=True)
class HyperAlign(cli_llm.Llm):
    """Authorship: articles from a first sentence in an author's style, win rates of strategies by a judge."""

    data: tuple[pathlib.Path, ...]
    """JSONL or JSONL.gz files of {author, file, text}, or folders with one folder an author. The first one
    gives the texts that are shown, the others those that are judged."""
    authors: int = 10
    """How many are drawn. A first run with fewer is quicker; below 6 there are no intervals."""
    strategies: tuple[str, ...] = authorship.AuthorshipConfig(data=()).strategies
    """Prompt strategies to compare, apart or joined by commas; zero_shot and icl_random are always there."""
    judge: Literal["classifier", "llm"] = "classifier"
    """A classifier trained on texts that no strategy is shown, which asks nobody; or an LLM, in both orders."""
    judge_llm: str | None = None
    """With --judge llm: another LLM than the one that writes, named as with --llm; by default the same one judges."""
    samples: int = 3
    """Texts of each strategy for each first sentence."""
    control_samples: int = 1
    """The same where prompts are made of another author's texts."""
    answer_tokens: int = 250
    """Limit of a text; 250 take the local LLM up to 10 s."""
    shown: int = 7
    """Texts of each author that strategies may show."""
    validation: int = 2
    """Held-out texts of each author: the judge's accuracy is measured on them, and the LLM as a judge sees one."""
    test: int = 2
    """Texts of each author whose first sentences are asked."""
    shown_words: int | Literal["auto", "all"] = "auto"
    """Of a shown text at most its beginning; `auto`: 120 words for a local LLM, everything for Claude."""
    temperature: float = 0.7
    """Of the sampled texts; one of them is greedy."""
    base: str = "minilm"
    """The base encoder, half of the classifier: `minilm`, or a Hugging Face folder."""
    cross_user: bool = True
    """Whether strategies that compare authors may look at other authors' shown texts."""
    seed: int = 0
    """Of every draw."""
    out: pathlib.Path | None = None
    """The run folder; by default one under runs/ named by the settings, so that a repeated command goes on."""
    plan: bool = False
    """Print calls, tokens, time and cost per stage, and call nothing."""

    def config(self) -> authorship.AuthorshipConfig:
        """The run that is asked for."""
        large = self.llm.startswith("claude")
        words = {"auto": None if large else LOCAL_WORDS, "all": None}.get(str(self.shown_words), self.shown_words)
        prompts = dataclasses.replace(authorship.PROMPTS, max_answer_tokens=self.answer_tokens)
        if large:
            prompts = dataclasses.replace(prompts, max_prompt_tokens=LARGE_PROMPT)
        shared = {field.name for field in dataclasses.fields(authorship.AuthorshipConfig)}
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name in shared}
        base = str(pathlib.Path(self.base).resolve()) if pathlib.Path(self.base).is_dir() else self.base
        data = tuple(str(path.expanduser().resolve()) for path in self.data)
        strategies = tuple(name for part in self.strategies for name in part.split(",") if name)
        changed = {
            "data": data,
            "strategies": strategies,
            "llm": config_lib.absolute_llm(self.llm),
            "judge_llm": None if self.judge_llm is None else config_lib.absolute_llm(self.judge_llm),
            "base": base,
            "shown_words": words,
            "prompts": prompts,
        }
        return authorship.AuthorshipConfig(**values | changed)


def run(chosen: HyperAlign, command: str, console: rich.console.Console) -> None:
    """Runs, and prints win rates, what they show, and where the report is."""
    config = chosen.config()
    digest = hashlib.sha256(json.dumps(config_lib.to_json(config), sort_keys=True).encode()).hexdigest()[:8]
    out = chosen.out or pathlib.Path("runs") / f"hyperalign-{digest}"

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    found = authorship.run(config, out, command=command, machine=chosen.machine(), say=say)
    console.print(authorship_report.text_table(found))
    for sentence in authorship_report.verdicts(found):
        console.print(sentence, markup=False)
    print(out / "report.html")


def holds_run(folder: pathlib.Path) -> bool:
    """Whether a run folder is of this kind."""
    path = folder / "config.json"
    return path.is_file() and files.read_json(path).get("experiment") == "hyperalign"


def report(folder: pathlib.Path, console: rich.console.Console) -> None:
    """Writes the report of a finished run again, and prints its table."""
    path = authorship_report.write_report(folder)
    console.print(authorship_report.text_table(files.read_json(folder / "results.json")))
    print(path)
