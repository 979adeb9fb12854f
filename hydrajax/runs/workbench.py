"""Everything that a run, an experiment or a command opens: LLMs, store, base, caches, compiled programs, labs.

with workbench.opened(machine, llms=("local",), base=config.Base()) as bench:
    lab = bench.lab(task, users, settings, seed=0)
    sampling.answer(lab, ...); bench.encode(pairs); bench.embed(texts); bench.llm.usage

with workbench.planning(machine, llms=("local",), base=config.Base()) as bench:
    ...                          the same, which counts what would be asked, calls nobody and leaves nothing behind
    bench.plans()
"""

import contextlib
import dataclasses
import functools
import math
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from hydrajax import files
from hydrajax.data import tasks
from hydrajax.llm import planner, request, sampler, store, usage
from hydrajax.methods import lab as lab_lib
from hydrajax.methods import settings as settings_lib
from hydrajax.nn import feature_cache
from hydrajax.prompting import contract, library, registry
from hydrajax.runs import accounts
from hydrajax.runs.config import Base
from hydrajax.runs.machine import Machine
from hydrajax.types import DataError, User

Encode = Callable[[Sequence[tuple[str, str]]], np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workbench:
    """What is open.

    Attributes:
      machine: where and how LLMs are asked.
      transports: the way to each LLM.
      llms: what asks them; they spend of one budget. Nobody is asked by planners.
      store: their answers.
      encode: pairs of texts -> features [N, D] of the base.
      embed: texts -> features [N, D].
      strategy: the prompt strategy of a name; in a plan, what stands in for one.
    """

    machine: Machine
    transports: tuple[request.Transport, ...]
    llms: tuple[sampler.StoredSampler | planner.Planner, ...]
    store: store.Store
    encode: Encode
    embed: contract.Embed
    strategy: Callable[[str], contract.Strategy] = registry.get

    @property
    def llm(self) -> sampler.Sampler:
        """The LLM that answers; without any, one that must not be asked."""
        return self.llms[0] if self.llms else _Nobody()

    def last_llm(self) -> sampler.Sampler:
        """The last LLM, once the others are asked no more: of embedded LLMs a machine serves one at a time."""
        for done in self.llms[:-1]:
            done.close()
        return self.llms[-1]

    def lab(
        self,
        task: tasks.Task,
        users: Mapping[str, User],
        settings: settings_lib.Settings,
        *,
        seed: int = 0,
        population: Mapping[str, User] | None = None,
        reward: lab_lib.Reward | None = None,
        folder: pathlib.Path | None = None,
    ) -> lab_lib.Lab:
        """The task, the users and the LLM, for methods.

        Args:
          task: what is asked.
          users: everybody who is asked about, by id.
          settings: of the method.
          seed: of every draw.
          population: whom strategies may look at that compare users, where the settings allow it.
          reward: of (user id, text), where simulated users judge.
          folder: keeps what strategies learn of users; None for memory.
        """
        ctx = contract.Context(
            task=task,
            llm=self.llm,
            settings=settings.prompts,
            population=population if settings.cross_user else None,
            embed=self.embed,
            seed=seed,
        )
        models = library.Library(None if folder is None else folder / library.FILE)
        return lab_lib.Lab(
            ctx=ctx, users=users, settings=settings, reward=reward, seed=seed, library=models, strategy=self.strategy
        )

    def afresh(self) -> "Workbench":
        """For a plan: the same with counts from nothing."""
        planners = (planner.Planner(transport.model, self.store) for transport in self.transports)
        return dataclasses.replace(self, llms=tuple(planners))

    def plans(self) -> tuple[accounts.Plan, ...]:
        """What has been counted, one plan an LLM."""
        batch = self.machine.transport == "batches"
        return tuple(
            accounts.plan(llm, parallel=transport.parallel, batch=batch)
            for llm, transport in zip(self.llms, self.transports, strict=True)
            if isinstance(llm, planner.Planner)
        )


@contextlib.contextmanager
def opened(machine: Machine, llms: Sequence[str], base: Base | None = None) -> Iterator[Workbench]:
    """Opens everything, and closes it again.

    Args:
      machine: where and how LLMs are asked.
      llms: their names, the one that answers first; () where none is asked.
      base: loaded at once; None where nothing is encoded, for which JAX is not imported either.

    Raises:
      LLMError: an LLM cannot be had.
      DataError: the store or the base cannot be had.
    """
    with contextlib.ExitStack() as closing:
        transports = tuple(machine.connect(llm) for llm in llms)
        for transport in transports:
            transport.check()
        answers = store.Store(machine.store) if llms else store.Store.without_making(machine.store)
        closing.callback(answers.close)
        features = _features(machine)
        encode: Encode = _without_base
        embed: contract.Embed = _without_base
        if base is not None:
            machine.prepare()
            encode, embed = encoders(base, features)
            _keep_compiled(features.parent / "compiled")
        samplers: list[sampler.StoredSampler] = []
        for transport in transports:
            first = samplers[0] if samplers else None
            samplers.append(sampler.StoredSampler(transport, answers, budget=machine.budget, beside=first))
        for stored in reversed(samplers):
            closing.callback(stored.close)
        yield Workbench(
            machine=machine, transports=transports, llms=tuple(samplers), store=answers, encode=encode, embed=embed
        )


@contextlib.contextmanager
def planning(machine: Machine, llms: Sequence[str], base: Base | None = None) -> Iterator[Workbench]:
    """The same for a plan: requests are counted, stored answers left out. The base is loaded where it is needed; kept
    features and programs are read, and what is computed is remembered but not kept.

    Raises:
      LLMError: there is no LLM of a name.
      DataError: there is no such base, or it takes no pairs of this length; whether the package of the default one is
        installed is seen where it is needed.
    """
    from hydrajax.runs import plan  # with all that methods need

    if base is not None:
        _check_length(base)
    if machine.devices is not None:  # whether there are so many
        machine.prepare()
    transports = tuple(machine.connect(llm) for llm in llms)
    with contextlib.closing(store.Store.without_making(machine.store)) as answers:

        @functools.cache
        def loaded() -> tuple[Encode, contract.Embed]:
            if base is None:
                return _without_base, _without_base
            features = _features(machine)
            _keep_compiled(features.parent / "compiled", read_only=True)
            return encoders(base, feature_cache.ReadOnly(features))

        yield Workbench(
            machine=machine,
            transports=transports,
            llms=tuple(planner.Planner(transport.model, answers) for transport in transports),
            store=answers,
            encode=_Late(loaded=lambda: loaded()[0], encode=feature_cache.in_memory(lambda pairs: loaded()[0](pairs))),
            embed=feature_cache.in_memory(lambda texts: loaded()[1](texts)),
            strategy=plan.strategy,
        )


def _check_length(base: Base) -> None:
    """Refuses longer pairs than the base has positions for, as far as that is seen without its weights; and a base
    that there is not, but for the default one."""
    from hydrajax.nn import weights

    try:
        path = weights.find_base(base.name) / weights.CONFIG
    except DataError:
        if base.name == Base.name:
            return
        raise
    positions = files.read_json(path).get("max_position_embeddings") if path.is_file() else None
    if base.max_pair_tokens is not None and isinstance(positions, int) and base.max_pair_tokens > positions:
        raise DataError(
            f"max_pair_tokens is {base.max_pair_tokens}, expected at most {positions} for base {base.name!r}"
        )


def _features(machine: Machine) -> pathlib.Path:
    """The folder of kept features; by default beside the store."""
    path = pathlib.Path(machine.store) if machine.store else store.default_path()
    return pathlib.Path(machine.cache) if machine.cache else path.parent / "features"


def encoders(base: Base, cache: pathlib.Path | feature_cache.ReadOnly | None) -> tuple[Encode, contract.Embed]:
    """Features of pairs, and embeddings of texts, of a frozen base.

    Args:
      base: which one.
      cache: folder that keeps features; None for none.

    Raises:
      DataError: there is no such base.
    """
    from hydrajax.runs import encoder

    pairs = encoder.load(base, cache)
    return pairs, pairs.embed


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Late:
    """An encoder whose base is loaded where it is needed, and which remembers."""

    loaded: Callable[[], Any]
    encode: Encode

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        return self.encode(pairs)

    def saved(self, folder: pathlib.Path) -> Encode:
        """See `encoder.Encoder.saved`."""
        found: Encode = self.loaded().saved(folder)
        return found


class _Nobody:
    """Stands in for a sampler where nothing is asked."""

    model = "none"
    usage = usage.Usage(model="none")

    def sample(self, requests: Sequence[request.Request], *, stage: str) -> list[request.Answer]:
        raise ValueError(f"{stage}: {len(requests)} requests, but the workbench was opened without an LLM")


def _without_base(texts: Sequence[Any]) -> np.ndarray:
    raise ValueError(f"{len(texts)} texts are to be encoded, but the workbench was opened without a base")


def _keep_compiled(path: pathlib.Path, *, read_only: bool = False) -> None:
    """Compiled programs are kept on the disk: compiling is most of the time that small fits take."""
    import jax

    if read_only and not path.is_dir():
        return
    jax.config.update("jax_compilation_cache_dir", str(path))
    # What took less time to compile is not kept.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", math.inf if read_only else 0.3)
