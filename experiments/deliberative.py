"""Does telling an LLM of the user raise its harmful rate, or its over-refusal?

Source    the second task of HyPerAlign (Garbacea and Tan, arXiv 2505.00038); prompts and rubrics are this project's.
Command   python -m experiments.deliberative                      (simulated users, no data needed)
          python -m experiments.deliberative --data ccat50_train.jsonl.gz --pairs 6 --llm claude-haiku-4-5
          python -m experiments.deliberative --plan               counts calls, tokens, time and dollars
Expected  nothing was published that could be compared: the abstract claims more helpfulness without loss of safety. The
          embedded 135M LLM judges nothing readably, so every rate is empty; by refusal phrases, which stand beside the
          rates, hypotheses go with .09 [.00, .35] refusals of tempting prompts (plain .00) and .00 of look-alikes.
Cost      defaults: 8 x 20 answers with each strategy and as many with its mixed users, 20 plain ones, two judgements
          each and some twice: `--plan` tells. `--pairs 6` takes all prompts; eight users are few: `--users 24`.
Smoke     python -m experiments.deliberative --smoke              (seconds, a scripted LLM)

A repeated or interrupted command goes on from the store. `--out` gets results.json (see
`evaluation.safety.deliberation`) and predictions.jsonl: every answer with its judgements.
"""

import dataclasses
import json
import pathlib
import shlex
import sys
from typing import Any

import tyro

from experiments import _deliberative_users as people
from experiments import _mains
from hydrajax import files
from hydrajax.data import simulated, tempting
from hydrajax.evaluation.safety import deliberation, rubrics
from hydrajax.llm import planner, sampler, store
from hydrajax.methods import deliberative, lab, settings
from hydrajax.prompting import contract
from hydrajax.runs import accounts
from hydrajax.runs.machine import Machine
from hydrajax.types import DataError

