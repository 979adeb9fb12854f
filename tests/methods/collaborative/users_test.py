import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hydrajax.methods.collaborative import users


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def people(count, records, width=8, seed=0):
    """Users who differ in taste, and whose records have a direction in common."""
    rng = np.random.default_rng(seed)
    common = np.eye(width)[0] * 4
    tastes = 1.5 * rng.normal(size=(count, width))
    return [unit(common + taste + 0.5 * rng.normal(size=(records, width))) for taste in tastes]


@pytest.fixture(scope="module")
def params():
    return users.init(jax.random.key(0), 8)


def test_views_cut_out_hide_and_reorder_as_large_a_share_as_the_paper():
    rng, records, hidden = np.random.default_rng(0), np.arange(100, 110), 999
    seen = [users.view(records, hidden, rng) for _ in range(200)]
    cut = [view for view in seen if len(view) < 10]
    assert all(np.array_equal(view, np.arange(view[0], view[0] + 7)) for view in cut)
    whole = [view for view in seen if len(view) == 10]
    hides = [view for view in whole if hidden in view]
    assert all((view == hidden).sum() == 3 and np.all((view == hidden) | (view == records)) for view in hides)
    orders = [view for view in whole if hidden not in view]
    assert all(sorted(view) == records.tolist() for view in orders)
    moved = [np.flatnonzero(view != records) for view in orders]
    assert max(map(len, moved)) == 3 and all(len(places) == 0 or np.ptp(places) < 3 for places in moved)
    assert all(len(part) > 40 for part in (cut, hides, orders))
    assert users.view(records[:1], hidden, rng) == [100]


def test_contrast_is_the_cross_entropy_of_the_other_view_among_all_others():
    z = unit(np.random.default_rng(0).normal(size=(2, 3, 4)))
    both = z.reshape(6, 4)
    expected = 0.0
    for i in range(6):
        likeness = np.exp(both @ both[i] / users.TEMPERATURE)
        expected -= np.log(likeness[(i + 3) % 6] / (likeness.sum() - likeness[i])) / 6
    np.testing.assert_allclose(users.contrast(jnp.asarray(z, jnp.float32)), expected, rtol=1e-5)


def test_a_user_is_of_length_one_and_made_of_the_own_newest_records_alone(params):
    features = [of_user[: 1 + 3 * i] for i, of_user in enumerate(people(5, 20))]
    together = users.encode(params, features)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(users.encode(params, features[::-1])[::-1], together, atol=1e-6)
    for i in (0, 4):
        np.testing.assert_allclose(users.encode(params, [features[i]])[0], together[i], atol=1e-6)
    (many,) = people(1, users.MOST_RECORDS + 9)
    found = users.encode(params, [many, many[9:], many[:-9]])
    np.testing.assert_array_equal(found[0], found[1])
    assert np.abs(found[0] - found[2]).max() > 1e-3
    assert users.encode(params, []).shape == (0, 8)


def test_contrast_sets_users_apart_who_have_much_in_common():
    """Of users who were not learned from, halves of one profile stay alike, and those of two become less so."""
    profiles = people(16, 12, seed=1)
    first, second = [of_user[:6] for of_user in profiles], [of_user[6:] for of_user in profiles]

    def likeness(a, b):
        """Of a user's own halves, and of halves of two users."""
        found = np.array(a) @ np.array(b).T
        return np.mean(np.diag(found)), np.mean(found[~np.eye(len(found), dtype=bool)])

    own, others = likeness([unit(x.mean(axis=0)) for x in first], [unit(x.mean(axis=0)) for x in second])
    learned = users.fit(people(40, 6, seed=2), updates=60)
    own_learned, others_learned = likeness(users.encode(learned, first), users.encode(learned, second))
    assert own > others > 0.5 and others_learned < 0.5 * others and own_learned > 0.8 * own
    few = [users.fit(people(40, 6, seed=2), updates=2) for _ in range(2)]
    jax.tree.map(np.testing.assert_array_equal, *few)


def test_nobody_to_tell_apart_teaches_nothing():
    assert users.fit(people(1, 4)) is None and users.fit([]) is None
