"""Logistic regression by scikit-learn, on one thread.

Its products are small. Beside another busy process, a local LLM server for example, threads wait for each other, and
a fit of 4,000 rows of 384 features took five to ten times as long on two threads as on one.
"""

from typing import Any

import threadpoolctl


def fit(x: Any, labels: Any, *, c: float, max_iter: int = 2000, tol: float = 1e-4) -> Any:
    """A fitted `sklearn.linear_model.LogisticRegression`.

    Args:
      x: [N, D], also sparse.
      labels: [N].
      c: inverse strength of the ridge.
      max_iter, tol: of L-BFGS.
    """
    # Imported late: it costs over a second.
    from sklearn import linear_model

    with threadpoolctl.threadpool_limits(limits=1):
        return linear_model.LogisticRegression(C=c, max_iter=max_iter, tol=tol).fit(x, labels)
