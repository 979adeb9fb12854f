"""The whole run: data, LLM, HYDRA, baselines, controls, report.

A killed run goes on with the same command: answers, base features and compiled programs are kept, checkpoints too
where pretraining is long; heads on frozen features take seconds and are fitted again.
"""

import dataclasses
import logging
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from hydrajax import files, progress
from hydrajax.evaluation import predictions as rows
from hydrajax.evaluation import results
from hydrajax.evaluation.report import page
from hydrajax.llm import connect, planner, sampler, store
from hydrajax.llm.budget import Budget
from hydrajax.llm.request import Transport
from hydrajax.methods import baselines, hydra, lab, selection
from hydrajax.methods import scorers as personal
from hydrajax.nn import encode, feature_cache
from hydrajax.nn.bases import blocks
from hydrajax.prompting import contract, library, registry
from hydrajax.runs import books, compare, compare_union, costs, folder, load, saved
from hydrajax.runs.config import RunConfig

_log = logging.getLogger(__name__)
Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Machine:
    """Where a run runs; nothing here changes its results.

    Attributes:
      store: file of answers, None for the one in the user's cache folder.
      parallel: most requests to Claude under way at once.
      transport: `messages` or `batches`.
      budget: what this invocation may spend.
      key_file, salt_file: see `connect.connect`.
      threads: of the embedded LLM, None for the free cores.
      cache: folder of base features, None for the one beside the store.
    """

    store: str | None = None
    parallel: int = 64
    transport: str = "messages"
    budget: Budget = Budget()
    key_file: str | None = None
    salt_file: str | None = None
    threads: int | None = None
    cache: str | None = None

    def connect(self, llm: str) -> Transport:
        """The way to an LLM."""
        return connect.connect(
            llm,
            parallel=self.parallel,
            threads=self.threads,
            transport=self.transport,
            key_file=self.key_file,
            salt_file=self.salt_file,
        )

    def __post_init__(self):
        for name in ("parallel", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}, expected at least 1")


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
    if config.folds and config.fold is None:
        return _run_folds(config, out, command=command, machine=machine, say=say)
    clock = books.Clock(say)
    for sentence in left_out(config):
        say(sentence)
    with clock.stage("data"):
        data = load.load(config)
        people = load.people(config, data)
    for sentence in data.skipped:
        say(f"skipped: {sentence}")
    for sentence in data.notes:
        say(f"note: {sentence}")
    transport = machine.connect(config.llm)
    transport.check()
    answers = store.Store(machine.store)
    cache = cache_folder(machine, answers)
    encoded = encoders(config, cache)  # an unknown base is reported before anything is written
    folder.prepare(out, config, command)
    _keep_compiled(cache.parent / "compiled")
    llm = sampler.StoredSampler(transport, answers, budget=machine.budget)

    try:
        return _compute(config, out, data, people, llm, encoded, clock, command)
    except BaseException:
        books.note(out, command, clock, llm, finished=False)
        raise
    finally:
        llm.close()
        answers.close()


def _run_folds(config: RunConfig, out: pathlib.Path, *, command: str, machine: Machine, say: Say) -> dict[str, Any]:
    """Every fold in a folder of its own, and one report over all users."""
    # What cannot be run is reported before anything is written.
    first = dataclasses.replace(config, fold=0)
    load.people(first, load.load(first))
    machine.connect(config.llm).check()
    encoders(config, None)
    folder.prepare(out, config, command)
    parts = []
    for fold in range(config.folds):
        say(f"fold {fold + 1} of {config.folds}")
        part = dataclasses.replace(config, fold=fold)
        parts.append(run(part, out / f"fold-{fold}", command=command, machine=machine, say=say))
    folders = [out / f"fold-{fold}" for fold in range(config.folds)]
    together = [row for path in folders for row in rows.read(path / "predictions.jsonl")]
    files.write_lines(out / "predictions.jsonl", together)
    curves = {path.name: files.read_json(path / "curves.json") for path in folders}
    plots = {f"{fold}: {name}": plot for fold, own in curves.items() for name, plot in own.items()}
    files.write_json(out / "curves.json", plots)
    choices = {path.name: dict(files.read_json(path / "choices.json")) for path in folders}
    files.write_json(out / "choices.json", choices)
    found = results.build(
        load.task(config),
        together,
        results.RunFacts(
            experiment=config.experiment,
            split=f"{config.folds} folds",
            llm=results.Llm(**costs.summed([part["llm"] for part in parts])),
            # Every user is reported here, so nobody is left on whom a best source could be chosen.
            new_user={
                method: results.NewUser(**costs.averaged([part["new_user"][method] for part in parts]))
                for method in parts[0]["new_user"]
            },
            seconds=costs.summed([part["seconds"] for part in parts]),
        ),
        seed=config.seed,
    )
    files.write_json(out / "results.json", found)
    page.write_report(out)
    return found


