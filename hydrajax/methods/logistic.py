"""Logistic regression by scikit-learn, on one thread.

Its products are small. Beside another busy process, a local LLM server for example, threads wait for each other, and
a fit of 4,000 rows of 384 features took five to ten times as long on two threads as on one.
"""

from typing import Any

import numpy as np
import threadpoolctl
from jaxtyping import Float


def fit(x: Any, labels: Any, *, c: float, max_iter: int = 2000, tol: float = 1e-4, standardise: bool = False) -> Any:
    """A fitted `sklearn.linear_model.LogisticRegression`.

    Args:
      x: [N, D], also sparse.
      labels: [N].
      c: inverse strength of the ridge.
      max_iter, tol: of L-BFGS.
      standardise: whether it reads features of mean 0 and deviation 1, as `x` has them.
    """
    # Imported late: it costs over a second.
    from sklearn import linear_model, pipeline, preprocessing

    model = linear_model.LogisticRegression(C=c, max_iter=max_iter, tol=tol)
    with threadpoolctl.threadpool_limits(limits=1):
        return (pipeline.make_pipeline(preprocessing.StandardScaler(), model) if standardise else model).fit(x, labels)


def log_probabilities(model: Any, x: Any) -> Float[np.ndarray, "N L"]:
    """log P of the model's classes; other than `predict_log_proba`, finite where a probability is almost 0."""
    logits = model.decision_function(x)
    if logits.ndim == 1:  # of two classes scikit-learn keeps the second one's logit against the first
        logits = np.stack([-logits, logits], axis=-1) / 2
    return log_softmax(logits)


def log_softmax(logits: Float[np.ndarray, "*N L"]) -> Float[np.ndarray, "*N L"]:
    """log softmax over the last axis."""
    from scipy import special  # only where a regression is fitted: it takes a while to load

    return special.log_softmax(logits, axis=-1)
