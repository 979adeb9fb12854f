"""HyPerAlign's authorship task as a run: authors, strategies, a judge, win rates, report.

A killed run goes on with the same command: answers and user models are kept.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from hydrajax import files, progress
from hydrajax.data import authorship, texts_by_author
from hydrajax.evaluation.authorship import classifier as authorship_classifier
from hydrajax.evaluation.authorship import judges, report
from hydrajax.evaluation.authorship import results as results_lib
from hydrajax.llm import models, planner, sampler, store
from hydrajax.llm.request import Transport
from hydrajax.methods import controls, hyperalign, shuffled
from hydrajax.methods import lab as lab_lib
from hydrajax.methods import settings as settings_lib
from hydrajax.nn import encode, feature_cache
from hydrajax.prompting import contract, library, registry
from hydrajax.runs import books, folder, pipeline
from hydrajax.types import Query

ALWAYS = ("zero_shot", "icl_random")  # what everything is compared with
SHOWN_AUTHORS = 3  # whose user models stand in the report
PROMPTS = contract.PromptSettings(max_answer_tokens=250)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AuthorshipConfig:
    """An authorship run.

    Attributes:
      data: files and folders of texts by author, those that are shown first (`data.texts_by_author`).
      experiment: tells run folders apart.
      authors, shown, validation, test: see `data.authorship.draw`.
      shown_words: of a shown text at most its beginning; None for all of it.
      strategies: compared; zero-shot and few-shot (`icl_random`) are added.
      llm: `local`, a GGUF file, `scripted`, or a Claude model.
      judge: `classifier`, or `llm`.
      judge_llm: the LLM that judges, named as `llm` is; None for the one that writes.
      samples: texts of each strategy for each query, the greedy one among them.
      control_samples: the same for prompts made of another author's texts.
      temperature: of the sampled texts.
      judge_words: most words that are compared.
      judge_texts: most texts of each author that the classifier learns from.
      base: name or folder of the base encoder.
      cross_user: whether strategies that compare authors may look at other authors' shown texts.
      prompts: how prompts are built.
      seed: of every draw.
    """

    data: tuple[str, ...]
    experiment: Literal["hyperalign"] = "hyperalign"
    authors: int = 10
    shown: int = 7
    validation: int = 2
    test: int = 2
    shown_words: int | None = 120
    strategies: tuple[str, ...] = (*ALWAYS, hyperalign.STRATEGY)
    llm: str = "local"
    judge: Literal["classifier", "llm"] = "classifier"
    judge_llm: str | None = None
    samples: int = 3
    control_samples: int = 1
    temperature: float = 0.7
    judge_words: int = 150
    judge_texts: int = 30
    base: str = "minilm"
    cross_user: bool = True
    prompts: contract.PromptSettings = PROMPTS
    seed: int = 0

    def __post_init__(self):
        object.__setattr__(self, "strategies", tuple(dict.fromkeys((*ALWAYS, *self.strategies))))
        least = {"authors": 2, "shown_words": 10, "judge_words": 10, "judge_texts": authorship.LEAST_UNSEEN, "seed": 0}
        least |= dict.fromkeys(("shown", "validation", "test", "samples", "control_samples"), 1)
        for name, lowest in least.items():
            value = getattr(self, name)
            if value is not None and value < lowest:
                raise ValueError(f"{name} is {value}, expected at least {lowest}")
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature is {self.temperature}, expected a number from 0 up")
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


def run(
    config: AuthorshipConfig,
    out: pathlib.Path,
    *,
    command: str,
    machine: pipeline.Machine = pipeline.Machine(),  # noqa: B008 (frozen)
    say: pipeline.Say = print,
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
      DataError: bad data, an unknown strategy, or a folder that holds something else. Nothing is written then.
      LLMError: the LLM does not answer. Answers received before are stored.
    """
    clock = books.Clock(say)
    for name in registry.left_out(config.strategies, cross_user=config.cross_user):
        say(f"note: {name} looks at other authors' texts, which is switched off: it is left out")
    with clock.stage("data"):
        data = load(config)
    for sentence in data.notes:
        say(f"note: {sentence}")
    transport = machine.connect(config.llm)
    transport.check()
    judging = _judging(config, machine)
    if judging is not None:
        judging.check()
    answers = store.Store(machine.store)
    # Before anything is written: the base may be unknown.
    embed = embedder(config, pipeline.cache_folder(machine, answers))
    folder.prepare(out, config, command)
    llm = sampler.StoredSampler(transport, answers, budget=machine.budget)
    other = None
    if judging is not None:
        other = sampler.StoredSampler(judging, answers, budget=machine.budget, beside=llm)

    try:
        bench = _lab(config, data, llm, embed=embed, path=out / library.FILE)
        with clock.stage("texts"):
            rows = _rows(config, data, bench)
        if other is not None:
            llm.close()  # of embedded LLMs the machine serves one at a time: the other would wait for this one
        with clock.stage("judge"):
            judge = _judge(config, data, other or llm, embed)
            facts = _judged(config, data, judge, rows, embed)
        found = _results(config, data, bench, rows, facts, llm, other, clock)
        files.write_lines(out / "predictions.jsonl", rows)
        files.write_json(out / "results.json", found)
        books.note(out, command, clock, llm, finished=True, judge=other)
        report.write_report(out)
        return found
    except BaseException:
        books.note(out, command, clock, llm, finished=False, judge=other)
        raise
    finally:
        llm.close()
        if other is not None:
            other.close()
        answers.close()


