"""The run folder: whose it is, and what the run was."""

import pathlib
from typing import Any

from hydrajax import files, forms
from hydrajax.methods import settings as settings_lib
from hydrajax.prompting import contract
from hydrajax.runs import config as config_lib
from hydrajax.runs import kinds
from hydrajax.training import config as fit_config
from hydrajax.types import DataError, check_values

FILE = "config.json"
NOT_CONFIGURED = ("command", "module")  # what else the file holds


def prepare(folder: pathlib.Path, config: config_lib.Configuration, command: str) -> None:
    """Makes the folder, or finds it left by the same run: what was done there is then not done again.

    Args:
      folder: of the run.
      config: what the run is.
      command: the exact command, kept with it.

    Raises:
      DataError: the folder holds another run, or something else.
    """
    check_free(folder, config)
    folder.mkdir(parents=True, exist_ok=True)
    files.write_json(folder / FILE, {**kinds.to_json(config), "command": command, "module": config.module})


def check_free(folder: pathlib.Path, config: config_lib.Configuration) -> None:
    """Refuses a folder that holds another run than this, or something else; a DataError."""
    in_the_way = [part for part in (folder, *folder.parents) if part.exists() and not part.is_dir()]
    if in_the_way:
        raise DataError(f"{in_the_way[0]}: is a file, expected a folder for the run; give another --out")
    path = folder / FILE
    wanted = kinds.to_json(config)
    if path.exists():
        kept = {name: value for name, value in files.read_json(path).items() if name not in NOT_CONFIGURED}
        if kept.get("experiment") != wanted["experiment"]:
            kind = kept.get("experiment")
            raise DataError(f"{folder}: holds a run of {kind!r}, not of {wanted['experiment']!r}; give another --out")
        # An option that is newer than the folder is None where it was not given.
        differing = sorted(k for k in {*kept, *wanted} if kept.get(k) != wanted.get(k))
        if differing:
            raise DataError(
                f"{folder}: holds a run with other settings ({', '.join(differing)} differ); give another --out"
            )
    elif folder.exists() and any(folder.iterdir()):
        raise DataError(f"{folder}: is not empty and holds no run; give another --out")


def read(folder: pathlib.Path) -> dict[str, Any]:
    """What `config.json` says of a run, the command that made it and the module that carries it out among it.

    Raises:
      DataError: the folder holds no run, or a setting of its configuration is of another type.
    """
    path = folder / FILE
    if not path.exists():
        raise DataError(f"{folder}: holds no run (there is no config.json)")
    values = dict(files.read_json(path))
    forms.check(path, values, {"experiment?": str, "command?": (str, [str])})
    kind = kinds.KINDS.get(values.get("experiment", ""))
    if kind is not None:
        values.setdefault("module", kind.module)  # of folders that are older than this entry
    if not isinstance(values.get("module"), str):
        raise DataError(f"{path}: holds a run of {values.get('experiment')!r}, which is no kind of run")
    if kind is not None:
        try:
            check_values(kind, values)
        except DataError as error:
            raise DataError(f"{path}: does not hold the configuration of a run ({error})") from error
    return values


def read_config(folder: pathlib.Path) -> config_lib.RunConfig:
    """The configuration of a run of HYDRA.

    Raises:
      DataError: the folder holds no run, or one of another kind.
    """
    values = {name: value for name, value in read(folder).items() if name not in NOT_CONFIGURED}
    experiment = values.pop("experiment")
    kind = kinds.KINDS.get(experiment)
    if kind is None or not issubclass(kind, config_lib.RunConfig):
        raise DataError(f"{folder}: holds a run of {experiment!r}, of which this cannot be asked")
    try:
        settings = dict(values.pop("settings"))
        prompts = contract.PromptSettings(**settings.pop("prompts"))
        for name in ("shown", "styles", "strategies"):
            settings[name] = tuple(settings.get(name, ()))
        return kind(
            settings=settings_lib.Settings(prompts=prompts, **settings),
            scorer=fit_config.FitConfig(**values.pop("scorer")),
            losses=tuple(values.pop("losses")),
            epochs=tuple(values.pop("epochs")),
            **values,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{folder / FILE}: does not hold the configuration of a run ({error})") from error


def read_undivided(folder: pathlib.Path) -> config_lib.RunConfig:
    """The configuration of a run of HYDRA that has scorers of its own.

    Raises:
      DataError: as `read_config`, or its folds have them.
    """
    config = read_config(folder)
    if config.parts():
        raise DataError(
            f"{folder}: holds {len(config.parts())} folds; name one of them, {folder / 'fold-0'} for example"
        )
    return config
