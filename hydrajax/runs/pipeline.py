"""The whole run: data, LLM, HYDRA, baselines, controls, report. Every stage goes on where a killed run stopped."""

import contextlib
import dataclasses
import logging
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from hydrajax import progress
from hydrajax.evaluation import report, results
from hydrajax.llm import connect, models, sampler, store
from hydrajax.methods import baselines, hydra, lab, learner, personal
from hydrajax.nn import encode
from hydrajax.prompting import contract
from hydrajax.runs import compare, costs, folder, load, saved
from hydrajax.runs.config import RunConfig

_log = logging.getLogger(__name__)
Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Machine:
    """Where a run runs; nothing here changes its results.

    Attributes:
      store: file of answers, None for the one in the user's cache folder.
      parallel: requests to Claude under way at once.
      threads: of the embedded LLM, None for the free cores.
      cache: folder of base features, None for the one beside the store.
    """

    store: str | None = None
    parallel: int = 8
    threads: int | None = None
    cache: str | None = None


def run(
    config: RunConfig,
    out: pathlib.Path,
    *,
    command: str,
    machine: Machine = Machine(),  # noqa: B008 (frozen)
    say: Say = print,
) -> dict[str, Any]:
    """Runs, and writes the run folder.

    Args:
      config: what is run.
      out: the run folder; of a run with the same configuration it is continued.
      command: the exact command, kept in the folder.
      machine: where.
      say: gets one line per finished stage.

    Returns:
      the contents of `results.json`.

    Raises:
      DataError: bad data, or a folder that holds something else. Nothing is written then.
      LLMError: the LLM does not answer. Answers received before are stored.
    """
    clock = _Clock(say)
    with clock.stage("data"):
        data = load.load(config)
        people = load.people(config, data)
    for sentence in data.skipped:
        say(f"skipped: {sentence}")
    answers = store.Store(machine.store)
    transport = connect.connect(config.llm, parallel=machine.parallel, threads=machine.threads)
    folder.prepare(out, config, command)
    llm = sampler.StoredSampler(transport, answers)
    try:
        facts = _compute(config, out, data, people, llm, machine, answers, clock)
    finally:
        llm.close()
        answers.close()
    return facts


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run would ask for.

    Attributes:
      model: the LLM's name.
      stages: by stage.
      cost_usd: None where no price is known.
      seconds: estimate of the time in calls.
    """

    model: str
    stages: dict[str, sampler.StagePlan]
    cost_usd: float | None
    seconds: float


def plan(config: RunConfig, *, machine: Machine = Machine()) -> Plan:  # noqa: B008 (frozen)
    """Counts the calls of a run without making one, stored answers left out.

    Prompts that depend on what will be learned are counted with the retriever's order in the reranker's place.
    """
    data = load.load(config)
    people = load.people(config, data)
    answers = store.Store(machine.store)
    transport = connect.connect(config.llm, parallel=machine.parallel, threads=machine.threads)
    planner = sampler.Planner(transport.model, answers)
    bench = _lab(config, data, planner)
    asked = [*people.validation_queries, *people.new_queries]
    prompts = {name: baselines.answer(bench, name, people.validation_queries, asked) for name in baselines.STRATEGIES}
    hydra.hydra(bench, learner.PlannedLearner(), people, prompts["rag"].shown)
    answers.close()
    seconds = sum(
        models.seconds(transport.model, s.calls, s.fresh_input_tokens, s.output_tokens, parallel=transport.parallel)
        for s in planner.stages.values()
    )
    return Plan(model=transport.model, stages=planner.stages, cost_usd=planner.cost(), seconds=seconds)


def encoders(
    config: RunConfig, cache: pathlib.Path | None, *, base: encode.Base | None = None
) -> tuple[personal.Encode, compare.Embed]:
    """Features of pairs, and embeddings of texts, of the run's frozen base."""
    base = base or encode.load_base(config.base)

    def encode_pairs(pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        with progress.bar("features") as advance:
            return encode.encode_pairs(
                base, pairs, max_tokens=config.max_pair_tokens, cache=cache, progress=advance
            )

    def embed(texts: Sequence[str]) -> np.ndarray:
        with progress.bar("embeddings") as advance:
            return encode.embed(base, texts, cache=cache, progress=advance)

    return encode_pairs, embed


def cache_folder(machine: Machine, answers: store.Store) -> pathlib.Path:
    """Where features of the base are kept."""
    return pathlib.Path(machine.cache) if machine.cache else answers.path.parent / "features"


def _compute(config, out, data: load.Data, people: hydra.People, llm, machine, answers, clock) -> dict[str, Any]:
    encode_pairs, embed = encoders(config, cache_folder(machine, answers))
    bench = _lab(config, data, llm)
    asked = [*people.validation_queries, *people.new_queries]
    with clock.stage("prompt baselines"):
        prompts = {
            name: baselines.answer(bench, name, people.validation_queries, asked) for name in baselines.STRATEGIES
        }
    learns = learner.ValidatedLearner(
        encode_pairs,
        [dataclasses.replace(config.scorer, loss=loss, seed=config.seed) for loss in config.losses],
        epochs=config.epochs,
        folder=out / "checkpoints",
    )
    with clock.stage("hydra"):
        result = hydra.hydra(bench, learns, people, prompts["rag"].shown)
    with clock.stage("controls"):
        compared = compare.compare(bench, people, prompts, result, data.train, embed)
    with clock.stage("report"):
        saved.save(out / "scorers", result, shown=prompts["rag"].shown)
        folder.write_lines(out / "predictions.jsonl", compared.rows)
        curves = {
            name: {stage: [[i + 1, v] for i, v in enumerate(curve) if v == v] for stage, curve in choice.curves.items()}
            for name, choice in learns.choices.items()
        }
        folder.write_json(out / "curves.json", curves)
        folder.write_json(out / "choices.json", _choices(prompts, learns, compared, bench, data, people))
        found = results.build(
            data.task,
            compared.rows,
            results.RunFacts(
                experiment=config.experiment,
                split="dev" if not config.folds else f"fold {config.fold} of {config.folds}",
                llm=_llm(llm),
                best_source=compared.best_source,
                new_user=costs.new_user(bench, people.new),
                seconds=clock.seconds,
            ),
            seed=config.seed,
        )
        results.write(out / "results.json", found)
        report.write_report(out)
    return found


def _lab(config: RunConfig, data: load.Data, llm: sampler.Sampler) -> lab.Lab:
    ctx = contract.Context(task=data.task, llm=llm, settings=config.settings.prompts)
    users = {**data.train.users, **data.dev.users}
    return lab.Lab(ctx=ctx, users=users, settings=config.settings, reward=data.reward, seed=config.seed)


def _choices(prompts, learns, compared, bench, data, people) -> dict[str, Any]:
    """What validation users chose, and what was cut: enough to see why the run looks as it does."""
    return {
        "validation_users": len(people.validation),
        "validation_queries": len(people.validation_queries),
        "shown": {name: {"k": p.shown, "quality": {str(k): v for k, v in p.validation.items()}} for name, p in prompts.items()},
        "scorers": {
            name: {"loss": choice.loss, "epochs": choice.epochs, "quality": choice.quality}
            for name, choice in learns.choices.items()
        },
        "single_sources": compared.validation,
        "best_source": compared.best_source,
        "cut_from_records": dict(bench.ctx.cut),
        "skipped": list(data.skipped),
        "removed_between_folds": None if data.removed is None else dataclasses.asdict(data.removed),
    }


def _llm(llm: sampler.StoredSampler) -> results.Llm:
    usage = llm.usage
    cost = models.find(llm.model).cost(usage.input_tokens, usage.output_tokens)
    return results.Llm(model=llm.model, cost_usd=cost, **dataclasses.asdict(usage))


class _Clock:
    """Times stages and says when one is done."""

    def __init__(self, say: Say):
        self.seconds: dict[str, float] = {}
        self._say = say

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - start, 2)
        self._say(f"{name}: {self.seconds[name]:.1f} s")
