"""The base of a run: features of pairs, embeddings of texts, and what it takes to train it."""

import dataclasses
import pathlib
import shutil
from collections.abc import Sequence

import numpy as np

from hydrajax import progress
from hydrajax.nn import encode, feature_cache, tokens, weights
from hydrajax.nn.bases import blocks
from hydrajax.runs import config
from hydrajax.types import DataError

Cache = pathlib.Path | feature_cache.ReadOnly | None


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Encoder:
    """`methods.scorers.Trainable`.

    Attributes:
      base: trained or not.
      settings: how it is used.
      cache: folder that keeps features; None for none.
    """

    base: encode.Base
    settings: config.Base
    cache: Cache

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        with progress.bar("features", unit="pairs") as advance:
            return encode.encode_pairs(self.base, pairs, max_tokens=self.longest, cache=self.cache, progress=advance)

    @property
    def longest(self) -> int:
        """Tokens of the longest encoding of a pair."""
        most = self.settings.max_pair_tokens
        return encode.most_tokens(self.base) if most is None else most

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Sentence embeddings, float32 [N, D]."""
        with progress.bar("embeddings", unit="texts") as advance:
            return encode.embed(self.base, texts, cache=self.cache, progress=advance)

    def tokens(self, pairs: Sequence[tuple[str, str]]) -> tokens.Tokens:
        """What the base reads of pairs."""
        return encode.tokenize_pairs(self.base, pairs, max_tokens=self.longest)

    def of(self, base: encode.Base) -> "Encoder":
        """The same with another base."""
        return dataclasses.replace(self, base=base)

    def saved(self, folder: pathlib.Path) -> "Encoder":
        """The same with a base that `save` kept.

        Raises:
          DataError: the folder holds none, or it is damaged.
        """
        return load(dataclasses.replace(self.settings, name=str(folder)), self.cache)

    def save(self, folder: pathlib.Path) -> None:
        """Keeps the base as a Hugging Face folder, in place of one that was kept before."""
        beside = folder.with_name(folder.name + ".new")
        shutil.rmtree(beside, ignore_errors=True)
        weights.save_pretrained(beside, self.base.params, self.base.module.config, self.base.name)
        if folder.exists():
            shutil.rmtree(folder)
        beside.rename(folder)


def load(base: config.Base, cache: Cache) -> Encoder:
    """A base from the disk.

    Raises:
      DataError: there is no such base, or it takes no pairs of this length.
    """
    compute = blocks.Compute(dtype=base.dtype, remat=base.remat)
    loaded = encode.load_base(base.name, base.pooling, compute)
    most = encode.most_tokens(loaded)
    if base.max_pair_tokens is not None and base.max_pair_tokens > most:
        raise DataError(f"max_pair_tokens is {base.max_pair_tokens}, expected at most {most} for base {base.name!r}")
    return Encoder(base=loaded, settings=base, cache=cache)


def width(base: config.Base) -> int | None:
    """How many features it has, by its configuration alone; None where that cannot be had, which a run will say."""
    try:
        return weights.load_config(weights.find_base(base.name)).hidden_size
    except DataError:
        return None
