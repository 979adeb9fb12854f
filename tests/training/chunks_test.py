import numpy as np
import pytest

from hydrajax.training import chunks

USER = np.array([0, 2, 0, 2, 2, 0, 0, 2, 2, 0, 2, 2], np.int32)  # 5 rows, none, 7 rows
POOL = np.array([0, 5, 0, 5, 5, 1, 1, 6, 6, 1, 7, 7], np.int32)


def rows_of(made, epoch, user):
    part = made.rows[made.start[epoch, user] : made.stop[epoch, user]]
    return [[int(row) for row in chunk if row >= 0] for chunk in part]


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("seed", [None, 3])
def test_every_epoch_has_every_row_of_every_user_once(whole, seed):
    made = chunks.make(USER, POOL, 3, size=4, epochs=3, seed=seed, whole_pools=whole)
    for epoch in range(3):
        for user in range(3):
            got = sorted(sum(rows_of(made, epoch, user), []))
            assert got == np.flatnonzero(user == USER).tolist()


def test_pools_stay_whole():
    made = chunks.make(USER, POOL, 3, size=4, epochs=5, seed=0, whole_pools=True)
    for epoch in range(5):
        for user in (0, 2):
            for chunk in rows_of(made, epoch, user):
                for pool in set(POOL[chunk]):
                    assert set(np.flatnonzero(pool == POOL)) <= set(chunk)


def test_a_pool_that_is_larger_than_a_chunk_widens_it():
    made = chunks.make(np.zeros(7, np.int32), np.zeros(7, np.int32), 1, size=3, whole_pools=True)
    assert made.rows.shape == (1, 7)


def test_equal_numbers_of_different_users_pools_are_different_pools():
    made = chunks.make(np.array([0, 1]), np.array([4, 4]), 2, size=1, whole_pools=True)
    assert rows_of(made, 0, 0) == [[0]]
    assert rows_of(made, 0, 1) == [[1]]


def test_chunks_of_a_user_are_about_equal():
    made = chunks.make(np.zeros(33, np.int32), np.zeros(33, np.int32), 1, size=32)
    assert sorted(len(chunk) for chunk in rows_of(made, 0, 0)) == [16, 17]


def test_the_order_is_the_users_own():
    alone = chunks.make(USER[USER == 2], POOL[USER == 2], 3, size=2, epochs=2, seed=1)
    among = chunks.make(USER, POOL, 3, size=2, epochs=2, seed=1)
    own = np.flatnonzero(USER == 2)
    for epoch in range(2):
        assert [own[c].tolist() for c in rows_of(alone, epoch, 2)] == rows_of(among, epoch, 2)
    assert rows_of(among, 0, 2) != rows_of(among, 1, 2)
    assert rows_of(among, 0, 2) != rows_of(chunks.make(USER, POOL, 3, size=2, epochs=2, seed=2), 0, 2)


def test_no_rows_make_no_chunks():
    made = chunks.make(USER[:0], POOL[:0], 2, size=4, whole_pools=True)
    assert made.rows.shape == (0, 4)
    assert (made.start == made.stop).all()
