"""What a JSON value has to be: said once as a form, so that a value of another one is refused in one sentence.

float                      a number; `int`, `str`, `bool` and None likewise, `object` for anything
(str, None)                either of them
[str]                      a list of texts
{"name": str, "k?": int}   an object with these keys, and a `k` where it has one; other keys are let be
{...: float}               an object of numbers, by any key
frozenset({"a", "b"})      one of these texts
"""

import pathlib
from collections.abc import Mapping
from typing import Any

from hydrajax.types import DataError

_WORDS = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", None: "null"}


def check(path: pathlib.Path, value: Any, form: Any, place: str = "") -> None:
    """Refuses what is not of a form.

    Args:
      path: of the file that the value was read from.
      value: as `json` gives it.
      form: what it has to be.
      place: of the value in the file, for example `line 3`; empty for the whole file.

    Raises:
      DataError: naming the file, the first place at fault and what is expected there.
    """
    fault = _fault(value, form, place)
    if fault:
        raise DataError(f"{path}: {fault}")


def _fault(value: Any, form: Any, place: str) -> str:
    """What is wrong with a value, empty where nothing is."""
    if isinstance(form, tuple):
        faults = [_fault(value, one, place) for one in form]
        nested = [one for one in form if isinstance(one, dict | list) and _is_kind(value, one)]
        if not all(faults):
            return ""
        return _fault(value, nested[0], place) if nested else _other(value, form, place)
    if not _is_kind(value, form):
        return _other(value, form, place)
    if isinstance(form, list):
        return next(filter(None, (_fault(one, form[0], f"{place}[{i}]") for i, one in enumerate(value))), "")
    if isinstance(form, dict):
        for key, of_key in form.items():
            if key is ...:
                each = (_fault(one, of_key, f"{place}.{name}".lstrip(".")) for name, one in value.items())
                if fault := next(filter(None, each), ""):
                    return fault
                continue
            name = key.removesuffix("?")
            if name not in value and name == key:
                return f"{place and place + ': '}has no {name!r}, expected {_in_words(of_key)}"
            if name in value and (fault := _fault(value[name], of_key, f"{place}.{name}".lstrip("."))):
                return fault
    return ""


def _is_kind(value: Any, form: Any) -> bool:
    if isinstance(form, frozenset):
        return isinstance(value, str) and value in form
    if form in (int, float):
        return isinstance(value, int if form is int else int | float) and not isinstance(value, bool)
    if form is None:
        return value is None
    return isinstance(value, type(form) if isinstance(form, dict | list) else form)


def _other(value: Any, form: Any, place: str) -> str:
    got = f"{value!r:.80}" if not isinstance(value, Mapping | list) else _in_words(type(value)())
    return f"{place or 'the file'} is {got}, expected {_in_words(form)}"


def _in_words(form: Any) -> str:
    if isinstance(form, tuple):
        return " or ".join(map(_in_words, form))
    if isinstance(form, frozenset):
        return f"one of {', '.join(sorted(form))}"
    if isinstance(form, list):
        return "a list"
    if isinstance(form, dict):
        return "an object"
    return _WORDS.get(form, "a value")
