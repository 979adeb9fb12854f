"""`hydrajax user-models list | show | edit | delete RUN`: what a run's strategies have learned of users."""

import dataclasses
import pathlib
from typing import Annotated, Literal

import rich.table
import rich.text
import tyro

from hydrajax.cli import console
from hydrajax.data import cross_fitting
from hydrajax.prompting import library
from hydrajax.types import DataError


@dataclasses.dataclass(frozen=True, kw_only=True)
class UserModels:
    """What a run's prompt strategies have learned of users: summaries, hypotheses, personas. An edited text is used
    by the run's next invocation; what was deleted is not learned again."""

    action: Annotated[Literal["list", "show", "edit", "delete"], tyro.conf.Positional]
    """What to do."""
    run: Annotated[pathlib.Path, tyro.conf.Positional]
    """The run folder (of a run over folds, the folder of one of them)."""
    user: str | None = None
    """Whose; needed but for `list`."""
    strategy: str | None = None
    """Of which strategy; needed for `edit`."""
    part: Literal["whole", "first", "second"] = "whole"
    """For `edit`: made of the whole profile, or of a half of it, which pseudo-queries get."""
    text: str | None = None
    """For `edit`: the new text."""
    file: pathlib.Path | None = None
    """For `edit`: a file with the new text."""

    def __call__(self, command: str) -> None:
        """Does what is asked.

        Raises:
          DataError: the run has no user models, or not this one; an option is missing.
        """
        path = self.run / library.FILE
        if not path.is_file():
            folds = sorted(path.parent.name for path in self.run.glob(f"fold-*/{library.FILE}"))
            hint = f"; its folds have: {', '.join(folds)}" if folds else ""
            raise DataError(f"{self.run}: holds no user models (there is no {library.FILE}){hint}")
        models = library.Library(path)
        if self.action != "list" and self.user is None:
            raise DataError(f"user-models {self.action} needs --user")
        if self.action != "edit" and (self.text is not None or self.file is not None):
            raise DataError(f"user-models {self.action} takes no --text or --file; edit does")
        if self.action == "edit":
            if self.strategy is None:
                raise DataError("user-models edit needs --strategy")
            key = library.Key(self.strategy, self.user or "", self.part)
            print(_beginning(models.edit(key, _new_text(self)).text))
        elif self.action == "delete":
            print(f"{models.delete(self.user or '', self.strategy)} deleted")
        else:
            _check_strategy(self, models)
            chosen = [
                (key, model)
                for key, model in models.items()
                if self.user in (None, key.user_id) and self.strategy in (None, key.strategy)
            ]
            if self.action == "list":
                console.stdout().print(_table(chosen))
                return
            if not chosen:
                raise DataError(f"there is no user model of user {self.user!r}")
            for key, model in chosen:
                console.stdout().print(f"{key.strategy}, {key.part}: {model.provenance}", markup=False, style="bold")
                console.stdout().print(model.text, markup=False)


def _check_strategy(chosen: UserModels, models: library.Library) -> None:
    known = sorted({key.strategy for key, _ in models.items()})
    if chosen.strategy is not None and chosen.strategy not in known:
        has = f"there are those of {', '.join(known)}" if known else "there are none at all"
        raise DataError(f"there are no user models of strategy {chosen.strategy!r}; {has}")


def _new_text(chosen: UserModels) -> str:
    if (chosen.text is None) == (chosen.file is None):
        raise DataError("user-models edit needs either --text or --file")
    if chosen.text is not None:
        return chosen.text
    assert chosen.file is not None
    try:
        return chosen.file.read_text(encoding="utf-8")
    except ValueError as error:
        raise DataError(f"{chosen.file}: is no text in UTF-8") from error


def _table(models: list[tuple[library.Key, library.UserModel]]) -> rich.table.Table:
    table = rich.table.Table()
    for name in ("strategy", "user", "part", "text", "from"):
        table.add_column(name, no_wrap=name in ("strategy", "user", "part"))
    for key, model in models:
        part = "" if key.part == cross_fitting.WHOLE else key.part
        cells = (key.strategy, key.user_id, part, _beginning(model.text), model.provenance)
        table.add_row(*(rich.text.Text(cell) for cell in cells))
    return table


def _beginning(text: str) -> str:
    return text if len(text) <= 160 else text[:157] + "..."
