import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hydrajax.nn import bert

CONFIG = bert.Config(
    vocab_size=30,
    hidden_size=8,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=16,
    max_position_embeddings=12,
    type_vocab_size=2,
    layer_norm_eps=1e-12,
    hidden_dropout_prob=0.5,
)


@pytest.fixture(scope="module")
def model():
    module = bert.Bert(CONFIG)
    ids = jnp.zeros((1, 4), jnp.int32)
    shapes = jax.eval_shape(module.init, jax.random.key(0), ids, ids, ids == 0)["params"]
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)
    return jax.jit(module.apply, static_argnames="train"), params


def inputs():
    t = 6
    rng = np.random.default_rng(0)
    mask = jnp.asarray(np.arange(t)[None] < np.array([t, 3, 1])[:, None])
    return jnp.asarray(rng.integers(0, 30, (3, t)), jnp.int32), jnp.zeros((3, t), jnp.int32), mask


def test_attention_is_softmax_of_the_scaled_products():
    rng = np.random.default_rng(0)
    qkv = rng.normal(size=(1, 4, 24)).astype(np.float32)
    mask = np.array([[True, True, True, False]])
    q, k, v = (qkv[0, :, i * 8 : (i + 1) * 8].reshape(4, 2, 4) for i in range(3))
    expected = np.zeros((4, 2, 4))
    for h in range(2):
        logits = q[:, h] @ k[:, h].T / np.sqrt(4)
        weights = np.exp(logits) * mask[0]
        expected[:, h] = weights / weights.sum(axis=1, keepdims=True) @ v[:, h]
    got = jax.jit(bert.attend, static_argnums=2)(qkv, mask, 2)
    np.testing.assert_allclose(got[0], expected.reshape(4, 8), atol=1e-6)


def test_attention_holds_for_logits_that_overflow_an_exponential():
    qkv = jnp.full((1, 2, 6), 100.0).at[:, 1].set(-100.0)
    assert jnp.isfinite(jax.jit(bert.attend, static_argnums=2)(qkv, jnp.ones((1, 2), bool), 1)).all()


def test_what_the_mask_hides_does_not_change_a_text(model):
    apply, params = model
    ids, types, mask = inputs()
    other = jnp.where(mask, ids, (ids + 7) % 30)
    a = apply({"params": params}, ids, types, mask)
    b = apply({"params": params}, other, types, mask)
    assert not np.array_equal(np.where(mask, 0, ids), np.where(mask, 0, other))
    np.testing.assert_array_equal(np.where(mask[..., None], a, 0), np.where(mask[..., None], b, 0))


def test_texts_do_not_see_each_other(model):
    apply, params = model
    ids, types, mask = inputs()
    together = apply({"params": params}, ids, types, mask)
    alone = apply({"params": params}, *(jnp.stack([leaf[1]] * 3) for leaf in (ids, types, mask)))
    np.testing.assert_allclose(together[1, :3], alone[0, :3], atol=1e-6)


def test_position_and_type_count(model):
    apply, params = model
    ids, types, mask = inputs()
    mask = mask | True
    a = apply({"params": params}, ids, types, mask)
    assert not np.allclose(a, apply({"params": params}, ids, types + 1, mask), atol=1e-3)
    backwards = apply({"params": params}, ids[:, ::-1], types, mask)
    assert not np.allclose(a, backwards[:, ::-1], atol=1e-3)


def test_a_text_without_tokens_is_finite_and_so_is_its_gradient(model):
    apply, params = model
    ids, types, _ = inputs()
    mask = jnp.zeros(ids.shape, bool)

    def total(params):
        return jnp.sum(apply({"params": params}, ids, types, mask) ** 2)

    value, grads = jax.jit(jax.value_and_grad(total))(params)
    assert jnp.isfinite(value)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


def test_dropout_is_off_unless_training(model):
    apply, params = model
    args = inputs()
    a = apply({"params": params}, *args)
    np.testing.assert_array_equal(a, apply({"params": params}, *args, rngs={"dropout": jax.random.key(1)}))
    dropped = apply({"params": params}, *args, train=True, rngs={"dropout": jax.random.key(1)})
    assert not np.allclose(a, dropped, atol=1e-2)
