"""Strategies, head families and retrievers by name: files of one folder of hydrajax each, or a file of one's own.

A name is that of a file of the folder (`rag`), a module (`my_strategy`, `mypackage.my_strategy`), also one of the
folder that one works in, or a path that ends with `.py`; a file of the folder goes before a module of the same name.
Nothing is imported before it is used.
"""

import ast
import contextlib
import dataclasses
import difflib
import dis
import functools
import hashlib
import importlib
import importlib.util
import os
import pathlib
import re
import sys
import sysconfig
import traceback
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from hydrajax import files
from hydrajax.types import DataError

# Where files lie that are nobody's own.
_INSTALLED = (
    *(str(pathlib.Path(path)) + os.sep for path in (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"))),
    str(pathlib.Path(__file__).parent) + os.sep,
    "<",
)
ALIKE = (
    0.85  # 1 = the same letters in the same order: `retreiver` and `retriever` have 0.89, `learned` and `learn` 0.83
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of plug-in.

    Attributes:
      what: its name in messages.
      package: where those of hydrajax lie; files that begin with an underscore are none.
      attribute: what a file defines.
    """

    what: str
    package: str
    attribute: str

    def names(self) -> tuple[str, ...]:
        """Those of hydrajax, in alphabetical order."""
        return tuple(self._files)

    def expected(self) -> str:
        """What a name may be, for messages."""
        own = f"a module of one's own (my_module, mypackage.my_module) or a FILE.py with {self.attribute}"
        return f"one of {', '.join(self._files)}, {own}"

    def summaries(self) -> dict[str, str]:
        """The first line of each file's docstring, by name."""
        return dict(self._summaries)

    def load(self, name: str) -> Any:
        """What the file of this name defines.

        Raises:
          DataError: there is no such file, it cannot be imported, or it does not define it.
        """
        if name in self._files:
            module = importlib.import_module(f"{self.package}.{name}")
        elif "." in name or _is_module(name):
            module = self._imported(name)
        else:
            raise DataError(f"unknown {self.what} {name!r}, expected {self.expected()}")
        if not hasattr(module, self.attribute):
            raise DataError(f"{self.what} {name!r}: the file defines no {self.attribute}")
        return getattr(module, self.attribute)

    def _imported(self, name: str) -> types.ModuleType:
        if is_missing(name):
            raise DataError(f"{self.what} {name!r}: {name} does not exist")
        try:
            return imported(name)
        except Exception as error:  # whatever a file of somebody else's raises
            raise DataError(f"{self.what} {name!r} cannot be imported: {said(error)}") from error

    @functools.cached_property
    def _files(self) -> dict[str, pathlib.Path]:
        spec = importlib.util.find_spec(self.package)
        assert spec is not None and spec.origin is not None
        return {path.stem: path for path in sorted(pathlib.Path(spec.origin).parent.glob("[!_]*.py"))}

    @functools.cached_property
    def _summaries(self) -> dict[str, str]:
        parsed = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in self._files.items()}
        return {name: (ast.get_docstring(tree) or "").partition("\n")[0] for name, tree in parsed.items()}


def last_part(name: str) -> str:
    """What something is called in results: `my_strategy` of `mypackage.my_strategy` or of `folder/my_strategy.py`."""
    return pathlib.PurePath(name).stem if name.endswith(".py") else name.rpartition(".")[2]


def absolute(name: str) -> str:
    """The name; where it is a FILE.py (or a FILE.gguf), maybe with more behind a colon, with an absolute path."""
    match = re.fullmatch(r"([^:]+\.(?:py|gguf))(:.*)?", name)
    return str(pathlib.Path(match[1]).expanduser().resolve()) + (match[2] or "") if match else name


def is_missing(name: str) -> bool:
    """Whether this is a path, ending with `.py`, at which there is no file."""
    return name.endswith(".py") and not files.expanded(name).is_file()


def imported(name: str) -> types.ModuleType:
    """The module of this name, or of the file at this path, which ends with `.py`.

    Raises:
      ImportError: it ends the program instead of being imported; besides whatever it raises.
    """
    _look_here()
    try:
        if name.endswith(".py"):
            return _from_file(files.expanded(name).resolve())
        return importlib.import_module(name)
    except SystemExit as error:
        raise ImportError("it calls sys.exit, which would end the program") from error


def _look_here() -> None:
    """An installed command has its own folder in the path, not the one that is worked in, as `python -m` has."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def _is_module(name: str) -> bool:
    """Whether a module has this name without a dot."""
    _look_here()
    importlib.invalidate_caches()
    return name.isidentifier() and name != "__main__" and importlib.util.find_spec(name) is not None


@contextlib.contextmanager
def blamed(what: str, *, but: type[Exception] | tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """What somebody else's code raises becomes one sentence, which says whose it is and where it was raised.

    Args:
      what: the plug-in, and what of it is called.
      but: what is raised as it is, besides a DataError.

    Raises:
      DataError: in the place of anything else.
    """
    try:
        yield
    except DataError:
        raise
    except but:
        raise
    except (Exception, SystemExit) as error:
        raise DataError(f"{what} raises {said(error)}") from error


def said(error: BaseException) -> str:
    """Type and first line of an error, and the last place in somebody's own file that it came through."""
    frames = [frame for of in (error.__cause__, error) if of for frame in traceback.extract_tb(of.__traceback__)]
    own = [frame for frame in frames if not frame.filename.startswith(_INSTALLED)]
    text = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    return f"{text} ({own[-1].filename}:{own[-1].lineno})" if own else text


def is_own(thing: Any) -> bool:
    """Whether something is defined in this package."""
    return getattr(thing, "__module__", "").partition(".")[0] == __name__.partition(".")[0]


def misspelt(thing: Any, known: Mapping[str, Any]) -> dict[str, str]:
    """Public attributes of somebody's own class that are likely to be known ones, misspelt; and these.

    Such an attribute has the letters of a known one that the class does not set, or most of them, is of its kind, and
    no code of the file reads it: an attribute of the class's own is there to be read.

    Args:
      thing: an instance of the class.
      known: by name, the type, or types, of each attribute that somebody may set.
    """
    classes = [of for of in type(thing).__mro__ if not is_own(of) and of is not object]
    given = {name: value for of in reversed(classes) for name, value in vars(of).items()} | getattr(
        thing, "__dict__", {}
    )
    read = _read([*(vars(sys.modules[of.__module__]) for of in classes if of.__module__ in sys.modules), given])
    found = {}
    for name, value in given.items():
        if name.startswith("_") or name in known or name in read:
            continue
        unset = [other for other, kind in known.items() if other not in given and isinstance(value, kind)]
        swapped = [other for other in unset if sorted(other) == sorted(name)]
        for likely in (swapped or difflib.get_close_matches(name, unset, cutoff=ALIKE))[:1]:
            found[name] = likely
    return found


def _read(namespaces: Iterable[Mapping[str, Any]]) -> set[str]:
    """All names that the functions of these read, as attributes, as variables or as texts."""
    values = [value for names in namespaces for value in [*names.values()]]
    methods = [
        held for value in values if isinstance(value, type) and not is_own(value) for held in vars(value).values()
    ]
    codes = []
    for value in (*values, *methods):
        inner = getattr(value, "fget", None) or getattr(value, "func", None) or getattr(value, "__func__", value)
        codes += [inner.__code__] if isinstance(inner, types.FunctionType) and not is_own(inner) else []
    names: set[str] = set()
    for code in codes:  # which grows by the functions inside of functions
        codes += [held for held in code.co_consts if isinstance(held, types.CodeType)]
        loads = (op.argval for op in dis.get_instructions(code) if op.opname.startswith("LOAD"))
        names.update(name for name in loads if isinstance(name, str))
    return names


def _from_file(path: pathlib.Path) -> types.ModuleType:
    name = f"hydrajax_file_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}.{path.stem}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]
