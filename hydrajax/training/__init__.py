"""Training: the train step, the head bank, fits and checkpoints. It needs features, nothing else of the package.

`pretrain`, `personalise`, `predict` are the short way: examples in, heads and scores out.

>>> import numpy as np
>>> from hydrajax import training
>>> rng = np.random.default_rng(0)
>>> taste = rng.normal(size=(20, 8))                      # 20 users who like different things
>>> user = np.repeat(np.arange(20), 30)                   # 30 examples of each
>>> x = rng.normal(size=(600, 8))                         # features of your own
>>> score = (x * taste[user]).sum(axis=1)
>>> none = np.zeros((600, 0))                             # no further inputs
>>> examples = training.Examples(user=user, x=x, extras=none, label=score > 0, score=score, pool=user)
>>> config = training.FitConfig(family="linear")
>>> fitted = training.pretrain(config, examples, 20)      # what new users start with
>>> heads = training.personalise(config, fitted, examples, 20)
>>> own = training.predict(fitted, heads, user, x, none)
>>> pooled = training.predict(fitted, None, user, x, none)
>>> bool(np.mean((own > 0) == (score > 0)) > 0.9 > 0.7 > np.mean((pooled > 0) == (score > 0)))
True

`fit_heads` is the short way for heads alone, where there is one to start from or none.

>>> import numpy as np
>>> from hydrajax import training
>>> rng = np.random.default_rng(0)
>>> taste = rng.normal(size=(20, 8)).astype(np.float32)   # 20 users who like different things
>>> user = np.repeat(np.arange(20), 30)                   # 30 examples of each, in any order
>>> x = rng.normal(size=(600, 8)).astype(np.float32)      # features of your own
>>> likes = (x * taste[user]).sum(axis=1) > 0
>>> seen = np.arange(600) % 3 > 0                         # the rest is kept aside
>>> heads = training.fit_heads("linear", x[seen], user[seen], likes[seen], num_users=20, prior_strength=1.0)
>>> heads["w"].shape, heads["b"].shape
((20, 8), (20,))
>>> score = (x * heads["w"][user]).sum(axis=1) + heads["b"][user]
>>> bool(np.mean((score > 0)[~seen] == likes[~seen]) > 0.8)
True

The long way is the functions themselves, pure and un-jitted, for loops of your own: `init_state`, `make_train_step`,
`make_eval_step`. They are looked up when they are first used: importing this package imports no JAX.
"""

# ruff: noqa: F401
import importlib
import typing

if typing.TYPE_CHECKING:  # what is looked up below, for type checkers
    from hydrajax.training.checks import check_batch
    from hydrajax.training.config import FitConfig
    from hydrajax.training.directory import Directory, add_users, remove_users
    from hydrajax.training.examples import Batch, Examples, of_ratings, of_scores
    from hydrajax.training.fit import personalise, personalise_snapshots, predict, pretrain, trained_base
    from hydrajax.training.fitted import Fitted, load_fitted, save_fitted
    from hydrajax.training.head_fits import fit_heads, product, sweep_heads
    from hydrajax.training.optimizers import adamw
    from hydrajax.training.programs import on_devices
    from hydrajax.training.solver import Setting
    from hydrajax.training.stages import Snapshots
    from hydrajax.training.state import TrainState, init_state, initial, put_users, take_users
    from hydrajax.training.step import make_eval_step, make_train_step

_NAMES = {
    "checks": ("check_batch",),
    "config": ("FitConfig",),
    "directory": ("Directory", "add_users", "remove_users"),
    "examples": ("Batch", "Examples", "of_ratings", "of_scores"),
    "fit": ("personalise", "personalise_snapshots", "predict", "pretrain", "trained_base"),
    "fitted": ("Fitted", "load_fitted", "save_fitted"),
    "head_fits": ("fit_heads", "product", "sweep_heads"),
    "optimizers": ("adamw",),
    "programs": ("on_devices",),
    "solver": ("Setting",),
    "stages": ("Snapshots",),
    "state": ("TrainState", "init_state", "initial", "put_users", "take_users"),
    "step": ("make_eval_step", "make_train_step"),
}
# Where each public function lives.
PUBLIC = {name: module for module, names in _NAMES.items() for name in names}
__all__ = tuple(PUBLIC)


def __getattr__(name: str) -> object:
    if name not in PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted({name for name in globals() if name.startswith("__")} | {*PUBLIC})
