"""Texts and pairs of texts as feature vectors of a frozen base."""

import contextlib
import dataclasses
import functools
import math
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from hydrajax.nn import backends, bases, batches, feature_cache, processes, tokens, weights
from hydrajax.nn.bases import blocks
from hydrajax.types import DataError

POOLINGS = ("cls", "mean")
MAX_TOKENS = 256  # of an encoding, unless told otherwise or the base has fewer positions
ROUND = 8192  # texts that several processes divide at once
KNOWN = 4  # bases that they remember
Progress = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Base:
    """The shared encoder: text pair in, feature vector out.

    Attributes:
      name: as it was asked for.
      module: the Flax module, used by `module.apply({"params": params}, ids, types, mask)`.
      params: its parameters, float32.
      tokenizer: of `tokens.load_tokenizer`.
      dim: D, the width of a feature vector.
      pooling: `cls`, the first token's vector (HYDRA), or `mean`, the mean over real tokens.
      digest: hash of weights, configuration and tokenizer; features are cached under it.
    """

    name: str
    module: nn.Module
    params: Any
    tokenizer: Any
    dim: int
    pooling: str
    digest: str

    def __post_init__(self):
        _check_pooling(self.pooling)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Encoded:
    """Features and what became of the texts.

    Attributes:
      features: float32 [N, D], in the order of the texts.
      cut: int32 [N, 2], how many tokens of the first and of the second text did not fit.
      computed: how many different texts went through the base; the others were equal to one of them or cached.
    """

    features: Float[np.ndarray, "N D"]
    cut: Int[np.ndarray, "N 2"]
    computed: int

    @property
    def shortened(self) -> Bool[np.ndarray, " N"]:
        """Which texts did not fit."""
        return np.asarray(self.cut.any(axis=1))


def load_base(
    name_or_folder: str | os.PathLike[str] = "minilm",
    pooling: str | None = None,
    compute: blocks.Compute = blocks.Compute(),  # noqa: B008 (frozen)
) -> Base:
    """A pretrained base with its tokenizer, from the disk alone.

    Args:
      name_or_folder: a name of `weights.PACKAGES` or a Hugging Face folder.
      pooling: `cls` or `mean`; by default what the folder's `1_Pooling/config.json` says, else `cls`. Further modules
        of a sentence encoder, such as `Dense`, are not applied: with them a pooling has to be named.
      compute: in which type, and with which form of attention.

    Raises:
      DataError: there is no such base, or its files do not fit each other.
    """
    folder = weights.find_base(name_or_folder)
    config = weights.load_config(folder)
    module, params = bases.encoder(config, compute), weights.load_params(folder, config)
    tokenizer = tokens.load_tokenizer(folder)
    tokens.check(tokenizer, folder, words=config.vocab_size, types=config.types)
    return Base(
        name=os.fspath(name_or_folder),
        module=module,
        params=jax.tree.map(jnp.asarray, params),
        tokenizer=tokenizer,
        dim=config.hidden_size,
        pooling=pooling or weights.load_pooling(folder),
        digest=weights.digest(folder) + ("" if compute.dtype == "float32" else f"/{compute.dtype}"),
    )


