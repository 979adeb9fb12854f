"""User-major batches, fed by grain.

What goes into which batch is decided once, from the seed; the iterator's state is the number of the next batch, and
a resumed run goes on with the batch that the interrupted one would have had.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import grain
import jax
import numpy as np
from jaxtyping import Integer

from hydrajax.nn import tokens
from hydrajax.training import examples as examples_
from hydrajax.training import losses

SMALLEST = 8  # E, the examples of a user in a batch, padding included


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slots:
    """One batch before its arrays are gathered: users [U], row numbers of examples [U, E], tokens T (0: features)."""

    users: np.ndarray
    rows: np.ndarray
    length: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """The batches of every epoch; see `plan`.

    Attributes:
      examples: what the batches hold.
      pull: float32 [num_users + 1], the prior's strength by the user's examples.
      epochs: the batches in their order.
    """

    examples: examples_.Examples
    pull: np.ndarray
    epochs: Sequence[Sequence[Slots]]

    @property
    def ends(self) -> list[int]:
        """Batches before the first epoch, and up to the end of each."""
        return list(itertools.accumulate(map(len, self.epochs), initial=0))

    def updates(self) -> Integer[np.ndarray, " U"]:
        """How many updates the heads of users 0..num_users-1 get."""
        users = [slots.users for epoch in self.epochs for slots in epoch]
        return np.bincount(np.concatenate([np.zeros(0, np.int32), *users]), minlength=len(self.pull))[:-1]

    def batch(self, slots: Slots) -> examples_.Batch:
        """The arrays of one batch."""
        examples = self.examples
        take, mask = np.maximum(slots.rows, 0), slots.rows >= 0
        if isinstance(examples.x, tokens.Tokens):
            x: Any = jax.tree.map(lambda leaf: leaf[take, : slots.length], examples.x)
            # A padded example attends to its own padding: the mask of a text without any token would be empty.
            x = x.replace(mask=x.mask & mask[..., None])
        else:
            x = examples.x[take]
        return examples_.Batch(
            rows=slots.users,
            x=x,
            extras=examples.extras[take],
            targets=losses.Targets(
                label=examples.label[take], score=examples.score[take], pool=examples.pool[take], mask=mask
            ),
            pull=self.pull[slots.users],
        )

    def iterator(self) -> grain.DatasetIterator:
        """The batches of all epochs in order; `get_state` and `set_state` save and resume."""
        data = grain.MapDataset.source(list(itertools.chain(*self.epochs))).map(self.batch)
        read = grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)
        return iter(data.to_iter_dataset(read))


def plan(
    examples: examples_.Examples,
    num_users: int,
    *,
    epochs: int,
    users_per_batch: int,
    batch_examples: int,
    total_examples: int | None = None,
    prior_strength: float = 0.0,
    seed: int = 0,
    whole_pools: bool = False,
) -> Plan:
    """Decides which examples of which users are in which batch.

    A batch holds different users, with like numbers of examples and like lengths: E and T are the smallest bucket
    that holds them, so that a step is traced once a bucket.

    Args:
      examples: of users 0..num_users-1.
      num_users: the row of slots without a user.
      epochs: passes over the examples.
      users_per_batch: slots for users; slots that are left over are padding.
      batch_examples: most examples of a user in a batch (a whole pool may be more).
      total_examples: of all users in a batch, as near as whole chunks come: it then has fewer users, as many as that
        takes on average.
      prior_strength: of the prior, divided here by the user's examples.
      seed: of every order.
      whole_pools: a pool is never divided, as losses inside a pool need it.
    """
    chunks = examples_.chunked(
        examples.user,
        examples.pool,
        num_users,
        size=batch_examples,
        epochs=epochs,
        seed=seed,
        whole_pools=whole_pools,
    )
    count = (chunks.rows >= 0).sum(axis=1)
    sizes = np.array([_power(n) for n in count.tolist()], int)
    slots = dict.fromkeys(sizes.tolist(), users_per_batch)
    if total_examples is not None:
        for size in slots:
            slots[size] = min(users_per_batch, max(1, round(total_examples / count[sizes == size].mean())))
    lengths, longest = None, 0
    if isinstance(examples.x, tokens.Tokens):
        lengths, longest = examples.x.mask.sum(axis=1), examples.x.ids.shape[1]
    planned = []
    for epoch in range(epochs):
        rng = np.random.default_rng([seed, epoch])
        # A user's chunks go to different rounds: a batch has one update for a head, not two that miss each other.
        groups: dict[tuple[int, int, int], list[tuple[int, np.ndarray]]] = {}
        for user in rng.permutation(num_users):
            for turn, chunk in enumerate(range(chunks.start[epoch, user], chunks.stop[epoch, user])):
                rows = chunks.rows[chunk][chunks.rows[chunk] >= 0]
                length = 0 if lengths is None else min(tokens.bucket(int(lengths[rows].max())), longest)
                groups.setdefault((turn, _power(len(rows)), length), []).append((int(user), rows))
        batches = []
        for (_, size, length), members in sorted(groups.items(), key=lambda item: item[0]):
            for first in range(0, len(members), slots[size]):
                users = np.full(slots[size], num_users, np.int32)
                taken = np.full((slots[size], size), -1, np.int32)
                for slot, (user, rows) in enumerate(members[first : first + slots[size]]):
                    users[slot], taken[slot, : len(rows)] = user, rows
                batches.append(Slots(users=users, rows=taken, length=length))
        planned.append([batches[i] for i in rng.permutation(len(batches))])
    of_user = np.bincount(examples.user, minlength=num_users + 1)
    return Plan(examples=examples, pull=(prior_strength / np.maximum(of_user, 1)).astype(np.float32), epochs=planned)


def _power(n: int) -> int:
    return max(SMALLEST, 1 << (n - 1).bit_length())
