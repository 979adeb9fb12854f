import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import safetensors
import safetensors.numpy

from hydrajax.nn import heads
from hydrajax.training import directory as directories
from hydrajax.types import DataError
from tests.training.conftest import X, assert_close, assert_equal, edited, make_batch
from tests.training.small_bank import DIMS, FRESH, IDS, MLP, POOLED, TX, UPDATE, C, fresh_state, row, trained_state


@pytest.fixture
def trained():
    return trained_state()


def test_a_user_moves_to_another_bank_by_a_file(trained, tmp_path):
    directory, path = directories.Directory(C, IDS), tmp_path / "cyd.safetensors"
    directories.export_user(path, trained, directory, "cyd", family=MLP, dims=DIMS)
    with safetensors.safe_open(path, "numpy") as file:
        assert file.metadata()["user_id"] == "cyd" and file.metadata()["family"] == "mlp"

    other = directories.Directory(C, ["zoe"])
    state = directories.import_user(path, fresh_state(), other, FRESH, family=MLP, dims=DIMS)
    assert other.rows(["cyd"]) == 1
    assert_equal(row(state, 1), row(trained, 2))
    assert_equal(row(state, 0), row(fresh_state(), 0))
    state = directories.import_user(path, state, other, FRESH, family=MLP, dims=DIMS, user_id="zoe")
    assert_equal(row(state, 0), row(trained, 2))
    # They go on learning as if they had never moved.
    batch = make_batch([2], seed=5)
    moved = batch.replace(rows=edited(batch.rows, 0, 1))
    assert_close(row(UPDATE(state, moved)[0], 1), row(UPDATE(trained, batch)[0], 2))


def test_a_file_that_does_not_fit_is_one_sentence_and_changes_nothing(trained, tmp_path):
    directory, path = directories.Directory(C, IDS), tmp_path / "ann.safetensors"
    directories.export_user(path, trained, directory, "ann", family=MLP, dims=DIMS)

    def load(path, tx=TX, family="mlp", dims=DIMS, **settings):
        chosen = heads.get(family, **settings)

        def one_row(key):
            user = chosen.init_user(key, dims)
            return user, tx.init(user)

        directories.load_row(path, jax.eval_shape(one_row, jax.random.key(0)), family=chosen, dims=dims)

    with pytest.raises(DataError, match="the row is for family mlp, the bank has linear"):
        load(path, family="linear")
    with pytest.raises(DataError, match='the row is for dims .*"features": 5.*, the bank has .*"features": 7'):
        load(path, dims=heads.Dims(features=7, extras=X))
    with pytest.raises(DataError, match=r"0/b1 is float32\[5\], expected float32\[3\]"):
        load(path, width=3)
    with pytest.raises(DataError, match="have 1/1/count: of another family or optimizer"):
        load(path, tx=optax.sgd(0.1))
    with pytest.raises(DataError, match="holds no user's row"):
        load(tmp_path / "nobody.safetensors")
    (tmp_path / "torn.safetensors").write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match="holds no user's row"):
        load(tmp_path / "torn.safetensors")
    safetensors.numpy.save_file({"w": np.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(DataError, match="its format is None"):
        load(tmp_path / "other.safetensors")
    with pytest.raises(DataError, match="holds no user's row"):
        directories.import_user(
            tmp_path / "torn.safetensors", trained, directory, FRESH, family=MLP, dims=DIMS, user_id="z"
        )
    assert directory.ids == IDS
    with pytest.raises(DataError, match="no head for user 'zoe'"):
        directories.export_user(path, trained, directory, "zoe", family=MLP, dims=DIMS)
    with pytest.raises(DataError, match="the user cannot be written \\(No such file"):
        directories.export_user(tmp_path / "no" / "x", trained, directory, "ann", family=MLP, dims=DIMS)


def test_moments_of_bfloat16_survive_the_file(tmp_path):
    tx = optax.scale_by_adam(mu_dtype=jnp.bfloat16)
    rows = jax.tree.map(lambda leaf: np.asarray(leaf) + np.ones((), leaf.dtype), (POOLED, tx.init(POOLED)))
    assert rows[1].mu["b1"].dtype == jnp.bfloat16
    directories.save_row(tmp_path / "x", "ann", rows, family=MLP, dims=DIMS)
    owner, back = directories.load_row(tmp_path / "x", rows, family=MLP, dims=DIMS)
    assert owner == "ann"
    assert_equal(back, rows)


def test_a_file_says_whose_row_it_is(trained, tmp_path):
    directory, path = directories.Directory(C, IDS), tmp_path / "ann"
    with pytest.raises(DataError, match="the id of a user is 3, expected a string"):
        directories.export_user(path, trained, directory, 3, family=MLP, dims=DIMS)
    directories.export_user(path, trained, directory, "ann", family=MLP, dims=DIMS)
    with safetensors.safe_open(path, "numpy") as file:
        metadata = {name: value for name, value in file.metadata().items() if name != "user_id"}
        leaves = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    safetensors.numpy.save_file(leaves, path, metadata=metadata)
    with pytest.raises(DataError, match="does not say whose row it is, expected a user_id"):
        directories.import_user(path, trained, directory, FRESH, family=MLP, dims=DIMS)