def features(
    module: nn.Module,
    params: Any,
    batch: tokens.Tokens,
    pooling: str,
    *,
    key: Array | None = None,
) -> Float[Array, "B *S D"]:
    """The base itself: z = x[:, 0] (`cls`) or the mean of x over real tokens (`mean`), x = module(tokens).

    Args:
      batch: of `tokenize_pairs`, `tokens.pack` or `tokens.side_by_side`.
      key: dropout is on where a key is given.

    Returns:
      [B, D]; [B, S, D] of packed rows, zeros where a row has fewer texts.

    Raises:
      DataError: the pooling is neither, or see `blocks.Encoder`.
    """
    _check_pooling(pooling)
    batch = jax.tree.map(jnp.asarray, batch)
    rngs = {} if key is None else {"dropout": key}
    where = {"positions": batch.positions, "segments": batch.segments, "texts": batch.texts}
    given = {"params": params}, batch.ids, batch.types, batch.mask
    x_BxTxD = jnp.asarray(module.apply(*given, **where, train=key is not None, rngs=rngs), jnp.float32)
    if batch.segments is not None:
        numbers = jnp.arange(1, batch.texts + 1, dtype=jnp.int32)
        keep_BxSxT = batch.segments[:, None, :] == numbers[None, :, None]
        if pooling == "cls":
            keep_BxSxT &= (batch.positions == 0)[:, None, :]
        share_BxSxT = keep_BxSxT.astype(jnp.float32)
        return jnp.matmul(share_BxSxT, x_BxTxD) / jnp.maximum(jnp.sum(share_BxSxT, axis=2), 1.0)[..., None]
    if pooling == "cls":
        return x_BxTxD[:, 0]
    keep_BxTx1 = batch.mask[..., None].astype(jnp.float32)
    return jnp.sum(x_BxTxD * keep_BxTx1, axis=1) / jnp.maximum(jnp.sum(keep_BxTx1, axis=1), 1.0)


def encode_pairs(base: Base, pairs: Iterable[tuple[str, str]], **options: Any) -> Float[np.ndarray, "N D"]:
    """Features of pairs of texts, float32 [N, D]; options as in `encode`, which also says what was shortened."""
    return encode(base, pairs, **options).features


def embed(base: Base, texts: Iterable[str], **options: Any) -> Float[np.ndarray, "N D"]:
    """Sentence embeddings, float32 [N, D]: mean over tokens, then length 1, as sentence-transformers' MiniLM has them.

    An inner product of two of them is a cosine similarity. Options as in `encode`.
    """
    z = encode(dataclasses.replace(base, pooling="mean"), texts, **options).features
    return z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)


def encode(
    base: Base,
    texts: Iterable[tokens.Text],
    *,
    max_tokens: int | None = None,
    truncate: str = "second",
    batch_tokens: int | None = None,
    packing: int | None = None,
    cache: str | pathlib.Path | feature_cache.ReadOnly | None = None,
    progress: Progress | None = None,
) -> Encoded:
    """Features of texts or of pairs of texts, in their order.

    Equal texts are computed once. A text is padded to the next of `tokens.LENGTHS` and batched with texts of that
    length; each padded length is compiled once (twice where a small batch is left over). The rows of a batch are
    divided among the devices of `backends.devices`.

    Args:
      texts: texts, or pairs (first, second), joined as the base's tokenizer joins a pair.
      max_tokens: longest encoding, special tokens included; by default 256, or as many positions as the base has.
      truncate: the side that is cut first where a pair is too long; a quarter of the room stays its own.
      batch_tokens: rows times padded length of a batch on all devices together; None: `backends.batch_tokens` on
        each.
      packing: length of rows in which several texts stand side by side (longer texts get a row of their own); 0: a
        text a row, padded to the next of `tokens.LENGTHS`. Features then differ in the last digits. None: what suits
        the backend, `backends.packing`.
      cache: a folder that keeps features, so that no text is computed twice; two processes that run at the same time
        may both compute the same texts.
      progress: called with (texts done, texts in all).

    Raises:
      DataError: an argument is not what it should be: the texts are none, `max_tokens` is more than the base has
        positions, ...
    """
    max_tokens = _longest(base, max_tokens)
    texts = tokens.listed(texts)
    unique = list(dict.fromkeys(texts))
    encodings = tokens.tokenize(base.tokenizer, unique, max_tokens=max_tokens, truncate=truncate)
    batch_tokens, packing = _sizes(base, encodings, batch_tokens, packing)
    with contextlib.nullcontext() if cache is None else feature_cache.opened(cache, base.dim) as kept:
        keys: list[bytes] = []
        if kept is not None:
            # What the base reads is the key: texts that differ only in what was cut away share their features.
            used = weights.digest_of(base.params)
            where = backends.computed_by()
            keys = [feature_cache.key(base.digest, used, base.pooling, e.ids, e.types, *where) for e in encodings]
        cached = {} if kept is None else kept.get(keys)
        rows = {i: cached[key] for i, key in enumerate(keys) if key in cached}
        todo = [i for i in range(len(unique)) if i not in rows]
        for done in _computed(base, [encodings[i] for i in todo], batch_tokens, packing, progress):
            rows |= {todo[j]: row for j, row in done.items()}
            if kept is not None:
                kept.put({keys[todo[j]]: row for j, row in done.items()})
    place = {text: i for i, text in enumerate(unique)}
    order = [place[text] for text in texts]
    return Encoded(
        features=np.stack([rows[i] for i in order]) if order else np.zeros((0, base.dim), np.float32),
        cut=np.array([encodings[i].cut for i in order], np.int32).reshape(-1, 2),
        computed=len(todo),
    )


