"""Reasoning that predicts what a user answered, and prompts that show it (SynthesizeMe, arXiv 2506.05598)."""

import dataclasses
import re
from collections.abc import Mapping, Sequence

from hydrajax import metrics
from hydrajax.data import draws, tasks
from hydrajax.llm.request import count_tokens
from hydrajax.prompting import shorten, templates
from hydrajax.prompting.context import Context
from hydrajax.types import Query, Record

PROMPTS = ("reasoning.txt", "persona_reasoned.txt")
DRAWS = 10  # for each set that is wanted: few records do not make many different ones
_ANSWER = re.compile(r"\A\W*reasoning\W*:\s*(.+?)\n\W*answer\W*:\s*(.+)\Z", re.IGNORECASE | re.DOTALL)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prediction:
    """What an LLM supposes of a user, and the answer that follows from it."""

    reasoning: str
    answer: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Demonstration:
    """A record, and the reasoning that predicted its answer; empty where none did or none is shown."""

    record: Record
    reasoning: str = ""


def read(answer: str) -> Prediction | None:
    """The two parts of an answer; None where it has not both of them."""
    match = _ANSWER.match(answer.strip())
    if match is None:
        return None
    reasoning, predicted = (part.strip(" \t\n*") for part in match.groups())
    return Prediction(reasoning=" ".join(reasoning.split()), answer=predicted) if reasoning and predicted else None


def holds(prediction: str, gold: str, without: str, task: tasks.Task) -> bool:
    """Whether reasoning is borne out by a record that it has not seen.

    A label has to be the user's. A text is hardly ever: it has to be nearer to the user's than what the LLM writes
    without reasoning.

    Args:
      prediction: the answer that was reasoned.
      gold: the user's.
      without: the LLM's answer to the same question without reasoning; not looked at where there are labels.
    """
    if task.labels:
        return task.normalise(prediction) == task.normalise(gold)
    reasoned, plain = (metrics.quality(task, task.normalise(text), gold) for text in (prediction, without))
    return reasoned > plain


def question(query: Query, shown: Sequence[Demonstration], ctx: Context) -> str:
    """What is asked for a prediction."""
    asked = templates.tagged("question", [ctx.task.question(query.inputs)])
    return templates.fill("reasoning.txt", {"records": quoted(shown, ctx), "question": asked})


def quoted(shown: Sequence[Demonstration], ctx: Context) -> str:
    """Records, each with its reasoning under it; what reasoning takes of the limit of a prompt, records leave."""
    limit = ctx.settings.max_prompt_tokens
    left = max(1, limit // 2, limit - sum(count_tokens(one.reasoning) for one in shown))
    within = dataclasses.replace(ctx, settings=dataclasses.replace(ctx.settings, max_prompt_tokens=left))
    lines = []
    for one, text in zip(shown, shorten.quoted([one.record for one in shown], within), strict=True):
        lines += [templates.tagged("record", [text]), templates.tagged("reasoning", filter(None, [one.reasoning]))]
    return "\n".join(filter(None, lines))


def sets(records: Sequence[Record], reasoned: Mapping[str, str], ctx: Context, name: str) -> list[list[Demonstration]]:
    """Different sets of reasoned records, of which the first has all.

    The others have a random number of them. Sets of fewer than the settings' demonstrations are filled with records
    without their reasoning.

    Args:
      records: in the order in which they are shown.
      reasoned: the reasoning that held, by record id, of one record at least.
      name: seeds the draws, with the context's seed.

    Returns:
      at most the settings' `trials` sets.
    """
    drawn: dict[frozenset[tuple[str, bool]], list[Demonstration]] = {}
    for i in range(DRAWS * ctx.settings.trials):
        seed = draws.number(ctx.seed, name, "reasoning", i)
        order = [record.id for record in draws.shuffled(records, seed=seed, name=lambda record: record.id)]
        size = 1 + seed % len(reasoned) if i else len(reasoned)
        with_reasoning = [record_id for record_id in order if record_id in reasoned][:size]
        rest = [record_id for record_id in order if record_id not in with_reasoning]
        bare = rest[: max(0, ctx.settings.demonstrations - size)]
        demonstrations = [
            Demonstration(record=record, reasoning=reasoned[record.id] if record.id in with_reasoning else "")
            for record in records
            if record.id in {*with_reasoning, *bare}
        ]
        drawn.setdefault(frozenset((one.record.id, bool(one.reasoning)) for one in demonstrations), demonstrations)
        if len(drawn) == ctx.settings.trials:
            break
    return list(drawn.values())
