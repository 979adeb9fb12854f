"""What training changes."""

from typing import Any

import flax.struct


class TrainState(flax.struct.PyTreeNode):
    """Parameters, optimizer states, key: a tree of arrays, so that it can be donated, sharded and checkpointed.

    Attributes:
      step: int32, updates done.
      base: parameters of the base; {} where it is frozen and features are given.
      shared: parameters that all users share.
      bank: the users' parameters, every leaf [C, ...].
      base_opt: optimizer state of (base, shared).
      bank_opt: the users' optimizer states, every leaf [C, ...].
      anchor: one user's parameters, where weight decay and prior pull the heads: zeros, or the pooled head.
      key: a typed random key; step and row number are folded into it.
    """

    step: Any
    base: Any
    shared: Any
    bank: Any
    base_opt: Any
    bank_opt: Any
    anchor: Any
    key: Any
