"""What a preset says of sizes and fits, the published ones among them."""

from typing import Any, Literal

from hydrajax.methods import settings as settings_lib
from hydrajax.training import config as fit_config

Preset = Literal["auto", "small", "default", "paper", "demo"]
# What a preset says besides `settings`, by field of a `RunConfig`.
FITS: dict[str, Any] = {
    "scorer": fit_config.FitConfig(),
    "losses": ("cross_entropy", "pairwise", "ordinal"),
    "epochs": (0, 1, 2, 4, 8, 16, 32),
    "max_pair_tokens": 256,
    "train_base": False,
}
# Zhuang et al., arXiv 2406.02888, and its public code: nothing is chosen; 64 examples an update, 8 of each of 8 users.
PAPER_FITS: dict[str, Any] = {
    "scorer": fit_config.FitConfig(
        family="mlp",
        loss="cross_entropy",
        init="fresh",
        epochs=2,
        learning_rate=2e-5,
        decays=True,
        clip=1.0,
        weight_decay=0.01,
        dropout=0.1,
        batch_examples=8,
        users_per_batch=8,
        pooled_epochs=2,
        pooled_learning_rate=2e-5,
        prior_strength=0.0,
        offset_strength=0.0,
        pooled_ridge=1.0,  # of convex families, which the paper has none of
        scaled=False,
        standardise=False,
        base_learning_rate=2e-5,
        base_epochs=2,
        base_batch_examples=64,
    ),
    "train_base": True,
    "losses": ("cross_entropy",),
    "epochs": (2,),
    "pooling": "cls",
    "max_pair_tokens": "base",
}
# Linear heads are fitted exactly, so that nothing is to be chosen.
DEMO_FITS: dict[str, Any] = {
    **FITS,
    "scorer": fit_config.FitConfig(family="linear"),
    "losses": ("pairwise",),
    "epochs": (1,),
}
PRESETS: dict[str, dict[str, Any]] = {
    name: {**{"paper": PAPER_FITS, "demo": DEMO_FITS}.get(name, FITS), "settings": settings}
    for name, settings in settings_lib.PRESETS.items()
}