def plan(
    config: AuthorshipConfig,
    *,
    machine: pipeline.Machine = pipeline.Machine(),  # noqa: B008 (frozen)
) -> tuple[books.Plan, ...]:
    """Counts the calls of a run without making one, stored answers left out: of the LLM, and of another that judges."""
    data = load(config)
    transport = machine.connect(config.llm)
    judging = _judging(config, machine)
    answers = store.Store.without_making(machine.store)
    counting = planner.Planner(transport.model, answers)
    other = None if judging is None else planner.Planner(judging.model, answers)
    loaded = functools.cache(lambda: embedder(config, None))  # only where a strategy compares
    embed: contract.Embed = feature_cache.in_memory(lambda texts: loaded()(texts))
    bench = _lab(config, data, counting, embed=embed)
    rows = _rows(config, data, bench)
    if config.judge == "llm":
        _judged(config, data, _judge(config, data, other or counting, embed), rows, embed)
    answers.close()
    batch = machine.transport == "batches"
    plans = [books.plan(counting, parallel=transport.parallel, batch=batch)]
    if other is not None and judging is not None:
        plans.append(books.plan(other, parallel=judging.parallel, batch=batch))
    return tuple(plans)


def load(config: AuthorshipConfig) -> authorship.Authorship:
    """The authors and what is asked.

    Raises:
      DataError: faulty texts, or too few of them.
    """
    return authorship.draw(
        texts_by_author.read([pathlib.Path(path) for path in config.data]),
        authors=config.authors,
        shown=config.shown,
        validation=config.validation,
        test=config.test,
        shown_words=config.shown_words,
        seed=config.seed,
    )


def _judging(config: AuthorshipConfig, machine: pipeline.Machine) -> Transport | None:
    """The way to another LLM that judges, None where there is none."""
    return None if config.judge_llm in (None, config.llm) else machine.connect(config.judge_llm)


def _lab(config, data: authorship.Authorship, llm: sampler.Sampler, *, embed, path=None) -> lab_lib.Lab:
    ctx = contract.Context(
        task=authorship.TASK,
        llm=llm,
        settings=config.prompts,
        population=data.users if config.cross_user else None,
        embed=embed,
        seed=config.seed,
    )
    settings = settings_lib.Settings(
        retrieved=config.shown, shown=(config.shown,), temperature=config.temperature, prompts=config.prompts
    )
    return lab_lib.Lab(ctx=ctx, users=data.users, settings=settings, seed=config.seed, library=library.Library(path))


def _rows(config: AuthorshipConfig, data: authorship.Authorship, bench: lab_lib.Lab) -> list[results_lib.Row]:
    """Every contestant's texts for the test queries, without the sentence that they start with."""
    (lender,) = controls.derangements(tuple(data.users), seed=config.seed, n=1)
    texts: dict[str, Mapping[str, Sequence[str]]] = {}
    for strategy in config.compared:
        texts[strategy] = hyperalign.hyperalign(bench, data.test, strategy=strategy, samples=config.samples)
    for strategy in shuffled.personal(config.compared):
        name = shuffled.name(strategy)
        written: dict[str, list[str]] = {}
        for here, own in shuffled.apart(strategy, bench, data.test):
            lent = shuffled.lent(own, lender)
            found = hyperalign.hyperalign(here, lent, strategy=strategy, samples=config.control_samples, stage=name)
            written |= {query.id: found[other.id] for query, other in zip(own, lent, strict=True)}
        texts[name] = written
    real = _golds(data.test)
    return [_row(query, texts, real, lender, bench) for query in data.test]


