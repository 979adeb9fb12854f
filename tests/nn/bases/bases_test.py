"""Every architecture: values frozen from the original implementation, and what has to hold of an encoder."""

import dataclasses
import functools
import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from hydrajax.nn import bases, encode, tokens, weights
from hydrajax.nn.bases import blocks
from hydrajax.types import DataError

FIXTURES = pathlib.Path(__file__).parents[2] / "fixtures" / "bases"
NAMES = sorted(path.name for path in FIXTURES.iterdir())


@functools.cache
def loaded(name, **settings):
    """(apply, params, config)."""
    module, params = weights.from_pretrained(FIXTURES / name, blocks.Compute(**settings))
    return jax.jit(module.apply, static_argnames=("train", "texts")), params, module.config


@functools.cache
def expected(name):
    return safetensors.numpy.load_file(FIXTURES / name / "expected.safetensors")


def inputs(name):
    arrays = expected(name)
    return jnp.asarray(arrays["ids"]), jnp.asarray(arrays["types"]), jnp.asarray(arrays["mask"] > 0)


def seen(x, mask):
    return np.asarray(x)[np.asarray(mask)]


@pytest.mark.parametrize("name", NAMES)
def test_every_layer_agrees_with_the_original_implementation(name):
    module, params = weights.from_pretrained(FIXTURES / name)

    def run(params, *args):
        wanted = lambda inner, method: (inner.name or "").startswith("layer_")  # noqa: E731
        return module.apply({"params": params}, *args, capture_intermediates=wanted)

    args = inputs(name)
    last, state = jax.jit(run)(params, *args)
    np.testing.assert_allclose(seen(last, args[2]), seen(expected(name)["last"], args[2]), atol=1e-4)
    for i in range(2):
        got = state["intermediates"][f"layer_{i}"]["__call__"][0]
        np.testing.assert_allclose(seen(got, args[2]), seen(expected(name)[f"layer_{i}"], args[2]), atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_the_tree_is_the_modules_own(name):
    _, params, config = loaded(name)
    ids, types, mask = inputs(name)
    init = bases.encoder(config, blocks.Compute()).init
    own = jax.eval_shape(lambda: init(jax.random.key(0), ids, types, mask)["params"])
    told = [jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), dict(tree)) for tree in (params, own)]
    assert told[0] == told[1]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("settings", [{"attention": "fused"}, {"remat": True}, {"dtype": "bfloat16"}], ids=str)
