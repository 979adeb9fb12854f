"""What heads learn from: one row an example, many examples a user; and which examples make which mini-batch."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import flax.struct
import jax
import numpy as np
import scipy.special
from jaxtyping import Float, Num

from hydrajax.nn import heads, tokens
from hydrajax.training import checks, losses
from hydrajax.types import DataError

ROUNDING = 1e-3  # of the smallest step between levels


@dataclasses.dataclass(frozen=True, kw_only=True)
class Examples:
    """N examples, checked when they are made.

    A user who is encoded, not fitted, is encoded from these as well: features, extras and labels of the user's own
    examples are the context (`heads.Context`), of more than it holds the last ones; nothing else looks at their order
    in time, which is theirs who make them.

    Attributes:
      user: int32 [N], row number of the user, 0..num_users-1.
      x: features of the pair, float32 [N, D]; or `tokens.Tokens` [N, T] where the base is trained.
      extras: float32 [N, X], for example the candidate's source as one-hot and its votes; X may be 0.
      label: float32 [N] in [0, 1].
      score: float32 [N], graded quality within the pool.
      pool: int32 [N], number of the pool: one query's candidates, or its records; no two users share one.

    Raises:
      DataError: the arrays do not fit each other, or hold what cannot be learned from.
    """

    user: np.ndarray
    x: np.ndarray | tokens.Tokens
    extras: np.ndarray
    label: np.ndarray
    score: np.ndarray
    pool: np.ndarray

    def __post_init__(self):
        n = len(checks.host(self.user, "examples: user")) if np.ndim(self.user) else 0
        for name, axes in {"user": (), "extras": ("X",), "label": (), "score": (), "pool": (), "x": ("D",)}.items():
            given, what = getattr(self, name), f"examples: {name}"
            if isinstance(given, tokens.Tokens):
                if len(given.ids) != n:
                    raise DataError(f"{what} has {len(given.ids)} texts, expected {n}")
                continue
            checks.check_finite_rows(checks.host(given, what), what)
            whole = name in ("user", "pool")
            array = checks.whole(given, what).astype(np.int32, copy=False) if whole else checks.floats(given, what)
            if array.ndim != 1 + len(axes) or len(array) != n:
                raise DataError(f"{what} has shape {list(array.shape)}, expected [{', '.join((str(n), *axes))}]")
            checks.check_finite_rows(array, what)
            object.__setattr__(self, name, array)
        outside = np.flatnonzero((self.label < 0) | (self.label > 1))
        if len(outside):
            raise DataError(
                f"examples: label of row {outside[0]} is {self.label[outside[0]]}, expected a number from 0 to 1"
            )
        if n and self.user.min() < 0:
            raise DataError(f"examples: user of row {self.user.argmin()} is {self.user.min()}, expected 0 or more")
        order = np.argsort(self.pool, kind="stable")
        pool, user = self.pool[order], self.user[order]
        shared = np.flatnonzero((pool[1:] == pool[:-1]) & (user[1:] != user[:-1]))
        if len(shared):
            # The pooled head would compare one user's examples with another's.
            one, other = order[shared[0]], order[shared[0] + 1]
            raise DataError(
                f"examples: rows {one} and {other} are of users {self.user[one]} and {self.user[other]} and of one "
                f"pool, {self.pool[one]}; expected pools of one user each"
            )

    @property
    def features(self) -> np.ndarray:
        """x, float32 [N, D].

        Raises:
          DataError: it holds tokens.
        """
        if isinstance(self.x, tokens.Tokens):
            raise DataError("the examples hold tokens, heads are fitted on features: encode them with the base")
        return self.x

    @property
    def dims(self) -> heads.Dims:
        """Widths of a head's input."""
        return heads.Dims(features=self.features.shape[1], extras=self.extras.shape[1])

    def check_users(self, num_users: int) -> None:
        """Raises a DataError where a row's user is not below `num_users`."""
        if len(self.user) and self.user.max() >= num_users:
            row = int(self.user.argmax())
            raise DataError(f"examples: user of row {row} is {self.user[row]}, expected less than {num_users} users")


