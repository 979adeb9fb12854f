"""A finished run whose training took long is not computed again, so that its checkpoints need not be kept.

What `answer` and `personalise` need of it stands elsewhere in its folder, trained bases too. Kept is a digest of what
the results depend on besides the configuration: data, user models, which a person may have edited, and the version of
the package; and which files there are. Where anything differs, the run is computed anew, from stored answers. As long
as that lasts, the folder says so: what else it holds is of before.
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
from hydrajax import files, forms
from hydrajax.prompting import library
from hydrajax.types import DataError

FILE = "finished.json"  # in a run's folder
ANEW = "computed_anew.json"  # there as well, while a finished run is computed anew
CHECKPOINTS = "checkpoints"
# What may change without a change of the results: of the folder's own entries.
_LATER = {FILE, ANEW, CHECKPOINTS, "config.json", "invocations.jsonl", "report.html", "added"}
SHOWN = 3  # files that are named
_PARTS = {"data": "its data", "user_models": "its user models", "version": "the version of the package"}
LONG = "long"  # whether there were checkpoints: what took no time is computed again as ever


def keep(out: pathlib.Path, data: Any) -> None:
    """Of a run that is finished: removes its checkpoints, and says what it was made of."""
    long = (out / CHECKPOINTS).is_dir()
    (out / ANEW).unlink(missing_ok=True)
    files.write_json(out / FILE, {**_made_of(out, data), LONG: long})
    shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)


def still(out: pathlib.Path, data: Any) -> bool:
    """Whether `keep` was called of a run with checkpoints that would be the same now."""
    kept = _kept(out)
    if kept is None or not kept.pop(LONG, True) or kept != _made_of(out, data):  # older folders say no `LONG`
        return False
    shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)  # of a run that was killed while it removed them
    (out / ANEW).unlink(missing_ok=True)  # and of one that was killed before it began
    return True


def why_anew(out: pathlib.Path, data: Any) -> str:
    """Why a run that has results is computed anew, behind "computed anew"; empty where nothing has changed.

    A run that was interrupted while it was computed anew still says why it was begun.
    """
    with contextlib.suppress(DataError):
        begun = files.read_json(out / ANEW)
        if isinstance(begun, dict) and begun.get("why"):
            return str(begun["why"])
    if not (out / FILE).exists():
        return ""
    kept = _kept(out)
    if kept is None:
        return f"since {FILE} is damaged"
    now = _made_of(out, data)
    reasons = [words for part, words in _PARTS.items() if kept.get(part) != now[part]]
    before, there = kept["files"], {**now["files"]}
    for name in (library.FILE,) if _PARTS["user_models"] in reasons else ():
        there[name] = before.get(name)
    names = sorted(name for name in {*before, *there} if before.get(name) != there.get(name))
    if names:
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        reasons.append(f"{', '.join(names[:SHOWN])}{more} in its folder")
    return f"since what it was made of is not the same any more ({'; '.join(reasons)})" if reasons else ""


def begin_anew(out: pathlib.Path, why: str = "") -> None:
    """Before anything of a run is computed: from now on, results that the folder holds are of before."""
    if (out / "results.json").exists() or (out / FILE).exists() or (out / ANEW).exists():
        files.write_json(out / ANEW, {"why": why})
    (out / FILE).unlink(missing_ok=True)


def end_anew(out: pathlib.Path) -> None:
    """When the folder's results are those of the run as it is now."""
    (out / ANEW).unlink(missing_ok=True)


def of_before(out: pathlib.Path) -> str:
    """A sentence where what a folder holds are results of before; empty where it is not so."""
    if not (out / ANEW).exists():
        return ""
    why = ""
    with contextlib.suppress(DataError):
        begun = files.read_json(out / ANEW)
        why = str(begun.get("why", "")) if isinstance(begun, dict) else ""
    return (
        f"{out}: this run is being computed anew{why and f', {why}'}, or was interrupted while it was: what is shown "
        "is of before; repeat its command to finish it"
    )


def _kept(out: pathlib.Path) -> dict[str, Any] | None:
    """What `keep` wrote; None where it is damaged or missing."""
    with contextlib.suppress(DataError):
        kept = files.read_json(out / FILE)
        forms.check(out / FILE, kept, {"files": {...: int}})
        return dict(kept)
    return None


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
