"""The trained scorers of a run on the disk, for answering later."""

import dataclasses
import pathlib

from hydrajax import files, training
from hydrajax.methods import hydra
from hydrajax.methods import scorers as personal
from hydrajax.types import DataError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Saved:
    """A run's reranker, hydra's adapter, and k."""

    reranker: personal.Scorer
    adapter: personal.Scorer
    shown: int


def save(path: pathlib.Path, result: hydra.Result) -> None:
    """Keeps reranker and adapter with all heads that were personalised."""
    path.mkdir(parents=True, exist_ok=True)
    rows = {}
    for name, scorer in (("reranker", result.reranker), ("adapter", result.adapters["hydra"])):
        if isinstance(scorer, personal.Personal):
            training.save_fitted(path / name, scorer.fitted, scorer.heads)
            rows[name] = dict(scorer.user_rows)
    files.write_json(path / "users.json", {"shown": result.shown, "rows": rows})


def load(path: pathlib.Path, encode: personal.Encode) -> Saved:
    """What `save` kept.

    Raises:
      DataError: the run is not finished, or its files are damaged.
    """
    if not (path / "users.json").exists():
        raise DataError(f"{path.parent}: holds no trained run; repeat its command to finish it")
    kept = files.read_json(path / "users.json")
    scorers: dict[str, personal.Scorer] = {}
    for name in ("reranker", "adapter"):
        if name in kept["rows"]:
            fitted, heads = training.load_fitted(path / name)
            rows = kept["rows"][name]
            scorers[name] = personal.Personal(encode=encode, fitted=fitted, heads=heads, user_rows=rows)
        else:
            scorers[name] = personal.Untrained()
    return Saved(reranker=scorers["reranker"], adapter=scorers["adapter"], shown=kept["shown"])