def of_ratings(
    user: Num[np.ndarray, " N"],
    x: Float[np.ndarray, "N D"],
    rating: Num[np.ndarray, " N"],
    levels: Sequence[Any],
) -> Examples:
    """N ratings as N (K - 1) examples, cumulative logits, those of one rating beside each other and in one pool.

        P(rating >= level_j) = sigmoid(s_j),  s_j = head([z; e_j]),  j = 1..K-1

    with e_j the one-hot of the level among the extras: an example for each level but the lowest, and the cross-entropy
    of all of them is the loss (Cao, Mirjalili and Raschka, arXiv 1901.07884, where levels have intercepts of their own
    and share all weights).

    Args:
      user: of each rating.
      x: features of what is rated.
      rating: one of the levels.
      levels: K of them, rising.

    Raises:
      DataError: levels that do not rise, or a rating that is none of them.
    """
    order = _levels(levels)
    rating = checks.floats(rating, "rating").astype(np.float64)
    away = np.abs(rating[:, None] - order)
    # A float32 need not be the very number that a level is.
    if len(strange := np.flatnonzero(away.min(axis=1) > ROUNDING * np.diff(order).min())):
        raise DataError(f"rating of row {strange[0]} is {rating[strange[0]]:g}, expected one of {list(levels)}")
    thresholds = len(order) - 1
    reached = (away.argmin(axis=1)[:, None] > np.arange(thresholds)).ravel()
    return Examples(
        user=np.repeat(user, thresholds),
        x=np.repeat(x, thresholds, axis=0),
        extras=np.tile(np.eye(thresholds, dtype=np.float32), (len(rating), 1)),
        label=reached,
        score=reached,
        pool=np.repeat(np.arange(len(rating)), thresholds),
    )


def of_scores(scores: Float[np.ndarray, " M"], levels: Sequence[Any]) -> Float[np.ndarray, " N"]:
    """The ratings, float64, with the least expected absolute error, from the scores of `of_ratings`' examples.

        E|level_k - rating| = sum over j of (level_j+1 - level_j) (P(rating >= level_j+1) if j >= k, else 1 minus that)

    Scores are not bound to fall from level to level; where they do, it is one above as many levels as are more likely
    reached than not.

    Raises:
      DataError: levels that do not rise, or scores that are not finite or not so many for each rating.
    """
    order = _levels(levels)
    scores = checks.floats(scores, "scores")
    if not np.isfinite(scores).all():
        raise DataError(f"scores: {int((~np.isfinite(scores)).sum())} are NaN or infinite")
    if scores.ndim != 1 or len(scores) % (len(order) - 1):
        raise DataError(f"scores have the shape {scores.shape}, expected {len(order) - 1} of each rating in one row")
    reach = scipy.special.expit(scores.astype(np.float64)).reshape(-1, len(order) - 1)
    gaps = np.diff(order)
    above = np.cumsum((gaps * reach)[:, ::-1], axis=1)[:, ::-1]  # where the rating is higher than level k
    below = np.cumsum(gaps * (1.0 - reach), axis=1)
    error = np.pad(above, ((0, 0), (0, 1))) + np.pad(below, ((0, 0), (1, 0)))
    return order[error.argmin(axis=1)]


def _levels(levels: Sequence[Any]) -> Float[np.ndarray, " K"]:
    order = np.asarray(levels, np.float64)
    if order.ndim != 1 or len(order) < 2 or not (np.diff(order) > 0).all():
        raise DataError(f"levels are {list(levels)}, expected two or more that rise")
    return order


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chunks:
    """Mini-batches of one user's examples each.

    Attributes:
      rows: int32 [M, E], row numbers of the examples, -1 = padding.
      start: int32 [epochs, U], the user's first chunk in the epoch.
      stop: int32 [epochs, U], behind the user's last one.
    """

    rows: np.ndarray
    start: np.ndarray
    stop: np.ndarray


