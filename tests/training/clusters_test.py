import numpy as np

from hydrajax.training import loop

CENTRES = 10.0 * np.eye(3, 6)


def profile(counts, seed=0):
    """Pools of three examples each around the centres, so many around each, shuffled: (x, pool, centre of each row)."""
    rng = np.random.default_rng(seed)
    of_pool = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    centre = np.repeat(of_pool, 3)
    x = (CENTRES[centre] + rng.normal(size=(len(centre), 6))).astype(np.float32)
    return x, np.repeat(np.arange(len(of_pool)), 3), centre


def test_pools_around_one_centre_are_one_cluster():
    x, pool, centre = profile((20, 4, 2))
    found = loop.clusters_of_pools(x, np.zeros(len(x), int), pool, 3, seed=0)
    for number in range(3):
        assert len(np.unique(found[centre == number])) == 1
    assert len(np.unique(found)) == 3


def test_each_users_clusters_are_of_the_own_pools_alone():
    x, pool, _ = profile((9, 5, 3))
    user = np.zeros(len(x), int)
    alone = loop.clusters_of_pools(x, user, pool, 3, seed=4)
    both = loop.clusters_of_pools(
        np.concatenate([x, x[::-1]]), np.concatenate([user, user + 1]), np.concatenate([pool, pool + 100]), 3, seed=4
    )
    np.testing.assert_array_equal(both[: len(x)], alone)


def test_few_pools_are_clusters_of_their_own_and_equal_ones_are_fewer():
    x, pool, _ = profile((2, 1, 1))
    assert len(np.unique(loop.clusters_of_pools(x, np.zeros(len(x), int), pool, 10, seed=0))) == 4
    same = loop.clusters_of_pools(np.ones((24, 6), np.float32), np.zeros(24, int), np.arange(24) // 2, 10, seed=0)
    assert len(np.unique(same)) == 1
