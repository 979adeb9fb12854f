import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hydrajax.nn import heads

DIMS = heads.Dims(features=4, extras=1)
FAMILY = heads.get("facets", layers=2)
C = 5


@pytest.fixture(scope="module")
def shared():
    drawn = FAMILY.init_shared(jax.random.key(0), DIMS)
    # Larger than at the start, so that contexts make a difference
    return jax.tree.map(lambda leaf: 3.0 * leaf, drawn)


@pytest.fixture(scope="module")
def encode(shared):
    return jax.jit(lambda context: FAMILY.encode_user(shared, context)["alpha"])


def context(seed=0, mask=(1, 1, 1, 1, 1)):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(C, 5)).astype(np.float32)
    return heads.Context(x=x, label=(rng.random(C) > 0.5).astype(np.float32), mask=np.array(mask, bool))


def layer(one, x):
    return x @ np.asarray(one["w"]) + np.asarray(one["b"])


def normal(h):
    centred = h - h.mean(axis=1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-6)


def softmax(a):
    e = np.exp(a - a.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def summary(shared, x, label):
    """(e, s) of examples none of which is padding, one attention head after another."""
    h = layer(shared["embed"], np.concatenate([x, label[:, None]], axis=1))
    for i in range(2):
        block = shared["blocks"][str(i)]
        q, k, v = np.split(layer(block["qkv"], normal(h)), 3, axis=1)
        heads_ = [softmax(np.outer(q[:, j], k[:, j])) @ v[:, j] for j in range(4)]  # 4 heads, 1 wide
        h = h + layer(block["out"], np.stack(heads_, axis=1))
        up = layer(block["up"], normal(h))
        gelu = 0.5 * up * (1 + np.tanh(np.sqrt(2 / np.pi) * (up + 0.044715 * up**3)))
        h = h + layer(block["down"], gelu)
    e = h.mean(axis=0)
    return e, np.maximum(layer(shared["encode"], e), 0)


def test_alpha_is_the_softmax_over_the_three_largest(shared, encode):
    one = context()
    _, s = summary(shared, one.x, one.label)
    route = layer(shared["route"], s)
    expected = np.zeros(7)
    best = np.argsort(-route)[:3]
    expected[best] = softmax(route[best])
    np.testing.assert_allclose(encode(one), expected, atol=1e-5)


def test_the_score_mixes_the_facets(shared):
    alpha = np.array([0, 0.5, 0, 0.3, 0, 0, 0.2], np.float32)
    x = context().x[0]
    psi = jax.tree.map(np.asarray, shared["psi"])
    out = np.einsum(
        "fhk,fh->fk", psi["w2"], np.tanh(np.einsum("dfh,d->fh", psi["w1"].transpose(1, 0, 2), x) + psi["b1"])
    )
    out = out + psi["b2"]
    expected = alpha @ (out[:, 1] - out[:, 0])
    np.testing.assert_allclose(FAMILY.score(shared, {"alpha": alpha}, jnp.asarray(x)), expected, rtol=1e-4)


def test_the_penalty_is_the_reconstruction_and_the_size_of_the_code(shared):
    one = context()
    e, s = summary(shared, one.x, one.label)
    expected = 0.5 * (((layer(shared["decode"], s) - e) ** 2).mean() + 8.6e-4 * np.abs(s).sum())
    got = jax.jit(lambda c: FAMILY.penalty(shared, {}, c, c))(one)
    np.testing.assert_allclose(got, expected, rtol=1e-4)


def test_the_order_of_a_context_does_not_matter_and_labels_do(encode):
    one = context()
    order = np.array([3, 0, 4, 1, 2])
    shuffled = heads.Context(x=one.x[order], label=one.label[order], mask=one.mask[order])
    np.testing.assert_allclose(encode(shuffled), encode(one), atol=1e-5)
    assert np.abs(encode(one.replace(label=1 - one.label)) - encode(one)).max() > 1e-3


def test_a_mask_hides(encode):
    one, other = context(mask=(1, 1, 0, 1, 0)), context(seed=1)
    hidden = np.where(one.mask[:, None], one.x, other.x)
    changed = one.replace(x=hidden, label=np.where(one.mask, one.label, 1 - one.label))
    np.testing.assert_array_equal(encode(changed), encode(one))
    assert np.abs(encode(one.replace(mask=np.ones(C, bool))) - encode(one)).max() > 1e-3


def test_an_empty_context_is_the_generic_user(shared, encode):
    nobody = context(mask=(0, 0, 0, 0, 0))
    np.testing.assert_array_equal(encode(nobody), jax.jit(FAMILY.generic)(shared)["alpha"])
    route = layer(shared["route"], np.maximum(np.asarray(shared["encode"]["b"]), 0))
    expected = np.zeros(7)
    best = np.argsort(-route)[:3]
    expected[best] = softmax(route[best])
    np.testing.assert_allclose(encode(nobody), expected, atol=1e-5)