def plan(config: RunConfig, *, machine: Machine = Machine()) -> books.Plan:  # noqa: B008 (frozen)
    """Counts the calls of a run without making one, stored answers left out.

    What the answers will decide is guessed until they are there: which number of records validation users choose (the
    middle one is counted, the tokens of the least and the most are told apart) and which records a reranker prefers.
    """
    parts = range(config.folds) if config.folds and config.fold is None else [config.fold]
    divided = [dataclasses.replace(config, fold=fold) for fold in parts]
    read = [load.load(part) for part in divided]
    everybody = [load.people(part, data) for part, data in zip(divided, read, strict=True)]
    transport = machine.connect(config.llm)
    answers = store.Store.without_making(machine.store)
    # Strategies that compare users look for likeness; the others can do without loading a base.
    compares = any(registry.get(name).compares for name in strategies(config))
    embed = feature_cache.in_memory(encoders(config, None)[1]) if compares else None

    def count(guess: Callable[[Sequence[int]], int] | None) -> planner.Planner:
        counting = planner.Planner(transport.model, answers, guess=guess)

        def known() -> hydra.Learner | None:
            if counting.calls:
                return None
            return _learner(config, encoders(config, None)[0], folder=None)

        for data, people in zip(read, everybody, strict=True):
            bench = _lab(config, data, counting, embed=embed)
            asked = [*people.validation_queries, *people.new_queries]
            prompts = {
                name: baselines.answer(bench, name, people.validation_queries, asked) for name in strategies(config)
            }
            hydra.hydra(bench, selection.PlannedLearner(known, seed=config.seed), people, prompts["rag"].shown)
            if bench.settings.strategies:
                questions = compare_union.questions(bench, people, compare.together((data.train, data.validation)))
                compare_union.plan(bench, questions, {s: prompts[s].shown for s in bench.settings.strategies})
        return counting

    counting = count(None)
    several = len(config.settings.shown) > 1 and counting.calls > 0
    tokens = sorted(count(guess).tokens for guess in (min, max)) if several else [counting.tokens] * 2
    answers.close()
    batch = machine.transport == "batches"
    return books.plan(counting, parallel=transport.parallel, batch=batch, tokens=(tokens[0], tokens[1]))


def strategies(config: RunConfig) -> tuple[str, ...]:
    """The prompt strategies that a run compares.

    Raises:
      DataError: one of the chosen ones does not exist.
    """
    return tuple(dict.fromkeys((*baselines.STRATEGIES, *_chosen(config))))


def left_out(config: RunConfig) -> list[str]:
    """A sentence for each chosen strategy that is not run, since it looks at other users."""
    names = registry.left_out(config.settings.strategies, cross_user=config.settings.cross_user)
    return [f"note: {name} looks at other users' records, which is switched off: it is left out" for name in names]


def _chosen(config: RunConfig) -> tuple[str, ...]:
    return registry.permitted(config.settings.strategies, cross_user=config.settings.cross_user)