def token_features(base: Base, batch: tokens.Tokens) -> Float[np.ndarray, "*N D"]:
    """Features of texts that are tokens already, [..., T]; float32 [..., D].

    Raises:
      DataError: see `compute`.
    """
    *lead, length = np.shape(batch.ids)
    shape = (math.prod(lead), length)
    ids, types, mask = (np.asarray(x).reshape(shape) for x in (batch.ids, batch.types, batch.mask))
    encodings = [
        tokens.Encoding(tuple(ids[row][keep].tolist()), tuple(types[row][keep].tolist()))
        for row, keep in enumerate(mask.astype(bool))
    ]
    return compute(base, encodings).reshape(*lead, base.dim)


def tokenize_pairs(
    base: Base,
    pairs: Iterable[tuple[str, str]],
    *,
    max_tokens: int | None = None,
    truncate: str = "second",
) -> tokens.Tokens:
    """Pairs as tokens [N, T] for a base that is trained; T is the padded length of the longest pair.

    Raises:
      DataError: an argument is not what it should be.
    """
    max_tokens = _longest(base, max_tokens)
    encodings = tokens.tokenize(base.tokenizer, pairs, max_tokens=max_tokens, truncate=truncate)
    longest = max((len(encoding.ids) for encoding in encodings), default=1)
    return tokens.pack(encodings, min(tokens.bucket(longest), base.module.config.max_tokens))


def _check_pooling(pooling: Any) -> None:
    if pooling not in POOLINGS:
        raise DataError(f"pooling is {pooling!r}, expected 'cls' or 'mean'")


def most_tokens(base: Base) -> int:
    """Of an encoding that the base takes."""
    return min(base.module.config.max_tokens, tokens.LENGTHS[-1])


def _longest(base: Base, max_tokens: int | None) -> int:
    """The longest encoding that is asked for."""
    limit = most_tokens(base)
    if max_tokens is None:
        return min(MAX_TOKENS, limit)
    _check_whole("max_tokens", max_tokens, -math.inf, limit, f"up to the {limit} positions of base {base.name!r}")
    return int(max_tokens)


def _check_whole(name: str, value: Any, least: int | float, most: int | float, expected: str) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not least <= value <= most:
        raise DataError(f"{name} is {value!r:.80}, expected a whole number {expected}")


def _sizes(
    base: Base, encodings: Sequence[tokens.Encoding], batch_tokens: int | None, packing: int | None
) -> tuple[int, int]:
    """(Tokens of a batch, length of packed rows), with what suits the backend in the place of what is None.

    Raises:
      DataError: the base cannot compute this, or not in such batches.
    """
    config, limit = base.module.config, most_tokens(base)
    batch_tokens = len(backends.devices()) * backends.batch_tokens(config) if batch_tokens is None else batch_tokens
    packing = backends.packing(limit) if packing is None else packing
    _check_whole("batch_tokens", batch_tokens, 1, math.inf, "of 1 or more")
    _check_whole("packing", packing, 0, limit, f"from 0 to the {limit} positions of base {base.name!r}")
    tokens.check_encodings(encodings, words=config.vocab_size, types=config.types, positions=limit)
    return batch_tokens, packing


