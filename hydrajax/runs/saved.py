"""The trained system of a run on the disk, for answering later.

scorers/users.json, reranker/, adapter/: scorer.safetensors, scorer.json, and base/ where it was trained
"""

import dataclasses
import pathlib
from typing import Any, Protocol, runtime_checkable

from hydrajax import files, forms, training
from hydrajax.methods import hydra, scorers
from hydrajax.runs import encoder
from hydrajax.types import DataError

BASE = "base"
SCORERS = ("reranker", "adapter")  # of a `hydra.System`


@runtime_checkable
class Kept(Protocol):
    """An encoder that can be had with a base that was kept in a folder."""

    def saved(self, folder: pathlib.Path) -> scorers.Encode:
        """The encoder with the base that was kept there."""


def save(path: pathlib.Path, system: hydra.System) -> None:
    """Keeps reranker and adapter with all heads that were personalised, and a base that was trained for one."""
    path.mkdir(parents=True, exist_ok=True)
    rows = {}
    for name in SCORERS:
        scorer = getattr(system, name)
        if isinstance(scorer, scorers.PersonalScorer):
            training.save_fitted(path / name, dataclasses.replace(scorer.fitted, base={}), scorer.heads)
            if scorer.fitted.base:
                assert isinstance(scorer.encode, encoder.Encoder)
                scorer.encode.save(path / name / BASE)
            rows[name] = dict(scorer.user_rows)
    files.write_json(path / "users.json", {"shown": system.k, "rows": rows})


def load(path: pathlib.Path, encode: scorers.Encode) -> hydra.System:
    """What `save` kept.

    Args:
      path: the folder.
      encode: of the run's base, as it was before any was trained.

    Raises:
      DataError: the run is not finished, or its files are damaged.
    """
    kept = _kept(path)

    def scorer(name: str) -> scorers.TrainedScorer:
        if name not in kept["rows"]:
            return scorers.Untrained()
        fitted, heads = training.load_fitted(path / name)
        own = encode
        if fitted.config.train_base:
            assert isinstance(encode, Kept)
            own = encode.saved(path / name / BASE)
        return scorers.PersonalScorer(encode=own, fitted=fitted, heads=heads, user_rows=kept["rows"][name])

    return hydra.System(reranker=scorer("reranker"), adapter=scorer("adapter"), k=kept["shown"])


def check(path: pathlib.Path) -> None:
    """Refuses a folder in which nothing is kept; a DataError."""
    if not (path / "users.json").exists():
        raise DataError(f"{path.parent}: holds no trained run; repeat its command to finish it")


def check_whole(path: pathlib.Path) -> None:
    """Refuses a folder whose files are missing or damaged, bases that were trained aside; a DataError."""
    for name in _kept(path)["rows"]:
        training.load_fitted(path / name)


def _kept(path: pathlib.Path) -> Any:
    """What `users.json` says."""
    check(path)
    kept = files.read_json(path / "users.json")
    forms.check(path / "users.json", kept, {"shown": int, "rows": {...: {...: int}}})
    return kept
