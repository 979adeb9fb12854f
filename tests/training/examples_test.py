import dataclasses

import jax
import numpy as np
import pytest

from hydrajax.training.examples import Batch, Examples, chunked
from hydrajax.types import DataError
from tests.training.conftest import D, assert_equal, edited, make_batch, make_examples, make_tokens

GOOD = vars(make_examples((2, 3)))


def test_a_batch_of_arrays_takes_what_is_usual_for_the_rest():
    full = make_batch([1, 4])
    x, label = np.asarray(full.x).tolist(), np.asarray(full.targets.label) > 0.5
    batch = Batch.of([1, 4, 6, 6], x, label)
    shape = label.shape
    assert_equal(batch.x, np.asarray(full.x, np.float32))
    assert batch.extras.shape == (*shape, 0) and batch.targets.mask.all() and not batch.targets.pool.any()
    assert_equal(batch.targets.score, batch.targets.label)
    given = {name: getattr(full.targets, name) for name in ("mask", "score", "pool")}
    again = Batch.of(full.rows, full.x, full.targets.label, **given, extras=full.extras, pull=full.pull)
    assert_equal(again, full)
    texts = jax.tree.map(lambda leaf: leaf.reshape(2, 3, -1), make_tokens(6))
    assert Batch.of([0, 1], texts, np.ones((2, 3))).x is texts


@pytest.mark.parametrize(
    ("rows", "x", "label", "rest", "message"),
    [
        ([1, 2], (2, 4, D), (2, 3), {}, r"x of the batch is \[2, 4, 5\], expected \[2, 3, \.\.\.\]"),
        ([1], (2, 3, D), (2, 3), {}, r"rows are \[1\] and label \[2, 3\], expected \[U\] and \[U, E\]"),
        ([1, 2], (2, 3), (2, 3), {}, r"x of the batch is \[2, 3\], expected"),
        ([1, 2], (2, 3, D), (2, 3), {"pool": [[1, 2]]}, r"targets of the batch is \[1, 2\], expected \[2, 3\]"),
        (
            [1, 2],
            (2, 3, D),
            (2, 3),
            {"pull": [1.0, 1.0, 1.0]},
            r"pull of the batch is \[3\], expected \[2\] or a number",
        ),
    ],
)
def test_a_batch_of_arrays_that_do_not_fit_is_one_sentence(rows, x, label, rest, message):
    with pytest.raises(DataError, match=message):
        Batch.of(rows, np.zeros(x), np.zeros(label), **rest)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": [1.9, 2.2]}, "rows of the batch: float64, expected whole numbers"),
        ({"rows": [1, 2**32 + 3]}, "rows of the batch: 4294967299, expected whole numbers from"),
        ({"rows": np.array([1, 2**31 + 3], np.uint32)}, "rows of the batch: 2147483651"),
        ({"mask": np.full((2, 3), 0.3)}, "mask of the batch: float64 with other values than 0 and 1"),
        ({"pool": np.full((2, 3), 0.5)}, "pool of the batch: float64, expected whole numbers"),
        ({"label": [["a"] * 3] * 2}, "label of the batch: strings, expected numbers"),
        ({"label": [[1], [1, 2]]}, "label of the batch: cannot be made an array"),
    ],
)
def test_numbers_of_a_batch_are_not_rounded_or_wrapped(change, message):
    given = {"rows": [1, 2], "x": np.zeros((2, 3, D)), "label": np.zeros((2, 3))}
    assert Batch.of(**given, mask=np.ones((2, 3))).targets.mask.dtype == bool
    with pytest.raises(DataError, match=message):
        Batch.of(**{**given, **change})


def test_types_are_those_that_training_needs():
    other = {"user": np.array([0, 0, 1, 1, 1]), "label": np.array([True, False, True, True, False])}
    examples = Examples(**{**GOOD, **other})
    assert {name: array.dtype for name, array in vars(examples).items()} == {
        name: np.int32 if name in ("user", "pool") else np.float32 for name in GOOD
    }


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"label": np.zeros(4)}, r"label has shape \[4\], expected \[5\]"),
        ({"extras": np.zeros(5)}, r"extras has shape \[5\], expected \[5, X\]"),
        ({"x": np.zeros((4, 5))}, r"x has shape \[4, 5\], expected \[5, D\]"),
        (
            {"x": np.full((5, 2), np.nan)},
            "x of row 0 has a NaN or an infinity, as 5 of 5 rows have: leave them out, or",
        ),
        (
            {"score": np.array([0, 1, np.nan, np.inf, 0])},
            "score of row 2 has a NaN or an infinity, as 2 of 5 rows have",
        ),
        ({"user": np.array([0, 1, np.nan, 2, 3])}, "user of row 2 has a NaN or an infinity, as 1 of 5"),
        ({"label": np.array([0, 1, 2, 0, 0])}, "label of row 2 is 2.0, expected a number from 0 to 1"),
        ({"user": np.array([0, -1, 0, 0, 0])}, "user of row 1 is -1, expected 0 or more"),
        ({"x": make_tokens(3)}, "x has 3 texts, expected 5"),
    ],
)
def test_faults_are_named(change, says):
    with pytest.raises(DataError, match=says):
        Examples(**{**GOOD, **change})


def test_a_user_beyond_the_last_is_named():
    with pytest.raises(DataError, match="user of row 2 is 1, expected less than 1 users"):
        Examples(**GOOD).check_users(1)


