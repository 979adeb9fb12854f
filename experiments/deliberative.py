"""Does telling an LLM of the user raise its harmful rate, or its over-refusal? A kind of run; see
`configs/deliberative.py`."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from experiments import kinds
from experiments.reports import page
from hydrajax.data import draws, simulated, tasks, tempting, texts_by_author
from hydrajax.evaluation.safety import deliberation, rubrics
from hydrajax.methods import deliberative, lab, settings
from hydrajax.runs import accounts, workbench
from hydrajax.types import DataError, Record, User

TEXTS = tasks.Task(
    name="texts",
    kind="generation",
    template="{text}",
    inputs={},
    answer="text",
    corpus=("text",),
    record_line='"{text}" ',
    demonstration="Write a text.",
    pseudo_query="paraphrase",
)
Users = Mapping[str, User]

write_report, text_table, verdicts = page.write_report, page.text_table, page.verdicts


def load(config: kinds.Deliberative, say: Callable[[str], None]) -> Users:
    """See `run.Loader`: who asks, authors of texts from files, or simulated users of the demo.

    Raises:
      DataError: faulty texts, fewer authors than asked for, or a strategy that shows nothing but records.
    """
    deliberative.check(config.strategies)
    if config.data:
        paths = [pathlib.Path(path) for path in config.data]
        return authors(paths, users=config.users, records=config.records, seed=config.seed)
    size = {"dev_users": config.users, "records": config.records, "seed": config.seed}
    return simulated.simulate(train_users=0, **size).dev.users


def authors(paths: Sequence[pathlib.Path], *, users: int, records: int, seed: int) -> dict[str, User]:
    """Authors drawn from files or folders (`data.texts_by_author`), with texts drawn of each.

    Raises:
      DataError: faulty texts, or fewer authors than asked for.
    """
    by_author: dict[str, list[Record]] = {}
    attributes: dict[str, Mapping[str, str]] = {}
    for text in texts_by_author.read(paths):
        record = Record(id=f"{text.source}/{text.file}", fields={"text": text.text})
        by_author.setdefault(text.author, []).append(record)
        attributes[text.author] = text.attributes
    if len(by_author) < users:
        raise DataError(f"the files hold {len(by_author)} authors, expected {users} at least (--users)")

    def drawn(author: str) -> tuple[Record, ...]:
        order = draws.shuffled(by_author[author], seed=draws.number(seed, author), name=lambda record: record.id)
        return tuple(order[:records])

    chosen = draws.shuffled(by_author, seed=seed, name=str)[:users]
    return {author: User(id=author, profile=drawn(author), attributes=attributes[author]) for author in chosen}


def plan(runs: Sequence[tuple[kinds.Deliberative, Users]], bench: workbench.Workbench) -> Sequence[accounts.Plan]:
    """See `run.Kind.plan`. Second judgements are counted as if all were needed."""
    for config, users in runs:
        judged(config, make_lab(config, users, bench))
    return bench.plans()


def compute(
    config: kinds.Deliberative, users: Users, bench: workbench.Workbench, out: pathlib.Path, clock: accounts.Clock
) -> tuple[page.Rows, dict[str, Any]]:
    """See `run.Kind.compute`: the rows are all answers with their judgements."""
    here = make_lab(config, users, bench)
    with clock.stage("answers and judgements"):
        result, rows = judged(config, here)
    results = deliberation.results(rows, result.known, seed=config.seed)
    return rows, {
        "experiment": config.experiment,
        "llm": dataclasses.asdict(bench.llm.usage),
        "judge": {rubric.name: rubric.version for rubric in (rubrics.SAFETY, rubrics.HELPFULNESS)},
        "faults": dict(here.ctx.faults),
        "user_models": {f"{key.strategy}: {key.user_id}": model.text for key, model in here.library.items()},
        **results,
        "tables": deliberation.markdown(results),
    }


def make_lab(config: kinds.Deliberative, users: Users, bench: workbench.Workbench) -> lab.Lab:
    """The users, with the LLM that they ask."""
    task = deliberative.request_task(TEXTS if config.data else simulated.TASK)
    return bench.lab(task, users, settings.Settings(prompts=config.prompts), seed=config.seed)


def judged(config: kinds.Deliberative, here: lab.Lab) -> tuple[deliberative.Result, list[dict[str, Any]]]:
    """All answers, and the same as judged rows."""
    prompts = tempting.first(config.pairs)
    result = deliberative.ask_all(here, prompts, config.strategies, mixed=config.mixed)
    return result, deliberation.judged(here.ctx.llm, result.replies, prompts)