def chunked(
    user: np.ndarray,
    pool: np.ndarray,
    num_users: int,
    *,
    size: int,
    epochs: int = 1,
    seed: int | None = None,
    keys: np.ndarray | None = None,
    whole_pools: bool = False,
    cluster: np.ndarray | None = None,
) -> Chunks:
    """Every user's examples for every epoch, in chunks as equal as possible; or, with clusters, a part of them in one.

    Args:
      user: int32 [N], the user of each example; those of users from `num_users` on are left out.
      pool: int32 [N], the pool of each example.
      num_users: U. A user without examples has no chunk.
      size: most examples of a chunk; with `whole_pools` those of the largest pool where these are more.
      epochs: each epoch orders the examples anew.
      seed: of the order, which depends on seed, epoch and the user's key alone; None keeps the examples' own order.
      keys: uint32 [U], what users are told apart by in draws; by default their numbers.
      whole_pools: a pool is never divided among chunks, as losses inside a pool need it.
      cluster: int32 [N], of each example's pool, see `clusters`. An epoch is then one chunk of a user: whole pools,
        drawn in rounds of one of each cluster, none twice, until it is full.
    """
    order = np.argsort(user, kind="stable")
    ends = np.searchsorted(user[order], np.arange(num_users + 1))
    members = [order[ends[u] : ends[u + 1]] for u in range(num_users)]
    pools: list[Any] = [_pools(rows, pool) if whole_pools or cluster is not None else [] for rows in members]
    size = max([size, *(len(group) for groups in pools for group in groups)])
    chunks: list[np.ndarray] = []
    start = np.zeros((epochs, num_users), np.int32)
    stop = np.zeros((epochs, num_users), np.int32)
    for epoch in range(epochs):
        for u, rows in enumerate(members):
            rng = None if seed is None else np.random.default_rng([seed, epoch, u if keys is None else int(keys[u])])
            start[epoch, u] = len(chunks)
            if cluster is not None:
                drawn = _rounds(list(pools[u]), cluster, np.random.default_rng(0) if rng is None else rng)
                chunks.extend(_packed(drawn, size, None)[:1])
            else:
                chunks.extend(_packed(pools[u], size, rng) if whole_pools else _cut(rows, size, rng))
            stop[epoch, u] = len(chunks)
    out = np.full((len(chunks), size), -1, np.int32)
    if chunks:
        out[np.arange(size) < np.array([len(rows) for rows in chunks])[:, None]] = np.concatenate(chunks)
    return Chunks(rows=out, start=start, stop=stop)


def padded(n: int, least: int = 16) -> int:
    """The next of `least`, 1.5, 2, 3, 4, 6, ... times `least`: arrays of few different lengths compile few programs."""
    size = least
    while size < n:
        if size * 3 // 2 >= n:
            return size * 3 // 2
        size *= 2
    return size


def pad(array: np.ndarray, n: int, fill: int = 0) -> np.ndarray:
    """The array with rows of `fill` up to n rows."""
    return np.pad(array, [(0, n - len(array)), *[(0, 0)] * (array.ndim - 1)], constant_values=fill)


def _pools(rows: np.ndarray, pool: np.ndarray) -> Any:
    """The rows of each pool, in one array where pools are equally large."""
    groups: dict[int, list[int]] = {}
    for row in rows:
        groups.setdefault(int(pool[row]), []).append(int(row))
    if len({len(group) for group in groups.values()}) == 1:
        return np.array(list(groups.values()))
    return [np.array(group) for group in groups.values()]