def test_tokens_are_no_features():
    examples = Examples(**{**GOOD, "x": make_tokens(5)})
    with pytest.raises(DataError, match="hold tokens, heads are fitted on features"):
        examples.features
    assert Examples(**GOOD).features is Examples(**GOOD).x


USER = np.array([0, 2, 0, 2, 2, 0, 0, 2, 2, 0, 2, 2], np.int32)  # 5 rows, none, 7 rows
POOL = np.array([0, 5, 0, 5, 5, 1, 1, 6, 6, 1, 7, 7], np.int32)


def rows_of(made, epoch, user):
    part = made.rows[made.start[epoch, user] : made.stop[epoch, user]]
    return [[int(row) for row in chunk if row >= 0] for chunk in part]


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("seed", [None, 3])
def test_every_epoch_has_every_row_of_every_user_once(whole, seed):
    made = chunked(USER, POOL, 3, size=4, epochs=3, seed=seed, whole_pools=whole)
    for epoch in range(3):
        for user in range(3):
            got = sorted(sum(rows_of(made, epoch, user), []))
            assert got == np.flatnonzero(user == USER).tolist()


def test_pools_stay_whole():
    made = chunked(USER, POOL, 3, size=4, epochs=5, seed=0, whole_pools=True)
    for epoch in range(5):
        for user in (0, 2):
            for chunk in rows_of(made, epoch, user):
                for pool in set(POOL[chunk]):
                    assert set(np.flatnonzero(pool == POOL)) <= set(chunk)


def test_a_pool_that_is_larger_than_a_chunk_widens_it():
    made = chunked(np.zeros(7, np.int32), np.zeros(7, np.int32), 1, size=3, whole_pools=True)
    assert made.rows.shape == (1, 7)


def test_equal_numbers_of_different_users_pools_are_different_pools():
    made = chunked(np.array([0, 1]), np.array([4, 4]), 2, size=1, whole_pools=True)
    assert rows_of(made, 0, 0) == [[0]]
    assert rows_of(made, 0, 1) == [[1]]


def test_chunks_of_a_user_are_about_equal():
    made = chunked(np.zeros(33, np.int32), np.zeros(33, np.int32), 1, size=32)
    assert sorted(len(chunk) for chunk in rows_of(made, 0, 0)) == [16, 17]


def test_the_order_is_the_users_own():
    alone = chunked(USER[USER == 2], POOL[USER == 2], 3, size=2, epochs=2, seed=1)
    among = chunked(USER, POOL, 3, size=2, epochs=2, seed=1)
    own = np.flatnonzero(USER == 2)
    for epoch in range(2):
        assert [own[c].tolist() for c in rows_of(alone, epoch, 2)] == rows_of(among, epoch, 2)
    assert rows_of(among, 0, 2) != rows_of(among, 1, 2)
    assert rows_of(among, 0, 2) != rows_of(chunked(USER, POOL, 3, size=2, epochs=2, seed=2), 0, 2)


def test_no_rows_make_no_chunks():
    made = chunked(USER[:0], POOL[:0], 2, size=4, whole_pools=True)
    assert made.rows.shape == (0, 4)
    assert (made.start == made.stop).all()


def test_examples_of_other_users_are_left_out():
    others = np.where(USER == 2, 3, USER)
    assert_chunks = chunked(others, POOL, 3, size=4, seed=1)
    assert (assert_chunks.start == assert_chunks.stop)[:, 1:].all()
    assert rows_of(assert_chunks, 0, 0) == rows_of(chunked(USER, POOL, 3, size=4, seed=1), 0, 0)


def test_a_pool_of_two_users_is_refused():
    good = make_examples([3, 4])
    pool = edited(good.pool, 5, good.pool[1])
    with pytest.raises(DataError, match=f"rows 2 and 5 are of users 0 and 1 and of one pool, {pool[1]}"):
        dataclasses.replace(good, pool=pool)


def test_pools_are_drawn_in_rounds_of_one_of_each_cluster():
    """Of a cluster of 8 pools, one of 3 and one of 1, a chunk of 5 pools holds 2, 2 and 1."""
    user, pool = np.zeros(24, int), np.repeat(np.arange(12), 2)
    cluster = np.repeat([0] * 8 + [1] * 3 + [2], 2)
    made = chunked(user, pool, 1, size=10, epochs=20, seed=0, whole_pools=True, cluster=cluster)
    np.testing.assert_array_equal(made.stop - made.start, 1)
    for rows in made.rows:
        assert np.unique(pool[rows]).size == 5
        np.testing.assert_array_equal(np.bincount(cluster[rows]), [4, 4, 2])
    assert set(made.rows.ravel()) == set(range(24))  # others in every epoch
    again = chunked(user, pool, 1, size=10, epochs=20, seed=0, whole_pools=True, cluster=cluster)
    np.testing.assert_array_equal(again.rows, made.rows)


def test_who_fits_into_a_chunk_is_in_it_whole():
    made = chunked(USER, POOL, 3, size=len(USER), seed=0, whole_pools=True, cluster=np.zeros(len(USER), int))
    for u in range(3):
        for chunk in range(made.start[0, u], made.stop[0, u]):
            rows = made.rows[chunk][made.rows[chunk] >= 0]
            np.testing.assert_array_equal(np.sort(rows), np.flatnonzero(np.asarray(USER) == u))
