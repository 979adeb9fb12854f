"""What one step takes: examples by user."""

from typing import Any

import flax.struct
import jax
import numpy as np

from hydrajax.training import checks, losses
from hydrajax.types import DataError


@flax.struct.dataclass
class Batch:
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
