"""User-major batches, fed by grain.

What goes into which batch is decided once, from the seed; the iterator's state is the number of the next batch, and
a resumed run goes on with the batch that the interrupted one would have had.
"""

import dataclasses
from typing import Any

import grain
import jax
import numpy as np

from hydrajax.nn import tokens
from hydrajax.training import chunks, losses
from hydrajax.training import examples as examples_


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """How batches are made.

    Attributes:
      epochs: passes over the examples.
      users_per_batch: slots for users; slots that are left over are padding.
      batch_examples: most examples of a user in a batch (a whole pool may be more).
      prior_strength: of the prior, divided here by the user's examples.
      seed: of every order.
      whole_pools: a pool is never divided, as losses inside a pool need it.
    """

    epochs: int
    users_per_batch: int
    batch_examples: int
    prior_strength: float
    seed: int
    whole_pools: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slots:
    """One batch before its arrays are gathered: users [U], row numbers of examples [U, E], tokens T (0: features)."""

    users: np.ndarray
    rows: np.ndarray
    length: int


def plan(examples: examples_.Examples, num_users: int, settings: Settings) -> list[list[Slots]]:
    """The batches of every epoch.

    A batch holds different users, with like numbers of examples and like lengths: E and T are the smallest bucket
    that holds them, so that a step is traced once a bucket.
    """
    made = chunks.make(
        examples.user,
        examples.pool,
        num_users,
        size=settings.batch_examples,
        epochs=settings.epochs,
        seed=settings.seed,
        whole_pools=settings.whole_pools,
    )
    lengths, longest = None, 0
    if isinstance(examples.x, tokens.Tokens):
        lengths, longest = examples.x.mask.sum(axis=1), examples.x.ids.shape[1]
    epochs = []
    for epoch in range(settings.epochs):
        rng = np.random.default_rng([settings.seed, epoch])
        # A user's chunks go to different rounds: a batch has one update for a head, not two that miss each other.
        groups: dict[tuple[int, int, int], list[tuple[int, int]]] = {}
        for user in rng.permutation(num_users):
            for turn, chunk in enumerate(range(made.start[epoch, user], made.stop[epoch, user])):
                rows = made.rows[chunk][made.rows[chunk] >= 0]
                length = 0 if lengths is None else min(tokens.bucket(int(lengths[rows].max())), longest)
                key = (turn, _power(len(rows)), length)
                groups.setdefault(key, []).append((int(user), chunk))
        batches = []
        for (_, size, length), members in sorted(groups.items()):
            for first in range(0, len(members), settings.users_per_batch):
                part = members[first : first + settings.users_per_batch]
                users = np.full(settings.users_per_batch, num_users, np.int32)
                rows = np.full((settings.users_per_batch, size), -1, np.int32)
                for slot, (user, chunk) in enumerate(part):
                    real = made.rows[chunk][made.rows[chunk] >= 0]
                    users[slot], rows[slot, : len(real)] = user, real
                batches.append(Slots(users=users, rows=rows, length=length))
        epochs.append([batches[i] for i in rng.permutation(len(batches))])
    return epochs


def assemble(examples: examples_.Examples, num_users: int, prior_strength: float, slots: Slots) -> examples_.Batch:
    """The arrays of one batch."""
    take, mask = np.maximum(slots.rows, 0), slots.rows >= 0
    if isinstance(examples.x, tokens.Tokens):
        x: Any = jax.tree.map(lambda leaf: leaf[take, : slots.length], examples.x)
        # A padded example attends to its own padding: the mask of a text without any token would be empty.
        x = x.replace(mask=x.mask & mask[..., None])
    else:
        x = examples.x[take]
    count = np.bincount(examples.user, minlength=num_users + 1)[slots.users]
    return examples_.Batch(
        rows=slots.users,
        x=x,
        extras=examples.extras[take],
        targets=losses.Targets(
            label=examples.label[take], score=examples.score[take], pool=examples.pool[take], mask=mask
        ),
        pull=(prior_strength / np.maximum(count, 1)).astype(np.float32),
    )


def iterator(
    examples: examples_.Examples, num_users: int, settings: Settings, planned: list[list[Slots]]
) -> grain.DatasetIterator:
    """The batches of all epochs in order; `get_state` and `set_state` save and resume."""
    source = [slots for epoch in planned for slots in epoch]
    data = grain.MapDataset.source(source).map(
        lambda slots: assemble(examples, num_users, settings.prior_strength, slots)
    )
    read = grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)
    return iter(data.to_iter_dataset(read))


def _power(n: int) -> int:
    return max(8, 1 << (n - 1).bit_length())
