"""What a user's pools are about, as clusters of their features: what is drawn of a profile is drawn of all of it.

Cluster-based sampling of MoF (arXiv 2610.08330, section 3.3): k-means over the features of a user's records.
"""

import warnings

import numpy as np
from jaxtyping import Float, Integer


def of_pools(
    x: Float[np.ndarray, "N D"],
    user: Integer[np.ndarray, " N"],
    pool: Integer[np.ndarray, " N"],
    count: int,
    *,
    seed: int,
) -> Integer[np.ndarray, " N"]:
    """The cluster of each example's pool among those of its user.

    Args:
      x: features; a pool is at the mean of its examples.
      user: of each example.
      pool: of each example, of one user each.
      count: most clusters of a user.
      seed: of k-means, with the user's number.
    """
    # Imported where it is needed: it takes as long as all of this package.
    from sklearn import cluster

    found = np.zeros(len(pool), np.int32)
    for number in np.unique(user):
        rows = np.flatnonzero(user == number)
        pools, place = np.unique(pool[rows], return_inverse=True)
        centres = np.zeros((len(pools), x.shape[1]), np.float32)
        np.add.at(centres, place, x[rows])
        centres /= np.bincount(place)[:, None]
        if len(pools) <= count:
            found[rows] = place
            continue
        draw = int(np.random.default_rng([seed, number]).integers(2**31))
        with warnings.catch_warnings():
            # Fewer different pools than clusters make fewer clusters.
            warnings.simplefilter("ignore")
            found[rows] = cluster.KMeans(n_clusters=count, n_init=1, random_state=draw).fit_predict(centres)[place]
    return found
