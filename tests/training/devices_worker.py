"""What devices_test runs in processes of their own: every stage of a fit on other devices.

python -m tests.training.devices_worker devices FOLDER n         n devices
python -m tests.training.devices_worker alike FOLDER i           process i of 2, which call the same; 2 devices each
python -m tests.training.devices_worker led FOLDER i             process i of 2: the first calls, the other serves
"""

import contextlib
import dataclasses
import pathlib
import sys

import jax
import numpy as np

from hydrajax.nn import backends, encode, processes, tokens
from hydrajax.training import checks, fit
from hydrajax.training.config import FitConfig
from hydrajax.training.examples import Examples
from hydrajax.types import DataError
from tests.training.conftest import make_base, make_examples, make_tokens

TRAIN = make_examples((8,) * 11)  # one shape of batches: each is compiled anew
NEW = make_examples((10, 0, 16, 6, 9), seed=9)
MLP = FitConfig(
    epochs=2,
    learning_rate=0.02,
    pooled_epochs=2,
    pooled_learning_rate=0.01,
    prior_strength=1.0,
    offset_strength=1.0,
    pooled_ridge=1.0,
    batch_examples=8,
)
CONFIGS = {
    "low_rank": dataclasses.replace(MLP, family="low_rank_mlp:rank=2"),
    "base": dataclasses.replace(MLP, train_base=True, base_learning_rate=3e-4),
    "linear_base": dataclasses.replace(MLP, family="linear", train_base=True, learning_rate=1e-3),
}


def run(folder, *, checkpoints=True):
    """Everything that a fit leaves behind, by name."""
    base = make_base()
    texts = make_tokens(len(TRAIN.user))
    encodings = [tokens.Encoding(tuple(row[keep].tolist()), (0,) * int(keep.sum())) for row, keep in zip(
        texts.ids, texts.mask, strict=True)]  # fmt: skip
    found = {"encoded": encode.compute(base, encodings)}
    for name, config in CONFIGS.items():
        examples, new, used = TRAIN, NEW, None
        if config.train_base:
            used = base
            columns = {field.name: getattr(TRAIN, field.name) for field in dataclasses.fields(TRAIN)}
            examples = Examples(**columns | {"x": texts})
        checkpoint = folder / f"checkpoint-{name}" if checkpoints else None
        fitted = fit.pretrain(config, examples, 11, base=used, checkpoint=checkpoint)
        if config.train_base:
            features = encode.token_features(fit.trained_base(base, fitted), make_tokens(len(NEW.user), seed=1))
            new = dataclasses.replace(NEW, x=features)
        users = fit.personalise(config, fitted, new, 5)
        scores = fit.predict(fitted, users, new.user, new.x, new.extras)
        parts = {"shared": fitted.shared, "bank": fitted.bank, "base": fitted.base, "heads": users, "scores": scores}
        parts["curve"] = np.concatenate([np.array(curve) for curve in fitted.curves.values()])
        found |= {f"{name}/{path}": leaf for path, leaf in checks.leaves(parts).items()}
    return found


def main():
    mode, folder, number = sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3])
    jax.config.update("jax_num_cpu_devices", number if mode == "devices" else 2)
    if mode == "devices":
        np.savez(folder / f"{number}.npz", **run(folder / "kept"))
        assert backends.number() == number
        return
    processes.join(60)
    if mode == "alike":
        with processes.alike():
            assert backends.number() == 4
            np.savez(folder / f"alike-{number}.npz", **run(folder / "kept"))
    elif processes.first():
        with processes.leading():
            assert backends.number() == 4
            # What cannot be fitted ends the call, not the processes.
            with contextlib.suppress(DataError):
                fit.pretrain(MLP, dataclasses.replace(TRAIN, user=TRAIN.user + 1), 11)
            np.savez(folder / "led.npz", **run(folder / "kept"))
    else:
        processes.serve()


if __name__ == "__main__":
    main()
