"""The command `hydrajax`: what is common to all its commands."""

import contextlib
import dataclasses
import functools
import logging
import operator
import os
import shlex
import sqlite3
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import tyro

from hydrajax.cli import console, finished, llm, run, user_models
from hydrajax.llm import request
from hydrajax.types import DataError


@dataclasses.dataclass(frozen=True)
class Run:
    """Train and evaluate HYDRA with all baselines and controls, and write a run folder."""


_COMMANDS = {
    "run": Run,
    "report": finished.Report,
    "answer": finished.Answer,
    "personalise": finished.Personalise,
    "sample": llm.Sample,
    "store": llm.Store,
    "user-models": user_models.UserModels,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; exits with 2 and one clear sentence on bad input, with 130 when interrupted."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    _log_to_stderr(os.environ.get("HYDRAJAX_LOG", "INFO"))
    try:
        command = parse(arguments)
        machine = getattr(command, "machine", None)
        with contextlib.nullcontext(True) if machine is None else machine.joined() as leads:
            if leads:
                command(shlex.join(["hydrajax", *arguments]))
    except (DataError, request.LLMError, ValueError) as error:
        _end(console.as_typed(str(error), arguments), 2)
    except BrokenPipeError:  # whoever reads has seen enough, `head` for example
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except OSError as error:
        _end(f"{error.filename or 'a file'}: {error.strerror or error}", 2)
    except sqlite3.Error as error:
        _end(f"the store cannot be used any more ({error}); what it holds is kept", 2)
    except KeyboardInterrupt:
        _end("interrupted; every answer received is stored, the same command goes on", 130)


def parse(arguments: Sequence[str]) -> Any:
    """A command, to be called with the words of which it was made.

    Raises:
      ValueError: there is no such command, or a setting is refused.
    """
    console.check_word("command", arguments, _COMMANDS)
    if arguments[:1] == ["run"]:
        return run.parse(arguments[1:])
    commands = [Annotated[form, tyro.conf.subcommand(name)] for name, form in _COMMANDS.items()]
    return console.parsed(
        functools.reduce(operator.or_, commands),
        args=arguments,
        prog="hydrajax",
        description="Personalise a black-box LLM: learn which records to show it and which answer to take.",
    )


def _end(sentence: str, code: int) -> None:
    print(f"hydrajax: {sentence}", file=sys.stderr)
    raise SystemExit(code) from None


def _log_to_stderr(level: str) -> None:
    """The package's own log; others set up the root logger as they please when they are imported."""
    log = logging.getLogger("hydrajax")
    if level.upper() not in logging.getLevelNamesMapping():
        _end(f"HYDRAJAX_LOG is {level!r}, expected one of DEBUG, INFO, WARNING, ERROR", 2)
    log.setLevel(level.upper())
    log.handlers = [logging.StreamHandler(sys.stderr)]
    log.handlers[0].setFormatter(logging.Formatter("hydrajax: %(message)s"))
    log.propagate = False
