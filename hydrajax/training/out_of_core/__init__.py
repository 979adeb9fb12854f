"""Banks larger than a device's memory: rows in host memory or in files, fetched ahead of the step.

`records` says where the bytes of a row lie, `row_store` reads and writes rows by number, `streaming` runs a train step
over them. docs/out-of-core.md has an example.
"""

from hydrajax.training.out_of_core.row_store import RowStore, create, in_memory, reopen
from hydrajax.training.out_of_core.streaming import stream

__all__ = ("RowStore", "create", "in_memory", "reopen", "stream")