def test_how_it_is_computed_changes_nothing_but_digits(name, settings):
    apply, params, _ = loaded(name)
    other, _, _ = loaded(name, **settings)
    args = inputs(name)
    a, b = apply({"params": params}, *args), other({"params": params}, *args)
    assert b.dtype == jnp.float32
    # bfloat16 has 8 bits: of layers of order 1 some hundredths remain.
    np.testing.assert_allclose(seen(a, args[2]), seen(b, args[2]), atol=0.25 if "dtype" in settings else 1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_what_the_mask_hides_does_not_change_a_text(name):
    apply, params, config = loaded(name)
    ids, types, mask = inputs(name)
    other = jnp.where(mask, ids, (ids + 7) % config.vocab_size)
    a, b = apply({"params": params}, ids, types, mask), apply({"params": params}, other, types, mask)
    np.testing.assert_array_equal(seen(a, mask), seen(b, mask))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_text_does_not_depend_on_the_padding_and_the_others(name):
    apply, params, _ = loaded(name)
    ids, types, mask = inputs(name)
    together = apply({"params": params}, ids, types, mask)
    length = int(mask[1].sum())
    alone = apply({"params": params}, ids[1:2, :length], types[1:2, :length], mask[1:2, :length])
    np.testing.assert_allclose(together[1, :length], alone[0], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_texts_side_by_side_are_as_texts_in_rows_of_their_own(name):
    apply, params, _ = loaded(name)
    ids, types, mask = (np.asarray(x) for x in inputs(name))
    texts = [
        tokens.Encoding(tuple(i[m].tolist()), tuple(t[m].tolist())) for i, t, m in zip(ids, types, mask, strict=True)
    ]
    length = sum(len(text.ids) for text in texts) + 3
    packed = tokens.side_by_side([texts[::-1], texts[:2]], length, texts=len(texts))
    module, _ = weights.from_pretrained(FIXTURES / name)
    alone = apply({"params": params}, *map(jnp.asarray, (ids, types, mask)))
    for pooling in encode.POOLINGS:
        rows = jax.tree.map(jnp.asarray, tokens.Tokens(ids=ids, types=types, mask=mask))
        own = np.asarray(encode.features(module, params, rows, pooling))
        found = encode.features(module, params, jax.tree.map(jnp.asarray, packed), pooling)
        np.testing.assert_allclose(found[0], own[::-1], atol=1e-4)
        np.testing.assert_allclose(found[1, :2], own[:2], atol=1e-4)
        np.testing.assert_array_equal(found[1, 2:], 0.0)
    where = {"positions": jnp.asarray(packed.positions), "segments": jnp.asarray(packed.segments)}
    out = apply({"params": params}, packed.ids, packed.types, packed.mask, **where, texts=packed.texts)
    first = len(texts[-1].ids)
    np.testing.assert_allclose(out[0, :first], alone[-1, :first], atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_text_without_tokens_is_finite_and_so_is_its_gradient(name):
    apply, params, _ = loaded(name)
    ids, types, mask = inputs(name)
    nothing = jnp.zeros(mask.shape, bool)
    value, grads = jax.jit(jax.value_and_grad(lambda p: jnp.sum(apply({"params": p}, ids, types, nothing) ** 2)))(
        params
    )
    assert jnp.isfinite(value)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_dropout_is_off_unless_training(name, tmp_path):
    shutil.copytree(FIXTURES / name, tmp_path / name)
    path = tmp_path / name / "config.json"
    rates = dict.fromkeys(
        ("hidden_dropout_prob", "attention_probs_dropout_prob", "mlp_dropout", "embedding_dropout"), 0.3
    )
    path.write_text(json.dumps(json.loads(path.read_text()) | rates | {"attention_dropout": 0.3}))
    module, params = weights.from_pretrained(tmp_path / name)
    apply = jax.jit(module.apply, static_argnames="train")
    args = inputs(name)
    a = apply({"params": params}, *args)
    key = {"dropout": jax.random.key(1)}
    np.testing.assert_array_equal(a, apply({"params": params}, *args, rngs=key))
    dropped = [apply({"params": params}, *args, train=True, rngs={"dropout": jax.random.key(i)}) for i in (1, 1, 2)]
    np.testing.assert_array_equal(dropped[0], dropped[1])
    assert not np.allclose(a, dropped[0], atol=1e-2) and not np.allclose(dropped[0], dropped[2], atol=1e-2)


@pytest.mark.parametrize("name", NAMES)
def test_rows_that_have_no_place_are_refused_when_the_call_is_traced(name):
    module, params = weights.from_pretrained(FIXTURES / name)
    most = module.config.max_tokens

    def traced(length, *where):
        numbers = jax.ShapeDtypeStruct((1, length), jnp.int32)
        mask = jax.ShapeDtypeStruct((1, length), bool)
        given = dict.fromkeys(where, numbers)
        return jax.eval_shape(functools.partial(module.apply, {"params": params}), numbers, numbers, mask, **given)

    assert traced(most).shape == (1, most, module.config.hidden_size)
    with pytest.raises(DataError, match=f"ids are {most + 1} long, expected at most the {most} positions"):
        traced(most + 1)
    assert traced(most + 1, "positions", "segments").shape[1] == most + 1  # several texts
    with pytest.raises(DataError, match="positions are missing, expected together with segments"):
        traced(most, "segments")
    with pytest.raises(DataError, match="segments are missing, expected together with positions"):
        traced(most, "positions")


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_folder_holds_the_same_tensors(name, tmp_path):
    _, params, config = loaded(name)
    weights.save_pretrained(tmp_path / "saved", params, config, FIXTURES / name)
    a, b = (
        safetensors.numpy.load_file(folder / "model.safetensors") for folder in (FIXTURES / name, tmp_path / "saved")
    )
    table = bases.get_of(config).tensors(config)
    assert set(b) == set(table) <= set(a)
    for tensor in table:
        np.testing.assert_array_equal(a[tensor], b[tensor])
    assert (tmp_path / "saved" / "config.json").read_bytes() == (FIXTURES / name / "config.json").read_bytes()
    with pytest.raises(DataError, match="holds an encoder already"):
        weights.save_pretrained(tmp_path / "saved", params, config, FIXTURES / name)
    with pytest.raises(DataError, match="config is not that of"):
        other = dataclasses.replace(config, vocab_size=config.vocab_size + 1)
        weights.save_pretrained(tmp_path / "other", params, other, FIXTURES / name)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        (
            "bert",
            {"model_type": "llama"},
            "model_type is 'llama', expected one of bert, camembert",
        ),
        ("bert", {"hidden_act": "relu"}, "hidden_act is 'relu', expected 'gelu'"),
        ("bert", {"num_attention_heads": 3}, "hidden_size is 16, expected a multiple of the 3 attention heads"),
        ("bert", {"hidden_size": "16"}, "hidden_size is '16', expected a whole number"),
        ("bert", {"hidden_size": 16.5}, "hidden_size is 16.5, expected a whole number"),
        ("roberta", {"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'"),
        ("longformer", {"attention_window": [4, 8]}, r"attention_window is \[4, 8\], expected an even number for each"),
        ("longformer", {"attention_window": 7}, "attention_window is 7, expected an even number"),
        ("modernbert", {"layer_types": ["full_attention"]}, "layer_types is"),
        ("modernbert", {"hidden_activation": "silu"}, "hidden_activation is 'silu', expected 'gelu'"),
        (
            "modernbert",
            {"rope_parameters": {"full_attention": {"rope_type": "yarn"}}},
            "rope_type is 'yarn', expected 'default'",
        ),
    ],
)
def test_what_is_not_done_here_is_refused(name, change, says, tmp_path):
    raw = json.loads((FIXTURES / name / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(raw))
    with pytest.raises(DataError, match=f"config.json: {says}"):
        weights.load_config(tmp_path)


def test_configurations_of_older_versions_are_read(tmp_path):
    raw = json.loads((FIXTURES / "modernbert" / "config.json").read_text())
    wanted = weights.load_config(FIXTURES / "modernbert")
    del raw["layer_types"], raw["rope_parameters"]
    raw |= {"global_rope_theta": 160000.0, "local_rope_theta": 10000.0}
    (tmp_path / "config.json").write_text(json.dumps(raw))
    assert weights.load_config(tmp_path) == wanted
    raw = json.loads((FIXTURES / "longformer" / "config.json").read_text()) | {"attention_window": 8}
    (tmp_path / "config.json").write_text(json.dumps(raw))
    assert weights.load_config(tmp_path).attention_window == (8, 8, 8)


@pytest.mark.slow
def test_longformer_without_global_attention_differs(tmp_path):
    shutil.copytree(FIXTURES / "longformer", tmp_path / "copy")
    raw = json.loads((FIXTURES / "longformer" / "config.json").read_text()) | {"global_attention": "none"}
    (tmp_path / "copy" / "config.json").write_text(json.dumps(raw))
    module, params = weights.from_pretrained(tmp_path / "copy")
    args = inputs("longformer")
    out = jax.jit(module.apply)({"params": params}, *args)
    assert not np.allclose(seen(out, args[2]), seen(expected("longformer")["last"], args[2]), atol=1e-2)


@pytest.mark.parametrize("count", [8, 32])
def test_buckets_of_distances_are_symmetric_and_grow(count):
    from hydrajax.nn.bases import mpnet

    found = mpnet.buckets(300, count)
    half = count // 2
    np.testing.assert_array_equal(found[0, : half // 2], [0, *(half + np.arange(1, half // 2))])
    np.testing.assert_array_equal(found.T[np.tril_indices(300, -1)], found[np.tril_indices(300, -1)] + half)
    assert (np.diff(found[:, 0]) >= 0).all() and found[-1, 0] == half - 1


def test_rotation_turns_pairs_and_leaves_products_of_equal_distance():
    from hydrajax.nn.bases import modernbert

    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 1, 1, 8)), jnp.float32).repeat(6, axis=2)
    turned = modernbert.rotated(x, jnp.arange(6, dtype=jnp.int32)[None], 100.0)[0, 0]
    products = turned @ turned.T
    for away in range(6):
        np.testing.assert_allclose(np.diagonal(products, away), products[0, away], rtol=1e-4)
    np.testing.assert_allclose(jnp.linalg.norm(turned, axis=-1), jnp.linalg.norm(x[0, 0], axis=-1), rtol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_gradient_of_a_table_adds_up_what_its_rows_were_looked_up_for(dtype):
    rng = np.random.default_rng(0)
    table, ids = jnp.asarray(rng.normal(size=(7, 3)), dtype), jnp.asarray([[1, 1, 6], [0, 1, 3]], jnp.int32)
    weight = jnp.asarray(rng.normal(size=(2, 3, 3)), dtype)
    np.testing.assert_array_equal(blocks.looked_up(table, ids), table[ids])
    got, expected = (
        jax.grad(lambda table, look=look: jnp.sum(look(table, ids) * weight))(table)
        for look in (blocks.looked_up, lambda table, ids: table[ids])
    )
    assert got.dtype == dtype
    np.testing.assert_allclose(
        got.astype(np.float32), expected.astype(np.float32), atol=0.05 if dtype != jnp.float32 else 1e-6
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_arrays_of_the_host_have_a_gradient_traced_or_not(name):
    module, params = weights.from_pretrained(FIXTURES / name)
    args = tuple(np.asarray(x)[:2, :8] for x in inputs(name))
    gradient = jax.grad(lambda params: jnp.sum(module.apply({"params": params}, *args) ** 2))
    close = functools.partial(np.testing.assert_allclose, atol=1e-3, rtol=1e-3)
    jax.tree.map(close, gradient(params), jax.jit(gradient)(params))


@pytest.mark.parametrize("settings", [{"remat": "no"}, {"dtype": "float16"}, {"attention": None}])
def test_settings_that_are_none_of_the_choices_are_refused(settings, unchecked):
    ((name, value),) = settings.items()
    with pytest.raises(DataError, match=f"{name} is {value!r}, expected one of "):
        blocks.Compute(**settings)


@pytest.mark.slow
def test_features_of_tokens_as_they_are_made_have_a_gradient():
    module, params = weights.from_pretrained(FIXTURES / "bert")
    made = tokens.pack([tokens.Encoding((7, 8, 9), (0, 0, 1)), tokens.Encoding((5,), (0,))], 4)
    grads = [
        jax.grad(lambda params, batch=batch: jnp.sum(encode.features(module, params, batch, "cls") ** 2))(params)
        for batch in (made, jax.tree.map(jnp.asarray, made))
    ]
    jax.tree.map(np.testing.assert_array_equal, *grads)
