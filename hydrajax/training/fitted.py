"""What pretraining leaves behind, and how it is kept on the disk: one safetensors file, one JSON file."""

import dataclasses
import functools
import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy
from flax import traverse_util

from hydrajax import files
from hydrajax.nn import heads
from hydrajax.nn import scorer as scorers
from hydrajax.training.config import FitConfig
from hydrajax.types import DataError

FORMAT = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fitted:
    """A pretrained scorer; arrays are numpy.

    Attributes:
      config: how it was fitted.
      dims: widths of the heads' input.
      normaliser: statistics of the training users' inputs.
      shared: what all users share; where heads are stored, `shared["generic"]` is the pooled head (or the family's
        own generic user, where it learns one).
      bank: the training users' heads, every leaf [num_users, ...]; {} where none were fitted or none are stored.
      base: parameters of the base where it was trained, else {}.
      curves: mean training loss per epoch, by stage: `base`, `pooled`, `personal`. Convex families: before and after.
    """

    config: FitConfig
    dims: heads.Dims
    normaliser: scorers.Normaliser
    shared: Any
    bank: Any
    base: Any
    curves: Mapping[str, tuple[float, ...]]

    @property
    def family(self) -> heads.Family:
        return family_of(self.config)

    @property
    def generic(self) -> heads.User:
        """The pooled head, numpy: stands in for a user without a profile."""
        return jax.device_get(_generic(self.family)(self.shared))


def family_of(config: FitConfig) -> heads.Family:
    """The configured family."""
    return heads.with_dropout(config.family, config.dropout)


@functools.lru_cache(maxsize=64)
def _generic(family: heads.Family) -> Any:
    return jax.jit(family.generic)


def save_fitted(folder: str | pathlib.Path, fitted: Fitted, user_heads: Any = None) -> None:
    """Keeps a scorer, and heads of users, in a folder; nothing half-written is ever taken for a scorer."""
    folder = pathlib.Path(folder).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    normaliser = {"mean": fitted.normaliser.mean, "scale": fitted.normaliser.scale}
    tree = {"normaliser": normaliser, "shared": fitted.shared, "bank": fitted.bank, "base": fitted.base}
    if user_heads is not None:
        tree["heads"] = user_heads
    flat = traverse_util.flatten_dict(tree, sep="/")
    # Not `ascontiguousarray`, which makes a vector of an intercept.
    data = safetensors.numpy.save({name: np.asarray(leaf, order="C") for name, leaf in flat.items()})
    note = {
        "format": FORMAT,
        "config": dataclasses.asdict(fitted.config),
        "dims": dataclasses.asdict(fitted.dims),
        "curves": {name: [None if v != v else v for v in curve] for name, curve in fitted.curves.items()},
        "heads": user_heads is not None,
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    files.write_bytes(folder / "scorer.safetensors", data)
    files.write_json(folder / "scorer.json", note)


def load_fitted(folder: str | pathlib.Path) -> tuple[Fitted, Any]:
    """What `save_fitted` kept: (scorer, heads of users or None).

    Raises:
      DataError: the folder holds no scorer, or one that is damaged.
    """
    folder = pathlib.Path(folder).expanduser()
    try:
        note = json.loads((folder / "scorer.json").read_text(encoding="utf-8"))
        data = (folder / "scorer.safetensors").read_bytes()
    except (OSError, ValueError) as error:
        raise DataError(f"{folder}: holds no fitted scorer (scorer.json and scorer.safetensors): {error}") from error
    try:
        if note["format"] != FORMAT:
            raise DataError(f"{folder / 'scorer.json'}: format is {note['format']!r}, expected {FORMAT}")
        if hashlib.sha256(data).hexdigest() != note["sha256"]:
            raise DataError(f"{folder / 'scorer.safetensors'}: is damaged or not the one of scorer.json")
        tree = traverse_util.unflatten_dict(safetensors.numpy.load(data), sep="/")
        fitted = Fitted(
            config=FitConfig(**note["config"]),
            dims=heads.Dims(**note["dims"]),
            normaliser=scorers.Normaliser(**tree["normaliser"]),
            shared=tree.get("shared", {}),
            bank=tree.get("bank", {}),
            base=tree.get("base", {}),
            curves={
                name: tuple(float("nan") if v is None else v for v in curve) for name, curve in note["curves"].items()
            },
        )
        return fitted, tree.get("heads", {}) if note["heads"] else None
    except (KeyError, TypeError, AttributeError, safetensors.SafetensorError) as error:
        raise DataError(f"{folder / 'scorer.json'}: does not describe a fitted scorer: {error!r}") from error
