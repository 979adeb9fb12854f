"""Users whose taste shows only in words that the features of a frozen base blur.

A text is `SAID` words that nobody minds and one that is liked or disliked, each word by a meaning of `K` numbers and
each user by a taste of so many. The frozen base is a small BERT with random weights: its mean over tokens has fewer
dimensions than there are words, so that what is minded drowns in what is not.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from hydrajax.nn import encode, tokens
from hydrajax.nn.bases import bert, blocks
from hydrajax.training.examples import Examples

K, MINDED, SAID, OTHERS = 2, 24, 9, 60  # OTHERS: words that nobody minds
CONFIG = bert.Config(
    vocab_size=2 + MINDED + OTHERS,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=32,
    max_position_embeddings=16,
    type_vocab_size=2,
    layer_norm_eps=1e-12,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
)


def base(compute: blocks.Compute = blocks.Compute()) -> encode.Base:  # noqa: B008 (frozen)
    """The base; it has no tokenizer."""
    module = bert.Encoder(CONFIG, compute)
    ids = jnp.zeros((1, 4), jnp.int32)
    params = module.init(jax.random.key(0), ids, ids, ids == 0)["params"]
    return encode.Base(
        name="small", module=module, params=params, tokenizer=None, dim=16, pooling="mean", digest="small"
    )


def texts(users: range, each: int, *, seed: int = 0) -> Examples:
    """Examples with tokens; a user's tastes do not depend on the seed, pools are single examples."""
    meanings = np.random.default_rng(7).normal(size=(MINDED, K))
    columns: dict[str, list] = {"user": [], "score": [], "ids": []}
    for place, user in enumerate(users):
        taste, rng = np.random.default_rng([8, user]).normal(size=K), np.random.default_rng([seed, user])
        for _ in range(each):
            word = rng.integers(MINDED)
            said = [*(2 + MINDED + rng.integers(0, OTHERS, SAID)), 2 + word]
            columns["ids"].append([1, *rng.permutation(said).tolist()])
            columns["user"].append(place)
            columns["score"].append(meanings[word] @ taste)
    score = np.array(columns["score"], np.float32)
    encodings = [tokens.Encoding(tuple(ids), (0,) * len(ids)) for ids in columns["ids"]]
    n = len(score)
    return Examples(
        user=np.array(columns["user"], np.int32),
        x=tokens.pack(encodings, 16),
        extras=np.zeros((n, 0), np.float32),
        label=score > 0,
        score=score,
        pool=np.arange(n),
    )


def encoded(base: encode.Base, examples: Examples) -> Examples:
    """The same with features."""
    return dataclasses.replace(examples, x=encode.token_features(base, examples.x))