def encoders(
    config: RunConfig, cache: pathlib.Path | None, *, base: encode.Base | None = None
) -> tuple[personal.Encode, compare.Embed]:
    """Features of pairs, and embeddings of texts, of the run's frozen base."""
    base = base or encode.load_base(config.base, config.pooling, blocks.Compute(dtype=config.base_dtype))

    def encode_pairs(pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        with progress.bar("features") as advance:
            return encode.encode_pairs(base, pairs, max_tokens=config.max_pair_tokens, cache=cache, progress=advance)

    def embed(texts: Sequence[str]) -> np.ndarray:
        with progress.bar("embeddings") as advance:
            return encode.embed(base, texts, cache=cache, progress=advance)

    return encode_pairs, embed


def cache_folder(machine: Machine, answers: store.Store) -> pathlib.Path:
    """Where features of the base are kept: the folder that is given, or one beside the store."""
    return pathlib.Path(machine.cache) if machine.cache else answers.path.parent / "features"


def _compute(config, out, data: load.Data, people: hydra.People, llm, encoded, clock, command) -> dict[str, Any]:
    encode_pairs, embed = encoded
    bench = _lab(config, data, llm, embed=embed, out=out)
    asked = [*people.validation_queries, *people.new_queries]
    with clock.stage("prompt baselines"):
        prompts = {name: baselines.answer(bench, name, people.validation_queries, asked) for name in strategies(config)}
    learns = _learner(config, encode_pairs, folder=out / "checkpoints")
    with clock.stage("hydra"):
        result = hydra.hydra(bench, learns, people, prompts["rag"].shown)
    with clock.stage("controls"):
        compared = compare.compare(bench, people, prompts, result, (data.train, data.validation), embed)
    with clock.stage("report"):
        saved.save(out / "scorers", result)
        files.write_lines(out / "predictions.jsonl", compared.rows)
        curves = {
            name: {stage: [[i + 1, v] for i, v in enumerate(curve) if v == v] for stage, curve in choice.curves.items()}
            for name, choice in learns.choices.items()
        }
        files.write_json(out / "curves.json", curves)
        files.write_json(out / "choices.json", _choices(prompts, learns, compared, bench, data, people))
        found = results.build(
            data.task,
            compared.rows,
            results.RunFacts(
                experiment=config.experiment,
                split="dev" if not config.folds else f"fold {config.fold} of {config.folds}",
                llm=books.llm(llm),
                best_source=compared.best_source,
                best_prompt=compared.best_prompt,
                new_user=costs.new_user(bench, people.new),
                seconds=clock.seconds,
            ),
            seed=config.seed,
        )
        files.write_json(out / "results.json", found)
        books.note(out, command, clock, llm, finished=True)
        page.write_report(out)
    return found


def _keep_compiled(path: pathlib.Path) -> None:
    """Compiled programs are kept on the disk: compiling is most of the time that small fits take."""
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


def _learner(
    config: RunConfig, encode_pairs: personal.Encode, *, folder: pathlib.Path | None
) -> selection.ValidatedLearner:
    adapter = dataclasses.replace(config.scorer, family=config.adapter_family or config.scorer.family, seed=config.seed)
    return selection.ValidatedLearner(
        encode_pairs,
        [dataclasses.replace(adapter, loss=loss) for loss in config.losses],
        families={"reranker": config.reranker_family or config.scorer.family},
        epochs=config.epochs,
        folder=folder,
    )


def _lab(
    config: RunConfig,
    data: load.Data,
    llm: sampler.Sampler,
    *,
    embed: compare.Embed | None = None,
    out: pathlib.Path | None = None,
) -> lab.Lab:
    ctx = contract.Context(
        task=data.task,
        llm=llm,
        settings=config.settings.prompts,
        population=data.train.users if config.settings.cross_user else None,
        embed=embed,
        seed=config.seed,
    )
    return lab.Lab(
        ctx=ctx,
        users=data.users,
        settings=dataclasses.replace(config.settings, strategies=_chosen(config)),
        reward=data.reward,
        seed=config.seed,
        library=library.Library(None if out is None else out / library.FILE),
    )


def _choices(prompts, learns, compared, bench, data, people) -> dict[str, Any]:
    """What validation users chose, and what was cut: enough to see why the run looks as it does."""
    return {
        "validation_users": len(people.validation),
        "validation_queries": len(people.validation_queries),
        "shown": {
            name: {"k": prompt.shown, "quality": {str(k): v for k, v in prompt.validation.items()}}
            for name, prompt in prompts.items()
        },
        "scorers": {
            name: {"family": choice.family, "loss": choice.loss, "epochs": choice.epochs, "quality": choice.quality}
            for name, choice in learns.choices.items()
        },
        "single_sources": compared.validation,
        "best_source": compared.best_source,
        "best_prompt": compared.best_prompt,
        "union": compared.union,
        "cut_from_records": dict(bench.ctx.cut),
        "faults": dict(bench.ctx.faults),
        "skipped": list(data.skipped),
        "notes": list(data.notes),
        "removed": None if data.removed is None else dataclasses.asdict(data.removed),
    }
