"""What pretraining leaves behind, and how it is kept on the disk: one safetensors file, one JSON file."""

import collections
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
from hydrajax.nn import family_checks, heads
from hydrajax.nn import scorer as scorers
from hydrajax.training import checks
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
      curves: mean training loss per epoch, by stage: `base` (of it, or of what users share), `shared` (beside a base
        that was trained), `pooled`, `personal`. Convex families: before and after.
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Snapshots:
    """Heads after each of several numbers of epochs, so that validation users can choose it.

    Attributes:
      heads: number of epochs -> heads, every leaf [num_users, ...].
      curve: mean training loss per epoch over all users; convex families: before and after.
    """

    heads: dict[int, heads.User]
    curve: tuple[float, ...]


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
    data = safetensors.numpy.save({name: np.asarray(leaf, order="C") for name, leaf in checks.leaves(tree).items()})
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
      DataError: the folder holds no scorer, or one that is damaged or does not fit its family.
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
        config, dims = FitConfig(**note["config"]), heads.Dims(**note["dims"])
        parts: dict[str, dict[str, np.ndarray]] = collections.defaultdict(dict)
        for name, array in safetensors.numpy.load(data).items():
            part, _, leaf = name.partition("/")
            parts[part][leaf] = array
        statistics = jax.ShapeDtypeStruct((dims.inputs,), np.float32)
        normaliser = scorers.Normaliser(mean=statistics, scale=statistics)
        shared, user = family_checks.fitted_shapes(family_of(config), dims)
        restored = functools.partial(_restored, folder / "scorer.safetensors", parts)
        fitted = Fitted(
            config=config,
            dims=dims,
            normaliser=restored("normaliser", normaliser),
            shared=restored("shared", shared),
            bank=restored("bank", user, stacked=True) if parts["bank"] else {},
            base=traverse_util.unflatten_dict(parts["base"], sep="/"),
            curves={
                name: tuple(float("nan") if v is None else v for v in curve) for name, curve in note["curves"].items()
            },
        )
        return fitted, restored("heads", user, stacked=True) if note["heads"] else None
    except (KeyError, TypeError, AttributeError, safetensors.SafetensorError) as error:
        raise DataError(f"{folder / 'scorer.json'}: does not describe a fitted scorer: {error!r}") from error


def _restored(
    file: pathlib.Path, parts: Mapping[str, Mapping[str, np.ndarray]], part: str, like: Any, *, stacked: bool = False
) -> Any:
    """The tree of a part of the file, shaped as `like`; every leaf [num_users, ...] where it is of many users."""
    wanted = checks.leaves(like)
    # Earlier versions kept a number as an array of one.
    numbers = {name for name, leaf in wanted.items() if leaf.shape == () and not stacked}
    got = {
        name: array.reshape(()) if name in numbers and array.shape == (1,) else array
        for name, array in parts[part].items()
    }
    lead = next((array.shape[:1] for array in got.values()), ()) if stacked else ()
    checks.check_like(got, wanted, f"{file}: {part}", lead=lead)
    return jax.tree.unflatten(jax.tree.structure(like), [got[name] for name in wanted])
