"""The run folder: what is in it, written whole or not at all."""

import json
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from hydrajax.runs import config as config_lib
from hydrajax.types import DataError


def prepare(folder: pathlib.Path, config: config_lib.RunConfig, command: str) -> None:
    """Makes the folder, or finds it left by the same run: what was done there is then not done again.

    Raises:
      DataError: the folder holds another run, or something else.
    """
    in_the_way = [part for part in (folder, *folder.parents) if part.exists() and not part.is_dir()]
    if in_the_way:
        raise DataError(f"{in_the_way[0]}: is a file, expected a folder for the run; give another --out")
    path = folder / "config.json"
    wanted = config_lib.to_json(config)
    if path.exists():
        there = dict(read_json(path))
        there.pop("command", None)
        if there != wanted:
            differing = sorted(k for k in wanted if there.get(k) != wanted[k])
            raise DataError(
                f"{folder}: holds a run with other settings ({', '.join(differing)} differ); give another --out"
            )
    elif folder.exists() and any(folder.iterdir()):
        raise DataError(f"{folder}: is not empty and holds no run; give another --out")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, {**wanted, "command": command})


def read_config(folder: pathlib.Path) -> config_lib.RunConfig:
    """The configuration of a run.

    Raises:
      DataError: the folder holds no run.
    """
    path = folder / "config.json"
    if not path.exists():
        raise DataError(f"{folder}: holds no run (there is no config.json)")
    values = dict(read_json(path))
    values.pop("command", None)
    return config_lib.from_json(values, str(path))


def read_json(path: pathlib.Path) -> Mapping[str, Any]:
    """A JSON object from a file.

    Raises:
      DataError: there is no such file, or it holds something else.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise DataError(f"{path}: is broken JSON ({error})") from error
    if not isinstance(values, dict):
        raise DataError(f"{path}: holds a {type(values).__name__}, expected an object")
    return values


def write_json(path: pathlib.Path, values: Any) -> None:
    """Strict JSON, atomically."""
    _write(path, json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_lines(path: pathlib.Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """JSON lines, atomically."""
    _write(path, "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows))


def _write(path: pathlib.Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    # A tweet may hold half a surrogate pair, which no encoding can write.
    temporary.write_text(text, encoding="utf-8", errors="replace")
    temporary.replace(path)
