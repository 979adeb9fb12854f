"""The trained system of a run on the disk, for answering later."""

import pathlib

from hydrajax import files, training
from hydrajax.methods import hydra, scorers
from hydrajax.types import DataError


def save(path: pathlib.Path, system: hydra.System) -> None:
    """Keeps reranker and adapter with all heads that were personalised."""
    path.mkdir(parents=True, exist_ok=True)
    rows = {}
    for name, scorer in (("reranker", system.reranker), ("adapter", system.adapter)):
        if isinstance(scorer, scorers.PersonalScorer):
            training.save_fitted(path / name, scorer.fitted, scorer.heads)
            rows[name] = dict(scorer.user_rows)
    files.write_json(path / "users.json", {"shown": system.k, "rows": rows})


def load(path: pathlib.Path, encode: scorers.Encode) -> hydra.System:
    """What `save` kept.

    Raises:
      DataError: the run is not finished, or its files are damaged.
    """
    check(path)
    kept = files.read_json(path / "users.json")

    def scorer(name: str) -> scorers.TrainedScorer:
        if name not in kept["rows"]:
            return scorers.Untrained()
        fitted, heads = training.load_fitted(path / name)
        return scorers.PersonalScorer(encode=encode, fitted=fitted, heads=heads, user_rows=kept["rows"][name])

    return hydra.System(reranker=scorer("reranker"), adapter=scorer("adapter"), k=kept["shown"])


def check(path: pathlib.Path) -> None:
    """Refuses a folder in which nothing is kept; a DataError."""
    if not (path / "users.json").exists():
        raise DataError(f"{path.parent}: holds no trained run; repeat its command to finish it")
