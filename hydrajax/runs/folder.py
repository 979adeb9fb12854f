"""The run folder: whose it is, and what the run was."""

import pathlib
import typing
from typing import Any

from hydrajax import files
from hydrajax.runs import config as config_lib
from hydrajax.types import DataError


def prepare(folder: pathlib.Path, config: Any, command: str) -> None:
    """Makes the folder, or finds it left by the same run: what was done there is then not done again.

    Args:
      folder: of the run.
      config: what the run is, a dataclass of values that JSON can hold.
      command: the exact command, kept with it.

    Raises:
      DataError: the folder holds another run, or something else.
    """
    in_the_way = [part for part in (folder, *folder.parents) if part.exists() and not part.is_dir()]
    if in_the_way:
        raise DataError(f"{in_the_way[0]}: is a file, expected a folder for the run; give another --out")
    path = folder / "config.json"
    wanted = config_lib.to_json(config)
    if path.exists():
        there = dict(files.read_json(path))
        there.pop("command", None)
        if there.get("experiment") != wanted["experiment"]:
            kind = there.get("experiment")
            raise DataError(f"{folder}: holds a run of {kind!r}, not of {wanted['experiment']!r}; give another --out")
        # An option that is newer than the folder is None where it was not given.
        differing = sorted(k for k in {*there, *wanted} if there.get(k) != wanted.get(k))
        if differing:
            raise DataError(
                f"{folder}: holds a run with other settings ({', '.join(differing)} differ); give another --out"
            )
    elif folder.exists() and any(folder.iterdir()):
        raise DataError(f"{folder}: is not empty and holds no run; give another --out")
    folder.mkdir(parents=True, exist_ok=True)
    files.write_json(path, {**wanted, "command": command})


def read_config(folder: pathlib.Path) -> config_lib.RunConfig:
    """The configuration of a run.

    Raises:
      DataError: the folder holds no run.
    """
    path = folder / "config.json"
    if not path.exists():
        raise DataError(f"{folder}: holds no run (there is no config.json)")
    values = dict(files.read_json(path))
    values.pop("command", None)
    if values.get("experiment") not in typing.get_args(config_lib.Experiment):
        raise DataError(f"{folder}: holds a run of {values.get('experiment')!r}, of which this cannot be asked")
    return config_lib.from_json(values, str(path))
