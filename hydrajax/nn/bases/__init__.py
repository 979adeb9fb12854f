"""Base encoders: token ids in, one vector a token out. One file an architecture.

A file defines
    MODEL_TYPES    the names that a Hugging Face `config.json` gives it
    Config         the shape of an encoder: a frozen `blocks.Shape`
    read_config    what `config.json` holds -> Config
    Encoder        a `blocks.Encoder`, a Flax module:
                   Encoder(config, compute).apply({"params": params}, ids, types, mask) -> [B, T, D]
    tensors        Config -> the file's tensors: name -> `Tensor`
    PREFIXES       of those names in files that hold more than the encoder
and is found by its name alone. What numbers and switches of a `config.json` may be is in one table: `FIELDS`.
"""

import dataclasses
import importlib
import pkgutil
import re
import sys
import types
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn

from hydrajax.nn.bases import blocks
from hydrajax.types import DataError


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


def linear(name: str, place: str, out: int, inside: int, *, bias: bool = True) -> dict[str, Tensor]:
    """A linear layer."""
    table = {f"{name}.weight": Tensor(place=f"{place}.kernel", shape=(out, inside), transposed=True)}
    return table | {f"{name}.bias": Tensor(place=f"{place}.bias", shape=(out,))} if bias else table


def layer_norm(name: str, place: str, size: int, *, bias: bool = True) -> dict[str, Tensor]:
    """A layer norm."""
    table = {f"{name}.weight": Tensor(place=f"{place}.scale", shape=(size,))}
    return table | {f"{name}.bias": Tensor(place=f"{place}.bias", shape=(size,))} if bias else table


SHARED = ("attention", "blocks")  # files that are no architecture
# Tensors that are not of the encoder: poolers, heads of pretraining and of tasks, a constant 0..T-1.
IGNORED = re.compile(
    r"^((pooler|cls|lm_head|head|decoder|classifier|pre_classifier|qa_outputs)\.|embeddings\.position_ids$)"
)


def _whole(least: int, most: int = sys.maxsize) -> tuple[str, Callable[[Any], bool]]:
    bounds = f"of {least} or more" if most == sys.maxsize else f"from {least} to {most}"
    return f"a whole number {bounds}", lambda value: type(value) is int and least <= value <= most


_POSITIVE = "a number above 0", lambda value: type(value) in (int, float) and 0 < value <= sys.float_info.max
_RATE = "a number from 0 to below 1", lambda value: type(value) in (int, float) and 0 <= value < 1
_FLAG = "true or false", lambda value: isinstance(value, bool)

# What the entries of a `config.json` may be, alike in every architecture that has them: in words, and whether one is.
FIELDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "vocab_size": _whole(1),
    "hidden_size": _whole(1),
    "num_hidden_layers": _whole(1, 1000),
    "num_attention_heads": _whole(1),
    "intermediate_size": _whole(1),
    "max_position_embeddings": _whole(1),
    "type_vocab_size": _whole(1),
    "pad_token_id": _whole(0),
    "relative_attention_num_buckets": _whole(4, 10_000),
    "local_attention": _whole(2),
    "global_attn_every_n_layers": _whole(1),
    "rope_theta": _POSITIVE,
    "global_rope_theta": _POSITIVE,
    "local_rope_theta": _POSITIVE,
    "layer_norm_eps": _POSITIVE,
    "norm_eps": _POSITIVE,
    "hidden_dropout_prob": _RATE,
    "attention_probs_dropout_prob": _RATE,
    "embedding_dropout": _RATE,
    "attention_dropout": _RATE,
    "mlp_dropout": _RATE,
    "norm_bias": _FLAG,
    "attention_bias": _FLAG,
    "mlp_bias": _FLAG,
}


def model_types() -> dict[str, str]:
    """The file of every model type."""
    files = sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name not in SHARED)
    return {kind: name for name in files for kind in importlib.import_module(f"{__name__}.{name}").MODEL_TYPES}


def get(model_type: Any) -> types.ModuleType:
    """The file of a model type.

    Raises:
      DataError: there is none.
    """
    known = model_types()
    if not isinstance(model_type, str) or model_type not in known:
        raise DataError(f"model_type is {model_type!r:.80}, expected one of {', '.join(sorted(known))}")
    return importlib.import_module(f"{__name__}.{known[model_type]}")


def get_of(config: blocks.Shape) -> types.ModuleType:
    """The file that a configuration is of."""
    return importlib.import_module(type(config).__module__)


def encoder(config: blocks.Shape, compute: blocks.Compute) -> nn.Module:
    """The Flax module of a configuration.

    Raises:
      DataError: `compute` is none.
    """
    if not isinstance(compute, blocks.Compute):
        raise DataError(f"compute is {compute!r:.80}, expected blocks.Compute")
    return get_of(config).Encoder(config, compute)


def expect(raw: Mapping[str, Any], **valid: tuple[Any, ...]) -> None:
    """Refuses a `config.json` that asks for what an architecture here does not do.

    Raises:
      DataError: naming the first entry that does.
    """
    for name, choices in valid.items():
        value = raw.get(name, choices[0])
        if not any(type(value) is type(choice) and value == choice for choice in choices):
            valid_ones = " or ".join(repr(choice) for choice in choices if choice is not None) or "null"
            raise DataError(f"{name} is {raw[name]!r:.80}, expected {valid_ones}")


def checked(name: str, value: Any) -> Any:
    """An entry of `config.json`, if it is what its row of `FIELDS` expects.

    Raises:
      DataError: naming it.
    """
    says, holds = FIELDS[name]
    if not holds(value):
        raise DataError(f"{name} is {value!r:.80}, expected {says}")
    return value


def fields(raw: Mapping[str, Any], kind: type, **defaults: Any) -> dict[str, Any]:
    """Those fields of a configuration that `FIELDS` knows.

    Args:
      raw: `config.json`.
      kind: the dataclass; its defaults stand in for entries that are missing or null.
      defaults: what the library that wrote the file takes otherwise.

    Raises:
      DataError: naming the entries that are missing, or the first that is not what is expected.
    """
    known = [field for field in dataclasses.fields(kind) if field.name in FIELDS]
    values = {field.name: field.default for field in known if field.default is not dataclasses.MISSING} | defaults
    values |= {field.name: raw[field.name] for field in known if raw.get(field.name) is not None}
    missing = [field.name for field in known if field.name not in values]
    if missing:
        raise DataError(f"has no {', '.join(missing)}")
    for field in known:
        value = checked(field.name, values[field.name])
        values[field.name] = float(value) if field.type is float else value
    width, heads = values["hidden_size"], values["num_attention_heads"]
    if width % heads:
        raise DataError(f"hidden_size is {width}, expected a multiple of the {heads} attention heads")
    if "pad_token_id" in values:
        pad, words, positions = values["pad_token_id"], values["vocab_size"], values["max_position_embeddings"]
        if pad >= min(words, positions - 1):
            most = f"vocab_size ({words}) and below max_position_embeddings - 1 ({positions - 1})"
            raise DataError(f"pad_token_id is {pad}, expected a number below {most}")
    return values
