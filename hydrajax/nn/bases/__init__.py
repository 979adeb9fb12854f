"""Base encoders: token ids in, one vector a token out. One file an architecture.

A file defines
    MODEL_TYPES    the names that a Hugging Face `config.json` gives it
    Config         the shape of an encoder, frozen, by the names of `config.json`
    read_config    what `config.json` holds -> Config
    Encoder        a `blocks.Encoder`, a Flax module:
                   Encoder(config, settings).apply({"params": params}, ids, types, mask) -> [B, T, D]
    tensors        Config -> the file's tensors: name -> `Tensor`
    PREFIXES       of those names in files that hold more than the encoder
    IGNORED        a pattern of tensors in the file that are not of the encoder
and is found by its name alone.
"""

import dataclasses
import importlib
import pkgutil
import types
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import flax.linen as nn

from hydrajax.types import DataError


@runtime_checkable
class Config(Protocol):
    """What every encoder's shape has.

    Attributes:
      vocab_size: rows of the table of words.
      hidden_size: D.
      max_tokens: longest text.
      types: how many type ids there are; 0: they are not looked at.
    """

    vocab_size: int
    hidden_size: int

    @property
    def max_tokens(self) -> int: ...

    @property
    def types(self) -> int: ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tensor:
    """A tensor of the file, and where it goes.

    Attributes:
      place: of the parameter in our tree, keys joined by dots. Several tensors of one place stand side by side in its
        last axis, in the order of the table: queries, keys and values become one product.
      shape: in the file.
      transposed: PyTorch keeps a linear layer's matrix as [out, in], Flax as [in, out].
    """

    place: str
    shape: tuple[int, ...]
    transposed: bool = False


def matrix(place: str, out: int, inside: int) -> Tensor:
    """The matrix of a linear layer."""
    return Tensor(place=f"{place}.kernel", shape=(out, inside), transposed=True)


def vector(place: str, size: int) -> Tensor:
    """A bias, or one of the two vectors of a norm."""
    return Tensor(place=place, shape=(size,))


def linear(name: str, place: str, out: int, inside: int, *, bias: bool = True) -> dict[str, Tensor]:
    """A linear layer."""
    found = {f"{name}.weight": matrix(place, out, inside)}
    return found | {f"{name}.bias": vector(f"{place}.bias", out)} if bias else found


def layer_norm(name: str, place: str, size: int, *, bias: bool = True) -> dict[str, Tensor]:
    """A layer norm."""
    found = {f"{name}.weight": vector(f"{place}.scale", size)}
    return found | {f"{name}.bias": vector(f"{place}.bias", size)} if bias else found


SHARED = ("attention", "blocks")  # files that are no architecture


def model_types() -> dict[str, str]:
    """The file of every model type."""
    files = sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name not in SHARED)
    return {kind: name for name in files for kind in _file(name).MODEL_TYPES}


def get(model_type: Any) -> types.ModuleType:
    """The file of a model type.

    Raises:
      DataError: there is none.
    """
    known = model_types()
    if model_type not in known:
        raise DataError(f"model_type is {model_type!r}, expected one of {', '.join(sorted(known))}")
    return _file(known[model_type])


def get_of(config: Config) -> types.ModuleType:
    """The file that a configuration is of."""
    return importlib.import_module(type(config).__module__)


def encoder(config: Config, settings: Any) -> nn.Module:
    """The Flax module of a configuration."""
    return get_of(config).Encoder(config, settings)


def expect(raw: Mapping[str, Any], **valid: tuple[Any, ...]) -> None:
    """Refuses a `config.json` that asks for what an architecture here does not do.

    Raises:
      DataError: naming the first entry that does.
    """
    for name, choices in valid.items():
        if raw.get(name, choices[0]) not in choices:
            told = " or ".join(repr(choice) for choice in choices if choice is not None)
            raise DataError(f"{name} is {raw[name]!r}, expected {told}")


def numbers(raw: Mapping[str, Any], kind: type, **defaults: Any) -> dict[str, Any]:
    """The fields of a configuration, from `config.json` or from what the library that wrote it takes by default.

    Raises:
      DataError: naming the entries that are missing, or the first that is no number.
    """
    raw = {**defaults, **{name: value for name, value in raw.items() if value is not None}}
    fields = {field.name: field for field in dataclasses.fields(kind)}
    needed = [name for name, field in fields.items() if name not in raw and field.default is dataclasses.MISSING]
    if needed:
        raise DataError(f"has no {', '.join(needed)}")
    found = {name: raw[name] for name in fields if name in raw}
    for name, value in found.items():
        if fields[name].type in (int, float) and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise DataError(f"{name} is {value!r}, expected a number")
        if fields[name].type is int and (not isinstance(value, int) or value < 0):
            raise DataError(f"{name} is {value!r}, expected a whole number of 0 or more")
    width, heads = found.get("hidden_size", 0), found.get("num_attention_heads", 1)
    if not heads or width % heads:
        raise DataError(f"hidden_size is {width}, expected a multiple of the {heads} attention heads")
    return found


def _file(name: str) -> types.ModuleType:
    return importlib.import_module(f"{__name__}.{name}")
