"""Training: the train step, the head bank, fits and checkpoints. It needs features, nothing else of the package.

`fit` is the short way: examples in, heads and scores out.

>>> import numpy as np
>>> from hydrajax.training import fit
>>> rng = np.random.default_rng(0)
>>> taste = rng.normal(size=(20, 8))                      # 20 users who like different things
>>> user = np.repeat(np.arange(20), 30)                   # 30 examples of each
>>> x = rng.normal(size=(600, 8))                         # features of your own
>>> score = (x * taste[user]).sum(axis=1)
>>> examples = fit.Examples(user=user, x=x, extras=np.zeros((600, 0)), label=score > 0, score=score, pool=user)
>>> config = fit.FitConfig(family="linear", prior_strength=1.0)
>>> fitted = fit.pretrain(config, examples, 20)           # what new users start with
>>> heads = fit.personalise(config, fitted, examples, 20)
>>> own = fit.predict(fitted, heads, user, x, np.zeros((600, 0)))
>>> pooled = fit.predict(fitted, None, user, x, np.zeros((600, 0)))
>>> bool(np.mean((own > 0) == (score > 0)) > 0.9 > 0.7 > np.mean((pooled > 0) == (score > 0)))
True

`fit_heads` is the short way for heads alone, where there is one to start from or none.

>>> import numpy as np
>>> from hydrajax.training import fit_heads
>>> rng = np.random.default_rng(0)
>>> taste = rng.normal(size=(20, 8)).astype(np.float32)   # 20 users who like different things
>>> user = np.repeat(np.arange(20), 30)                   # 30 examples of each, in any order
>>> x = rng.normal(size=(600, 8)).astype(np.float32)      # features of your own
>>> likes = (x * taste[user]).sum(axis=1) > 0
>>> seen = np.arange(600) % 3 > 0                         # the rest is kept aside
>>> heads = fit_heads("linear", x[seen], user[seen], likes[seen], num_users=20, prior_strength=1.0)
>>> heads["w"].shape, heads["b"].shape
((20, 8), (20,))
>>> score = (x * heads["w"][user]).sum(axis=1) + heads["b"][user]
>>> bool(np.mean((score > 0)[~seen] == likes[~seen]) > 0.8)
True

The long way is the functions themselves, pure and un-jitted, for loops of your own: `init_state`, `make_train_step`,
`make_eval_step`. They are looked up when they are first used: importing this package imports no JAX.
"""

import importlib

# Where each public function lives.
PUBLIC = {
    "Batch": "examples",
    "Directory": "directory",
    "Examples": "examples",
    "Setting": "sweep",
    "TrainState": "state",
    "adamw": "optimizers",
    "add_users": "directory",
    "check_batch": "checks",
    "fit_heads": "personalisation",
    "init_state": "state",
    "initial": "state",
    "make_eval_step": "step",
    "make_train_step": "step",
    "product": "sweep",
    "put_users": "state",
    "remove_users": "directory",
    "sweep_heads": "sweep",
    "take_users": "state",
}


__all__ = tuple(PUBLIC)


def __getattr__(name: str) -> object:
    if name not in PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted({name for name in globals() if name.startswith("__")} | {*PUBLIC})
