"""A finished run whose training took long is not computed again, so that its checkpoints need not be kept.

What `answer` and `personalise` need of it stands elsewhere in its folder, trained bases too. Kept is a digest of what
the results depend on besides the configuration: data, user models, which a person may have edited, and the version of
the package; and which files there are. Where anything differs, the run is computed anew, from stored answers.
"""

import contextlib
import dataclasses
import hashlib
import json
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import hydrajax
from hydrajax import files
from hydrajax.prompting import library
from hydrajax.types import DataError

FILE = "finished.json"  # in a run's folder
CHECKPOINTS = "checkpoints"
# What may change without a change of the results: of the folder's own entries.
_LATER = {FILE, CHECKPOINTS, "config.json", "invocations.jsonl", "report.html", "added"}


def keep(out: pathlib.Path, data: Any) -> None:
    """Of a run that is finished: removes its checkpoints, and says what it was made of; nothing where it had none."""
    if (out / CHECKPOINTS).is_dir():
        files.write_json(out / FILE, _made_of(out, data))
        shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)


def still(out: pathlib.Path, data: Any) -> bool:
    """Whether `keep` was called of a run that would be the same now."""
    kept = None
    with contextlib.suppress(DataError):  # what is damaged or missing is computed again
        kept = files.read_json(out / FILE)
    if kept is None or kept != _made_of(out, data):
        return False
    shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)  # of a run that was killed while it removed them
    return True


def forget(out: pathlib.Path) -> None:
    """Before a run is computed anew."""
    (out / FILE).unlink(missing_ok=True)


def _made_of(out: pathlib.Path, data: Any) -> dict[str, Any]:
    models = out / library.FILE
    return {
        "version": hydrajax.__version__,
        "data": hashlib.sha256(json.dumps(_plain(data)).encode()).hexdigest(),
        "user_models": hashlib.sha256(models.read_bytes() if models.is_file() else b"").hexdigest(),
        "files": {
            str(path.relative_to(out)): path.stat().st_size
            for path in sorted(out.rglob("*"))
            if path.is_file() and path.suffix != ".lock" and path.relative_to(out).parts[0] not in _LATER
        },
    }


def _plain(value: Any) -> Any:
    """As JSON; what has no place there, functions for example, by its type."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return [[_plain(key), _plain(item)] for key, item in value.items()]
    if isinstance(value, Sequence | set | frozenset) and not isinstance(value, str | bytes):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | None) else type(value).__qualname__