def _cut(rows: np.ndarray, size: int, rng: np.random.Generator | None) -> list[np.ndarray]:
    rows = rows if rng is None else rng.permutation(rows)
    # Chunks as equal as possible: a last chunk of one row would be a step as long as any other.
    count = -(-len(rows) // size)
    return np.array_split(rows, count) if count else []


def _packed(pools: Any, size: int, rng: np.random.Generator | None) -> list[np.ndarray]:
    """Pools in chunks, each filled until the next pool does not fit."""
    if isinstance(pools, np.ndarray):  # pool by pool would take as long as the fit of small heads
        ordered = pools[np.arange(len(pools)) if rng is None else rng.permutation(len(pools))].ravel()
        filled = size // pools.shape[1] * pools.shape[1]
        return [ordered[first : first + filled] for first in range(0, len(ordered), filled)]
    chunks: list[list[np.ndarray]] = []
    room = 0
    for i in range(len(pools)) if rng is None else rng.permutation(len(pools)):
        if len(pools[i]) > room:
            chunks.append([])
            room = size
        chunks[-1].append(pools[i])
        room -= len(pools[i])
    return [np.concatenate(chunk) for chunk in chunks]


def _rounds(pools: list[np.ndarray], cluster: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """The pools in a random order in which the n-th of every cluster comes before the next of any."""
    shuffled = [pools[i] for i in rng.permutation(len(pools))]
    before: dict[int, int] = {}
    turns = []
    for group in shuffled:
        turns.append(before.get(int(cluster[group[0]]), 0))
        before[int(cluster[group[0]])] = turns[-1] + 1
    return [shuffled[i] for i in np.argsort(turns, kind="stable")]


class Batch(flax.struct.PyTreeNode):
    """Examples by user: every array is [U, E, ...] but `rows`, `pull` and `ids`, which are [U].

    Attributes:
      rows: int32, the users' rows in the bank, all different; a slot without a user has the bank's capacity C.
      x: features float32 [U, E, D], or `tokens.Tokens` [U, E, T] where the base is trained.
      extras: float32 [U, E, X].
      targets: labels, scores, pools and the mask.
      pull: float32, strength of the Gaussian prior at the state's anchor, divided by the user's examples in all.
      ids: int32 [U], what tells users apart in draws where rows do not, because they are those of a part of the bank;
        None: the rows.
      routed: (capacity, shards) for which `sharded.route` has divided the batch; None: it is not divided.

    A step looks at shapes alone: what it would take without a word, `checks.check_batch` refuses on the host.
    """

    rows: Any
    x: Any
    extras: Any
    targets: losses.Targets
    pull: Any
    ids: Any = None
    routed: tuple[int, int] | None = flax.struct.field(pytree_node=False, default=None)

    @classmethod
    def of(
        cls,
        rows: Any,
        x: Any,
        label: Any,
        *,
        mask: Any = None,
        score: Any = None,
        pool: Any = None,
        extras: Any = None,
        pull: Any = 0.0,
    ) -> "Batch":
        """The batch of arrays on the host, with what is usual in the place of what is not given.

        Args:
          rows: whole numbers [U].
          x: features [U, E, D], or `tokens.Tokens` [U, E, T].
          label: [U, E], true or false or 0..1.
          mask: [U, E], true or 1 = a real example, false or 0 = padding; by default all are real.
          score: [U, E], for losses inside a pool; by default the labels.
          pool: [U, E], the examples that are compared with each other; by default all of a user's.
          extras: [U, E, X], further inputs; none by default.
          pull: [U] or one number for all.

        Raises:
          DataError: arrays that do not fit each other, or hold other than numbers of their kind.
        """
        rows = checks.whole(rows, "rows of the batch").astype(np.int32)
        label, pull = checks.floats(label, "label of the batch"), checks.floats(pull, "pull of the batch")
        shape = label.shape
        if len(shape) != 2 or rows.shape != shape[:1]:
            raise DataError(f"rows are {list(rows.shape)} and label {list(shape)}, expected [U] and [U, E]")
        if pull.shape not in ((), rows.shape):
            raise DataError(f"pull of the batch is {list(pull.shape)}, expected {list(rows.shape)} or a number")
        targets = losses.Targets(
            label=label,
            score=label if score is None else checks.floats(score, "score of the batch"),
            pool=np.zeros(shape, np.int32)
            if pool is None
            else checks.whole(pool, "pool of the batch").astype(np.int32),
            mask=np.ones(shape, bool) if mask is None else checks.truth(mask, "mask of the batch"),
        )
        # Anything but a tree of tokens is an array of features.
        texts = len(jax.tree.leaves(x)) > 1 and not isinstance(x, (list, tuple))
        x = x if texts else checks.floats(x, "x of the batch")
        extras = np.zeros((*shape, 0), np.float32) if extras is None else checks.floats(extras, "extras of the batch")
        for name, tree, axes in (("x", x, 3), ("extras", extras, 3), ("targets", targets, 2)):
            for leaf in jax.tree.leaves(tree):
                if leaf.shape[:2] != shape or leaf.ndim != axes:
                    wanted = ", ".join((*map(str, shape), "...")[:axes])
                    raise DataError(f"{name} of the batch is {list(leaf.shape)}, expected [{wanted}]")
        return cls(rows=rows, x=x, extras=extras, targets=targets, pull=np.broadcast_to(pull, rows.shape))


@flax.struct.dataclass
class Evaluated:
    """What `step.make_eval_step` finds: scores float32 [U, E], and each user's summed loss and its weight, [U]."""

    scores: Any
    loss: Any
    weight: Any
