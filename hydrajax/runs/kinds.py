"""The kinds of runs that the package has, and what a configuration is as JSON."""

import dataclasses
import json
from typing import Any

from hydrajax.runs.authorship_config import Authorship
from hydrajax.runs.config import Configuration, Custom, Demo, Lamp

# Settings that runs did not have at first. As they were then they are not kept, so that folders are found again; all
# are beside a trained base, which no run had then.
NEWER: dict[str, Any] = {
    "train_base": False,
    "micro_batch": None,
    "remat": False,
    "scorer": {"moments": "float32", "base_batch_examples": 64, "micro_batch": None, "decays": False, "clip": 1.0},
}
KINDS: dict[str, type[Configuration]] = {kind.experiment: kind for kind in (Demo, Lamp, Custom, Authorship)}


def to_json(config: Configuration) -> dict[str, Any]:
    """What the run is, as JSON values."""
    kept = [field.name for field in dataclasses.fields(config) if field.compare]
    values = {name: value for name, value in dataclasses.asdict(config).items() if name in kept}
    newer = {} if values.get("train_base") else NEWER
    if not newer:  # these two are the run's own fields
        values["scorer"] = {k: v for k, v in values["scorer"].items() if k not in ("train_base", "micro_batch")}
    return json.loads(json.dumps({"experiment": config.experiment, **_without(values, newer)}))


def _without(values: dict[str, Any], newer: dict[str, Any]) -> dict[str, Any]:
    left = {name: value for name, value in values.items() if newer.get(name, ...) != value}
    nested = {name: _without(left[name], newer[name]) for name in left if isinstance(newer.get(name), dict)}
    return left | nested