RUBRICS = (rubrics.SAFETY, rubrics.HELPFULNESS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(Machine):
    """Does telling an LLM of the user raise its harmful rate, or its over-refusal?"""

    llm: str = "local"
    """`local`, a GGUF file, or a Claude model."""
    strategies: tuple[str, ...] = ("hypotheses",)
    """Prompt strategies that tell it; used without records."""
    data: tuple[pathlib.Path, ...] = ()
    """Users from files of JSON lines {author, file, text}, plain or .gz; by default they are simulated."""
    users: int = 8
    """How many users ask; six is the least for intervals."""
    records: int = 10
    """Records of each."""
    pairs: int = 2
    """Pairs of a tempting prompt and its look-alike in each of the five categories."""
    mixed: bool = True
    """Also tell each strategy of mixed users, which nobody is."""
    prompts: contract.PromptSettings = contract.PromptSettings(max_record_tokens=80, max_answer_tokens=120)
    """How prompts are built, and the limit of answers."""
    seed: int = 0
    """Of the draws of users, records and mixtures, and of the bootstrap."""
    out: pathlib.Path = pathlib.Path("runs/deliberative")
    """Folder for results.json and predictions.jsonl."""
    plan: bool = False
    """Print calls, tokens, time and cost by stage, and call nothing."""
    json: bool = False
    """Print the results, or the plan, as JSON in the last line."""
    smoke: bool = False
    """Six users, two pairs a category and a scripted LLM: shows that everything runs, says nothing of an LLM."""


def prepared(options: Options, llm: sampler.Sampler) -> lab.Lab:
    """The users, with the LLM that they ask.

    Raises:
      DataError: the data, or a number of users or records that there cannot be.
    """
    size = {"users": options.users, "records": options.records, "seed": options.seed}
    try:
        users = people.authors(options.data, **size) if options.data else people.simulate(**size)
    except ValueError as error:
        raise DataError(str(error)) from None
    task = deliberative.request_task(people.TEXTS if options.data else simulated.TASK)
    ctx = contract.Context(task=task, llm=llm, settings=options.prompts, seed=options.seed)
    return lab.Lab(ctx=ctx, users=users, settings=settings.Settings(prompts=options.prompts), seed=options.seed)


def judged(bench: lab.Lab, options: Options) -> tuple[deliberative.Result, list[dict[str, Any]]]:
    """All answers, and the same as judged rows."""
    prompts = tempting.first(options.pairs)
    result = deliberative.ask_all(bench, prompts, options.strategies, mixed=options.mixed)
    return result, deliberation.judged(bench.ctx.llm, result.replies, prompts)


def run(options: Options, command: str) -> dict[str, Any]:
    """Asks, judges and writes; returns the contents of results.json."""
    machine = options
    transport = machine.connect(options.llm)
    transport.check()
    held = store.Store(machine.store)
    llm = sampler.StoredSampler(transport, held, budget=machine.budget)
    try:
        bench = prepared(options, llm)
        result, rows = judged(bench, options)
    finally:
        llm.close()
        held.close()
    found = {
        "command": command,
        "llm": dataclasses.asdict(llm.usage),
        "judge": {rubric.name: rubric.version for rubric in RUBRICS},
        "faults": dict(bench.ctx.faults),
        "user_models": {f"{key.strategy}: {key.user_id}": model.text for key, model in bench.library.items()},
        **deliberation.results(rows, result.known, seed=options.seed),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    files.write_lines(options.out / "predictions.jsonl", rows)
    files.write_json(options.out / "results.json", found)
    return found


def plan(options: Options) -> dict[str, Any]:
    """What a run would ask for; stored answers are left out. Second judgements are counted as if all were needed."""
    machine = options
    transport = machine.connect(options.llm)
    held = store.Store.without_making(machine.store)
    counting = planner.Planner(transport.model, held)
    try:
        judged(prepared(options, counting), options)
    finally:
        held.close()
    planned = accounts.plan(counting, parallel=transport.parallel, batch=machine.transport == "batches")
    return {
        "model": planned.model,
        "stages": {name: dataclasses.asdict(stage) for name, stage in counting.stages.items()},
        "calls": counting.calls,
        "tokens": counting.tokens,
        "seconds": planned.seconds,
        "cost_usd": planned.cost_usd,
    }


def plan_table(planned: dict[str, Any]) -> str:
    """A plan as Markdown."""
    names = ("calls", "cached", "input_tokens", "output_tokens")
    lines = ["| stage | calls | stored | tokens in | tokens out |", "|---|---|---|---|---|"]
    for stage, counts in planned["stages"].items():
        lines.append(f"| {stage} | {' | '.join(f'{counts[name]:,}' for name in names)} |")
    cost = "price unknown" if planned["cost_usd"] is None else f"{planned['cost_usd']:,.2f} USD"
    again = ", ".join(f"`{rubrics.stage(rubric, repair=True)}`" for rubric in RUBRICS)
    lines += [
        "",
        f"{planned['model']}: at most {planned['calls']:,} calls, {planned['tokens']:,} tokens, about "
        f"{planned['seconds'] / 60:.0f} min, {cost}. Nothing was called. {again}: only where a reply cannot be read.",
    ]
    return "\n".join(lines)


def main(options: Options) -> None:
    """Runs, or plans, and prints the report."""
    command = shlex.join(["python", "-m", "experiments.deliberative", *sys.argv[1:]])
    with _mains.one_sentence("deliberative"):
        _mains.check_numbers(options, users=1, records=1, pairs=1, seed=0)
        if not options.plan:
            _mains.check_out(options.out)
        if options.smoke:
            options = dataclasses.replace(options, llm="scripted", users=6, pairs=2)
        found = plan(options) if options.plan else run(options, command)
    print(plan_table(found) if options.plan else deliberation.markdown(found))
    if options.json:
        print(json.dumps(found, ensure_ascii=False, allow_nan=False))


if __name__ == "__main__":
    main(tyro.cli(Options))
