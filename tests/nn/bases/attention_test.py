"""Attention in its forms, against the formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hydrajax.nn.bases import attention, blocks
from hydrajax.types import DataError

pytestmark = pytest.mark.slow

B, H, D = 2, 2, 4


def drawn(t, seed=0):
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.normal(size=(B, H, t, D)), jnp.float32) for _ in range(3)]


def formula(q, k, v, keep, bias=0.0):
    """softmax(q k' / sqrt(h) + bias) v over what is kept [B, T, T]; zeros where nothing is."""
    logits = np.einsum("bhqd,bhkd->bhqk", q, k).astype(np.float64) / np.sqrt(D) + bias
    weights = np.exp(logits) * np.asarray(keep)[:, None]
    total = weights.sum(axis=-1, keepdims=True)
    return np.einsum("bhqk,bhkd->bhqd", weights / np.where(total > 0, total, 1.0), v)


def rows(t, packed):
    """A layout, and which token may see which [B, T, T]."""
    if packed:
        segments = np.array([[1] * 5 + [2] * (t - 7) + [0] * 2, [1] * (t - 3) + [2] * 3])
        positions = np.array([[sum(row[:i] == row[i]) for i in range(t)] for row in segments], np.int32)
    else:
        segments = (np.arange(t)[None] < np.array([t, t // 2])[:, None]).astype(int)
        positions = np.tile(np.arange(t, dtype=np.int32), (B, 1))
    mask = segments > 0
    keep = (segments[:, :, None] == segments[:, None, :]) & mask[:, None, :]
    where = attention.Layout(
        mask=jnp.asarray(mask),
        positions=jnp.asarray(positions),
        segments=jnp.asarray(segments, jnp.int32) if packed else None,
    )
    return where, keep if packed else np.broadcast_to(mask[:, None, :], keep.shape), mask


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("form", ["at once", "in groups", "fused"])
@pytest.mark.parametrize("window", [None, 3])
def test_attention_is_the_softmax_of_the_scaled_products(packed, form, window, monkeypatch):
    monkeypatch.setattr(attention, "LOGIT_BYTES", 4 * 144 if form == "in groups" else 2**20)
    t, fused = 12, form == "fused"
    q, k, v = drawn(t)
    where, keep, mask = rows(t, packed)
    bias = jnp.asarray(np.random.default_rng(1).normal(size=(1, H, t, t)), jnp.float32)
    near = np.abs(np.arange(t)[:, None] - np.arange(t)[None]) <= (t if window is None else window)
    got = jax.jit(lambda *x: attention.attend(*x, where, bias=bias, window=window, fused=fused))(q, k, v)
    plain = jax.jit(lambda *x: attention.attend(*x, where, window=window, fused=fused))(q, k, v)
    expected = formula(q, k, v, keep & near)
    np.testing.assert_allclose(np.moveaxis(plain, 2, 1)[mask], np.moveaxis(expected, 2, 1)[mask], atol=1e-5)
    expected = formula(q, k, v, keep & near, np.asarray(bias))
    np.testing.assert_allclose(np.moveaxis(got, 2, 1)[mask], np.moveaxis(expected, 2, 1)[mask], atol=1e-5)


@pytest.mark.parametrize("t", [9, 16, 23])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("leads", [False, True])
@pytest.mark.parametrize("groups", [False, True])
def test_attention_to_what_is_near_is_that_with_a_window(t, packed, leads, groups, monkeypatch):
    """For lengths that are and are not multiples of the window; with leads, each text's first token is seen by all."""
    window = 2
    monkeypatch.setattr(attention, "LOGIT_BYTES", 48 if groups else 2**20)
    q, k, v = drawn(t)
    where, keep, mask = rows(t, packed)
    near = np.abs(np.arange(t)[:, None] - np.arange(t)[None]) <= window
    if leads:
        first = np.asarray(where.mask & (where.positions == 0))
        places = np.sort(np.where(first, np.arange(t), t), axis=1)[:, :2].astype(np.int32)
        where = attention.Layout(
            mask=where.mask, positions=where.positions, segments=where.segments, leads=jnp.asarray(places)
        )
        near = near[None] | first[:, None, :]
    expected = formula(q, k, v, keep & near)
    for compute in (
        attention.attend,
        attention.attend_nearby,
        jax.jit(attention.attend_nearby, static_argnames="window"),
    ):
        got = compute(q, k, v, where, window=window)
        np.testing.assert_allclose(np.moveaxis(got, 2, 1)[mask], np.moveaxis(expected, 2, 1)[mask], atol=1e-5)


@pytest.mark.parametrize("form", ["near", "in groups", "in groups with a bias"])
def test_the_gradient_is_that_of_the_dense_form(form, monkeypatch):
    t, window = 11, 2
    q, k, v = drawn(t)
    where, _, mask = rows(t, False)
    weight = jnp.asarray(np.random.default_rng(2).normal(size=(B, 1, t, D)) * mask[:, None, :, None], jnp.float32)

    bias = jnp.asarray(np.random.default_rng(3).normal(size=(1, H, t, t)), jnp.float32)

    def total(x, attend):
        more = {"bias": bias} if form.endswith("bias") else {}
        return jnp.sum(attend(*x, where, window=window, **more) * weight)

    grads = [jax.grad(total)((q, k, v), attention.attend)]
    monkeypatch.setattr(attention, "LOGIT_BYTES", 4 * t * t)
    assert attention._heads_at_once(q, 4 * t * t) == 1
    grads.append(jax.grad(total)((q, k, v), attention.attend_nearby if form == "near" else attention.attend))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), *grads)


def test_the_blocks_need_memory_linear_in_the_length():
    """Bytes of intermediate results, as the compiler plans them."""

    def planned(t):
        shapes = [jax.ShapeDtypeStruct((1, 1, t, D), jnp.float32)] * 3
        where = attention.Layout(
            mask=jax.ShapeDtypeStruct((1, t), jnp.bool_), positions=jax.ShapeDtypeStruct((1, t), jnp.int32)
        )
        grad = jax.grad(
            lambda q, k, v, where: jnp.sum(attention.attend_nearby(q, k, v, where, window=16) ** 2), (0, 1, 2)
        )
        return jax.jit(grad).lower(*shapes, where).compile().memory_analysis().temp_size_in_bytes

    assert planned(4096) < 4.4 * planned(1024)


@pytest.mark.parametrize("fused", [False, True])
def test_attention_holds_for_logits_that_overflow_an_exponential_and_for_nobody_to_see(fused):
    where = attention.Layout(mask=jnp.array([[True, True], [False, False]]), positions=jnp.zeros((2, 2), jnp.int32))
    q = jnp.full((2, 1, 2, 3), 300.0)
    value, grad = jax.value_and_grad(lambda q: jnp.sum(attention.attend(q, -q, q, where, fused=fused)))(q)
    assert jnp.isfinite(value) and jnp.isfinite(grad).all()
    np.testing.assert_array_equal(attention.attend(q, q, q, where, fused=fused)[1], 0.0)


def test_settings_are_checked():
    with pytest.raises(DataError, match="dtype is 'float16', expected one of float32, bfloat16"):
        blocks.Compute(dtype="float16")
