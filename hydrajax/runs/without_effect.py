"""Settings that a run was given and that nothing in it looks at, said in one sentence before anything is computed.

They are not refused: one configuration serves runs over several families, strategies and LLMs.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydrajax import plugins
from hydrajax.llm import connect
from hydrajax.prompting import contract, registry
from hydrajax.runs import presets
from hydrajax.runs.config import Configuration, RunConfig
from hydrajax.runs.machine import Machine
from hydrajax.types import DataError

# The strategies that look at settings of prompts; all look at the others.
OF_STRATEGIES: Mapping[str, tuple[str, ...]] = {
    "summary_records": ("pag", "hypotheses", "hypothesis_bank", "persona"),
    "max_summary_tokens": ("pag", "peer_difference", "persona"),
    "max_hypotheses_tokens": ("hypotheses", "hypothesis_bank"),
    "peers": ("cfrag", "peer_difference"),
    "peer_weight": ("cfrag",),
    "peer_records": ("cfrag",),
    "peer_ranking": ("cfrag",),
    "compared_records": ("peer_difference",),
    "compare_on": ("peer_difference",),
    "least_writers": ("peer_difference",),
    "persona_records": ("persona",),
    "max_reasoning_tokens": ("persona",),
    "trials": ("persona",),
    "demonstrations": ("persona",),
}
# What convex families do not look at on frozen features; and what besides, where users share nothing that is learned.
_STEPS = ("learning_rate", "decays")
_SHARED_STEPS = ("pooled_learning_rate", "pooled_epochs", "weight_decay", "clip", "batch_examples", "moments")
_OF_LLMS = (
    (connect.is_remote, "no LLM behind an API", ("key_file", "salt_file", "parallel")),
    (connect.is_embedded, "no embedded LLM", ("threads",)),
)


def sentence(config: Configuration, machine: Machine) -> str:
    """The settings that differ from their defaults to no effect, with the reason; empty where there is none."""
    given = {**dict(_of_machine(config, machine)), **dict(_of_prompts(config))}
    if isinstance(config, RunConfig):
        given = {**dict(_of_union(config)), **given, **dict(_of_scorers(config))}
    reasons: dict[str, list[str]] = {}
    for option, why in given.items():
        reasons.setdefault(why, []).append(option)
    return "; ".join(f"{', '.join(options)} ({why})" for why, options in reasons.items())


def _of_machine(config: Configuration, machine: Machine) -> Iterator[tuple[str, str]]:
    for is_of, why, names in _OF_LLMS:
        if not any(map(is_of, config.llms)):
            yield from ((_option(name), why) for name in names if _differs(machine, name, Machine()))


def _of_union(config: RunConfig) -> Iterator[tuple[str, str]]:
    default = config.of_preset(config.llm, config.preset)["settings"]
    if not config.settings.strategies and _differs(config.settings, "candidates", default):
        yield "--candidates", "no --strategies"
    if not config.settings.cross_user and default.cross_user and not _compare(config.settings.strategies):
        yield "--no-cross-user", "no strategy that looks at other users' records"


def _of_prompts(config: Configuration) -> Iterator[tuple[str, str]]:
    from hydrajax.methods import baselines  # with JAX, which what is wrong with data does not wait for

    if isinstance(config, RunConfig):
        prompts, place = config.settings.prompts, "settings.prompts"
        default = config.of_preset(config.llm, config.preset)["settings"].prompts
        asked, of_presets = config.settings.strategies, [p["settings"].prompts for p in presets.PRESETS.values()]
        asked = (*baselines.STRATEGIES, *asked)
    elif isinstance(getattr(config, "prompts", None), contract.PromptSettings):
        prompts, place, asked = config.prompts, "prompts", getattr(config, "strategies", ())  # type: ignore[attr-defined]
        default, of_presets = type(config).prompts, []  # type: ignore[attr-defined]
    else:
        return
    # What a preset says in one piece is not meant for one strategy; one's own may look at anything.
    if prompts in of_presets or any(name not in registry.names() for name in asked):
        return
    for name, strategies in OF_STRATEGIES.items():
        if not {*strategies} & {*asked} and _differs(prompts, name, default):
            yield _option(f"{place}.{name}"), f"no strategy {' or '.join(strategies)}"


def _of_scorers(config: RunConfig) -> Iterator[tuple[str, str]]:
    from hydrajax.methods.collaborative import learn as collaborative
    from hydrajax.nn import heads
    from hydrajax.nn.heads import Dims

    own = (config.reranker_family, config.adapter_family)
    default = config.of_preset(config.llm, config.preset)["scorer"]
    if all(own) and _differs(config.scorer, "family", default):
        yield "--scorer.family", "reranker and adapter have families of their own"
    if config.scorer in [fits["scorer"] for fits in presets.PRESETS.values()]:
        return
    names = {family or config.scorer.family for family in own}
    if collaborative.STRATEGY in config.settings.strategies:
        names |= {*collaborative.FITTED["families"].values()}
    try:
        families = [heads.get(name) for name in sorted(names)]
    except DataError:  # the run will say it
        return
    called = f"family {' and '.join(plugins.last_part(name.partition(':')[0]) for name in sorted(names))}"
    if not any(map(heads.has_dropout, families)) and _differs(config.scorer, "dropout", default):
        yield "--scorer.dropout", f"no dropout in {called}"
    if config.train_base or not all(isinstance(family, heads.Convex) for family in families):
        return
    shares = any(not plugins.is_own(type(f)) or heads.shared_shapes(f, Dims(features=8, extras=1)) for f in families)
    for name in _STEPS if shares else (*_STEPS, *_SHARED_STEPS):
        if _differs(config.scorer, name, default):
            yield _option(f"scorer.{name}"), f"fitted exactly, without steps: {called}"


def _compare(strategies: Sequence[str]) -> bool:
    """Whether any looks at other users' records; what cannot be had is refused later."""
    try:
        return any(registry.get(name).compares for name in strategies)
    except DataError:
        return True


def _differs(settings: Any, name: str, default: Any) -> bool:
    """From the default of a preset, and from that of its class."""
    value = getattr(settings, name)
    field = next(field for field in dataclasses.fields(settings) if field.name == name)
    return bool(value != getattr(default, name) and value != field.default)


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
