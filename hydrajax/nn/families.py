"""Head families by name: files of the folder `heads`, or modules and files of one's own. Imports no JAX.

A family is named with its settings behind a colon where they differ from the defaults: `low_rank_mlp:rank=4`,
`simplex:bases=8`, `generic_plus_offset:inner=linear,alpha=0.3`, `mypackage.my_head:width=3`.
"""

import ast
from typing import Any

from hydrajax import plugins
from hydrajax.types import DataError

KIND = plugins.Kind(what="head family", package="hydrajax.nn.heads", attribute="FAMILY")


names = KIND.names
summaries = KIND.summaries


def parse(name: str) -> tuple[str, dict[str, Any]]:
    """(family, settings) of `family` or `family:setting=value,setting=value`.

    Raises:
      DataError: what stands behind the colon is no list of settings.
    """
    plain, colon, given = name.partition(":")
    settings: dict[str, Any] = {}
    for part in given.split(",") if colon else ():
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not key or not equals:
            raise DataError(f"head family {name!r} has {part!r} behind the colon, expected setting=value,setting=value")
        if key in settings:
            raise DataError(f"head family {name!r} has {key} twice, expected it once")
        try:
            settings[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            settings[key] = value
    return plain.strip(), settings


def absolute(name: str) -> str:
    """The name with absolute paths in place of files, in its settings, too: `generic_plus_offset:inner=own.py`."""
    plain, colon, given = name.partition(":")
    pairs = (part.partition("=") for part in given.split(","))
    return plugins.absolute(plain) + colon + ",".join(key + is_ + plugins.absolute(value) for key, is_, value in pairs)
