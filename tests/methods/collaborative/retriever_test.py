import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from hydrajax.methods.collaborative import retriever
from hydrajax.prompting.collaboration import Candidates
from hydrajax.types import Query

WEIGHT = 0.1


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def found(rng, width=4, count=6):
    """A question, its user and candidates."""
    query = Query(id="q", user_id="u", inputs={"text": "?"})
    q, u, p = (unit(rng.normal(size=shape)) for shape in ((width,), (width,), (count, width)))
    return Candidates(query=query, user=u, question=q, records=(), features=p, scores=np.zeros(count))


@pytest.fixture
def tried():
    """Only the first dimension says which record helps; questions are alike in it, and the others mislead."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(24):
        one = found(rng)
        one = dataclasses.replace(one, question=unit(one.question * [0, 1, 1, 1] + [0.7, 0, 0, 0]))
        made.append((one, (one.features[:, 0] > 0.2).astype(float)))
    return made


def scored(made, one):
    direction = WEIGHT * made.liked(one.user[None])[0] + (1 - WEIGHT) * made.texts(one.question[None])[0]
    return made.texts(one.features) @ direction


def divergence(tried, made):
    def softmax(x):
        return np.exp(x) / np.exp(x).sum()

    parts = [(softmax(quality), softmax(scored(made, one))) for one, quality in tried]
    return np.mean([np.sum(p * np.log(p / s)) for p, s in parts])


def test_the_divergence_is_that_of_the_softmax_of_the_candidates_that_there_are():
    s, quality = np.array([0.3, -0.2, 0.9, 5.0]), np.array([1.0, 0.0, 0.5, 7.0])
    mask = np.array([True, True, True, False])
    p, t = (np.exp(x[:3]) / np.exp(x[:3]).sum() for x in (s, quality))
    given = (jnp.asarray(x, jnp.float32) for x in (s, quality))
    np.testing.assert_allclose(retriever.divergence(*given, jnp.asarray(mask)), np.sum(t * np.log(t / p)), rtol=1e-5)


def test_what_is_fitted_is_what_finds():
    rng = np.random.default_rng(1)
    made, one = retriever.Retriever(text=rng.normal(size=(4, 4)), user=rng.normal(size=(4, 4))), found(rng)
    maps = {"text": jnp.asarray(made.text, jnp.float32), "user": jnp.asarray(made.user, jnp.float32)}
    given = (jnp.asarray(x, jnp.float32) for x in (one.question, one.user, one.features, WEIGHT))
    np.testing.assert_allclose(retriever.scores(maps, *given), scored(made, one), atol=1e-5)
    np.testing.assert_allclose(scored(retriever.untaught(4), one), one.features @ (0.1 * one.user + 0.9 * one.question))


def test_it_learns_to_find_what_helped(tried):
    before = retriever.untaught(4)
    after = retriever.fit(tried, width=4, weight=WEIGHT, epochs=30, rate=1e-2)
    assert divergence(tried, after) < 0.7 * divergence(tried, before)

    def helped(made):
        return np.mean([quality[np.argmax(scored(made, one))] for one, quality in tried])

    assert helped(after) > helped(before) + 0.3


def test_one_epoch_is_so_many_updates_whose_rate_falls(tried):
    """Six updates of Adam, each at most its rate: 1, 5/6, ... of the first."""
    made = retriever.fit(tried, width=4, weight=WEIGHT, epochs=1)
    rates = retriever.RATE * np.arange(6, 0, -1) / 6
    assert 0 < np.abs(made.text - np.eye(4)).max() <= 1.05 * rates.sum()
    assert divergence(tried, made) < divergence(tried, retriever.untaught(4))


def test_what_helps_alike_teaches_nothing(tried):
    same = [(one, np.ones(len(quality))) for one, quality in tried]
    for nothing in ([], same):
        made = retriever.fit(nothing, width=4, weight=WEIGHT)
        np.testing.assert_array_equal(made.text, np.eye(4))
        np.testing.assert_array_equal(made.user, np.eye(4))
    few = retriever.fit(tried[:4], width=4, weight=WEIGHT)
    np.testing.assert_allclose(retriever.fit([*same, *tried[:4]], width=4, weight=WEIGHT).text, few.text)
