"""A base that is trained with the heads, from pretraining to new users."""

import dataclasses
import shutil

import numpy as np
import pytest

from hydrajax.nn import encode
from hydrajax.training import fit
from hydrajax.training.examples import Examples
from hydrajax.types import DataError
from tests.training.conftest import assert_equal
from tests.training.fits import BASE, texts


@pytest.mark.slow
def test_a_trained_base_changes_resumes_exactly_and_serves_new_users(tiny_base, tmp_path):
    train = texts((5, 8, 3), 0)
    plain = fit.pretrain(BASE, train, 3, base=tiny_base, checkpoint=tmp_path)
    assert len(plain.curves["base"]) == 2
    shutil.rmtree(tmp_path / "base" / "2")  # as if it had been killed in the second epoch, which is one step
    resumed = fit.pretrain(BASE, train, 3, base=tiny_base, checkpoint=tmp_path)
    assert (tmp_path / "base" / "2").is_dir()
    for name in ("shared", "bank", "base"):
        assert_equal(getattr(resumed, name), getattr(plain, name))
    assert resumed.curves == plain.curves
    with pytest.raises(DataError, match="another run: name another folder"):
        fit.pretrain(dataclasses.replace(BASE, seed=1), train, 3, base=tiny_base, checkpoint=tmp_path)

    base = fit.trained_base(tiny_base, plain)
    assert base.digest != tiny_base.digest
    assert fit.trained_base(tiny_base, dataclasses.replace(plain, base={})) is tiny_base
    new = texts((4, 6), 1)
    z = encode.token_features(base, new.x)
    assert not np.allclose(z, encode.token_features(tiny_base, new.x), atol=1e-3)
    users = fit.personalise(BASE, plain, Examples(**{**vars(new), "x": z}), 2)
    assert np.isfinite(fit.predict(plain, users, new.user, z, new.extras)).all()