def _row(query: Query, texts, real, lender, bench: lab_lib.Lab) -> results_lib.Row:
    first = query.inputs["first_sentence"]
    place = [own for owner, own in real if owner == query.user_id].index(query.gold)
    rivals = [own for owner, own in real if owner == lender[query.user_id]]
    written = {
        name: [authorship.without_first_sentence(text, first) for text in by_query[query.id]]
        for name, by_query in texts.items()
    }
    return {
        "query": query.id,
        "user": query.user_id,
        "input": first,
        "gold": query.gold,
        "shown": [record.fields["text"] for record in bench.users[query.user_id].profile],
        "texts": written
        | {results_lib.THE_AUTHOR: [query.gold], results_lib.ANOTHER_AUTHOR: [rivals[place % len(rivals)]]},
    }


def _judge(config, data: authorship.Authorship, llm: sampler.Sampler, embed) -> judges.Judge:
    if config.judge == "llm":
        known = {author: text for author, text in reversed(_golds(data.validation))}
        temperature = 0.0 if models.find(llm.model).temperature else None
        return judges.LlmJudge(llm, known, temperature=temperature, words=config.judge_words)
    unseen = {author: own[: config.judge_texts] for author, own in data.unseen.items()}
    return judges.ClassifierJudge(
        authorship_classifier.fit(unseen, embed=embed, chunk_words=config.judge_words, seed=config.seed)
    )


def _judged(config, data: authorship.Authorship, judge: judges.Judge, rows, embed) -> dict[str, Any]:
    """Wins in the rows, and what is known of the judge. An LLM knows the validation texts: it judges the others."""
    results_lib.judge_rows(judge, rows, config.compared, limit=config.judge_words)
    if not isinstance(judge, judges.ClassifierJudge):
        real = _golds(data.test)
        return results_lib.judge_facts(judge, rows, real=real, others=1, seed=config.seed)
    real = [*_golds(data.test), *_golds(data.validation)]
    features = np.asarray(embed([text for _, text in real]), np.float64)
    facts = results_lib.judge_facts(judge, rows, real=real, features=features, by_words=True, seed=config.seed)
    fitted = judge.classifier
    return facts | {
        "cross_validation": fitted.accuracy,
        "weight_of_ngrams": fitted.weight,
        "training_texts": len(fitted.grams.left_out),
    }


def _golds(queries: Sequence[Query]) -> list[tuple[str, str]]:
    return [(query.user_id, query.gold) for query in queries if query.gold is not None]


def _results(config, data: authorship.Authorship, bench, rows, facts, llm, other, clock) -> dict[str, Any]:
    rates = results_lib.win_rates(rows, seed=config.seed)
    first = list(data.users)[:SHOWN_AUTHORS]
    models_of: dict[str, dict[str, str]] = {author: {} for author in first}
    for key, model in bench.library.items():
        if key.user_id in models_of:
            models_of[key.user_id][key.strategy] = model.text
    return {
        "experiment": config.experiment,
        "task": authorship.TASK.name,
        "split": "test",
        "users": len(data.users),
        "queries": len(rows),
        "llm": dataclasses.asdict(books.llm(llm)),
        "judge_llm": None if other is None else dataclasses.asdict(books.llm(other)),
        "judge": facts | {"llm": (other or llm).model if config.judge == "llm" else None},
        "win_rates": rates,
        "personal": results_lib.personal(rates),
        **results_lib.lengths_and_copies(rows),
        "user_models": models_of,
        "near_duplicates": data.near_duplicates,
        "notes": list(data.notes),
        "faults": dict(bench.ctx.faults),
        "cut": dict(bench.ctx.cut),
        "seconds": clock.seconds,
    }


def embedder(config: AuthorshipConfig, cache: pathlib.Path | None) -> contract.Embed:
    """Embeddings by the base.

    Raises:
      DataError: there is no such base.
    """
    base = encode.load_base(config.base)

    def embed(texts: Sequence[str]) -> np.ndarray:
        with progress.bar("embeddings") as advance:
            return encode.embed(base, texts, cache=cache, progress=advance)

    return embed
