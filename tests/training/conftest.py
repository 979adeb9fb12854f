import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hydrajax.nn import encode, tokens
from hydrajax.nn.bases import bert
from hydrajax.training import losses
from hydrajax.training.examples import Batch, Examples

D, X = 5, 2


def make_examples(sizes, seed=0, pool_size=4, d=D):
    """Examples of users with so many rows each; every user likes another direction."""
    users = []
    for u, n in enumerate(sizes):
        rng = np.random.default_rng([seed, u])  # a user's rows do not depend on who else there is
        taste, x = rng.normal(size=d), rng.normal(size=(n, d))
        score = x @ taste
        pool = 1000 * u + np.arange(n) // pool_size
        users.append((np.full(n, u), x, rng.normal(size=(n, X)), score > 0, score, pool))
    user, x, extras, label, score, pool = (np.concatenate(parts) for parts in zip(*users, strict=True))
    return Examples(user=user, x=x, extras=extras, label=label, score=score, pool=pool)


def make_batch(rows, size=6, seed=0, pull=0.0, slots=4, capacity=6):
    """A batch with random features for users at these rows; the last example of each is padding, and so are the slots
    behind the last user."""
    rng = np.random.default_rng(seed)
    rows = [*rows, *[capacity] * (slots - len(rows))]
    u = len(rows)
    score = rng.normal(size=(u, size))
    mask = np.ones((u, size), bool)
    mask[:, -1] = False
    return Batch(
        rows=np.array(rows, np.int32),
        x=rng.normal(size=(u, size, D)).astype(np.float32),
        extras=rng.normal(size=(u, size, X)).astype(np.float32),
        targets=losses.Targets(
            label=(score > 0).astype(np.float32),
            score=score.astype(np.float32),
            pool=np.tile(np.arange(size, dtype=np.int32) // 3, (u, 1)),
            mask=mask,
        ),
        pull=np.full(u, pull, np.float32),
    )


def edited(array, index, value):
    """The array with a part replaced."""
    array = np.array(array)
    array[index] = value
    return array


def assert_trees(check, a, b):
    jax.tree.map(lambda x, y: check(_array(x), _array(y)), a, b)
    assert jax.tree.structure(a) == jax.tree.structure(b)


def assert_equal(a, b):
    assert_trees(np.testing.assert_array_equal, a, b)


def assert_close(a, b, atol=1e-6):
    assert_trees(lambda x, y: np.testing.assert_allclose(x, y, atol=atol), a, b)


def _array(leaf):
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return np.asarray(jax.random.key_data(leaf))
    return np.asarray(leaf)


@pytest.fixture
def tiny_base():
    return make_base()


def make_base():
    """A base of one layer with random weights; it has no tokenizer."""
    config = bert.Config(
        vocab_size=20,
        hidden_size=D - 1,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=4,
        max_position_embeddings=32,
        type_vocab_size=2,
        layer_norm_eps=1e-12,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    module = bert.Encoder(config)
    ids = jnp.zeros((1, 4), jnp.int32)
    shapes = jax.eval_shape(module.init, jax.random.key(0), ids, ids, ids == 0)["params"]
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) * 0.3, jnp.float32), shapes)
    return encode.Base(
        name="tiny", module=module, params=params, tokenizer=None, dim=D - 1, pooling="mean", digest="tiny"
    )


def make_tokens(n, seed=0):
    """Random texts of 3 to 30 tokens."""
    rng = np.random.default_rng(seed)
    encodings = [
        tokens.Encoding(tuple(rng.integers(0, 20, length).tolist()), (0,) * length) for length in rng.integers(3, 30, n)
    ]
    return tokens.pack(encodings, 32)


def only(examples, keep, rename=None):
    arrays = {name: array[keep] for name, array in vars(examples).items()}
    if rename is not None:
        arrays["user"] = np.array([rename[u] for u in arrays["user"]], np.int32)
    return Examples(**arrays)


def head(users, row):
    return jax.tree.map(lambda leaf: leaf[row], users)