def compute(
    base: Base, encodings: Sequence[tokens.Encoding], *, packing: int | None = None
) -> Float[np.ndarray, "N D"]:
    """Features of encodings, float32 [N, D], in their order; packing as in `encode`.

    Raises:
      DataError: an encoding has no token, more than the base has positions, or an id or a type that the base does not
        know.
    """
    sizes = _sizes(base, encodings, None, packing)
    rows: dict[int, np.ndarray] = {}
    for done in _computed(base, encodings, *sizes, None):
        rows |= done
    return np.stack([rows[i] for i in range(len(encodings))]) if rows else np.zeros((0, base.dim), np.float32)


def _computed(
    base: Base, encodings: Sequence[tokens.Encoding], batch_tokens: int, packing: int, progress: Progress | None
) -> Iterator[dict[int, np.ndarray]]:
    """Features by the encoding's number, batch after batch."""
    if not processes.several():
        yield from _computed_here(base, encodings, batch_tokens, packing, progress)
        return
    for first in range(0, len(encodings), ROUND):
        part = list(encodings[first : first + ROUND])
        number = next((number for number, known in _known.items() if _same(known, base)), None)
        new = None if number is not None else dataclasses.replace(base, tokenizer=None)
        number = max(_known, default=0) + 1 if number is None else number
        z = computed_together(number, new, part, batch_tokens, packing)
        yield {first + i: row for i, row in enumerate(z)}
        if progress is not None:
            progress(first + len(part), len(encodings))


# Bases that all processes know, by number: the parameters go to the others once.
_known: dict[int, Base] = {}


@processes.joined
def computed_together(
    number: int, new: Base | None, encodings: Sequence[tokens.Encoding], batch_tokens: int, packing: int
) -> Float[np.ndarray, "N D"]:
    """Features of encodings that are dealt to all processes.

    Args:
      number: of the base.
      new: the base, where the others do not know its number yet.
      encodings: of texts.
      batch_tokens: of each process.
      packing: as in `encode`.
    """
    if new is not None:
        _known[number] = new
        while len(_known) > KNOWN:
            del _known[min(_known)]
    base, own = _known[number], processes.mine(len(encodings))
    z = np.zeros((len(own), base.dim), np.float32)
    for done in _computed_here(base, [encodings[i] for i in own], batch_tokens, packing, None):
        z[list(done)] = np.stack(list(done.values()))
    return processes.whole(z, len(encodings))


def _same(a: Base, b: Base) -> bool:
    return a.params is b.params and a.module == b.module and a.pooling == b.pooling


def _computed_here(
    base: Base, encodings: Sequence[tokens.Encoding], batch_tokens: int, packing: int, progress: Progress | None
) -> Iterator[dict[int, np.ndarray]]:
    """The same by this process's own devices."""
    if not encodings:
        return
    mesh, count = backends.mesh(), 0
    run = functools.partial(_forward, base.module, base.pooling, mesh, backends.kept_everywhere(base.params, mesh))
    planned = batches.planned(encodings, base.module.config.max_tokens, batch_tokens, packing, backends.shards(mesh))
    for members, z in batches.fetched(run, planned):
        rows = z.reshape(-1, base.dim)
        yield {i: rows[row] for row, i in members}
        count += len(members)
        if progress is not None:
            progress(count, len(encodings))


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _forward(
    module: nn.Module, pooling: str, mesh: jax.sharding.Mesh | None, params: Any, batch: tokens.Tokens
) -> Float[Array, "B *S D"]:
    def of_part(params: Any, batch: tokens.Tokens) -> Array:
        return features(module, params, batch, pooling)

    return backends.dealt(of_part, mesh, 1)(params, batch)
