import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import safetensors
import safetensors.numpy

from hydrajax.nn import heads, scorer
from hydrajax.training import bank, checks, losses, optimizers, row_file, step
from hydrajax.training import directory as directories
from hydrajax.types import DataError
from tests.training.conftest import D, X, assert_close, assert_equal, edited, make_batch

C = 6
DIMS = heads.Dims(features=D, extras=X)
TX = optimizers.adamw(0.05, 0.1)
MLP = heads.get("mlp", dropout=0.0)
ONE = scorer.Scorer(family=MLP, dims=DIMS)
POOLED = MLP.init_user(jax.random.key(7), DIMS)
FRESH = bank.initial(ONE, TX, head=POOLED)
UPDATE = jax.jit(step.make_train_step(ONE, TX, TX))
IDS = ("ann", "bob", "cyd", "dee")


def fresh_state():
    return step.init_state(ONE, TX, TX, num_users=C, key=jax.random.key(0), head=POOLED)


def row(state, number):
    return jax.tree.map(lambda leaf: np.asarray(leaf)[number], (state.bank, state.bank_opt))


@pytest.fixture(scope="module")
def trained():
    """A bank whose first four rows have learned."""
    state = fresh_state()
    for seed in range(3):
        state, _ = UPDATE(state, make_batch([0, 1, 2, 3], seed=seed))
    return state


def test_users_come_out_as_they_are_and_go_back(trained):
    users, opt = bank.take_users(trained, np.array([3, 1]))
    assert_equal(users, jax.tree.map(lambda leaf: leaf[np.array([3, 1])], trained.bank))
    after = bank.put_users(trained, np.array([5, 3]), users, opt)
    assert_equal(row(after, 5), row(trained, 3))
    assert_equal(row(after, 3), row(trained, 1))
    for other in (0, 1, 2, 4):
        assert_equal(row(after, other), row(trained, other))


def test_taken_and_put_in_a_jitted_function(trained):
    @jax.jit
    def swap(state, rows):
        return bank.put_users(state, rows[::-1], *bank.take_users(state, rows))

    after = swap(trained, jnp.array([0, 2]))
    assert_equal(row(after, 0), row(trained, 2))
    assert_equal(row(after, 2), row(trained, 0))


@pytest.mark.parametrize(
    ("rows", "message"),
    [([0, C], "rows from 0 to 6, expected 0 to 5"), ([-1], "from -1"), ([2, 0, 2], "row 2 comes twice")],
)
def test_faulty_rows_are_one_sentence(trained, rows, message):
    with pytest.raises(DataError, match=message):
        bank.take_users(trained, np.array(rows))
    taken = jax.tree.map(lambda leaf: leaf[np.zeros(len(rows), int)], (trained.bank, trained.bank_opt))
    with pytest.raises(DataError, match=message):
        bank.put_users(trained, np.array(rows), *taken)
    with pytest.raises(DataError, match=message):
        bank.reset(trained, np.array(rows), FRESH)


def test_users_that_do_not_fit_the_bank_are_refused(trained):
    users, opt = bank.take_users(trained, np.array([1]))
    one = np.array([4])
    with pytest.raises(DataError, match="the users: 0/b2 is not finite"):
        bank.put_users(trained, one, {**users, "b2": users["b2"] * np.nan}, opt)
    with pytest.raises(DataError, match="0/b1 is float16.*expected float32"):
        bank.put_users(trained, one, {**users, "b1": users["b1"].astype(jnp.float16)}, opt)
    with pytest.raises(DataError, match=r"0/b1 is float32\[2, 5\], expected float32\[1, 5\]"):
        bank.put_users(trained, one, {**users, "b1": jnp.zeros((2, D))}, opt)
    with pytest.raises(DataError, match="the users: lack 1/1/count: of another family or optimizer"):
        bank.put_users(trained, one, users, optax.EmptyState())


@pytest.mark.parametrize("start", [{"key": jax.random.key(3)}, {"head": POOLED}])
def test_initial_rows_are_those_of_a_fresh_state(start):
    fresh = bank.initial(ONE, TX, **start)
    state = step.init_state(ONE, TX, TX, num_users=C, key=start.get("key", jax.random.key(0)), head=start.get("head"))
    for rows in ([4], [5, 0, 3], []):
        expected = jax.tree.map(lambda leaf, rows=rows: np.asarray(leaf)[rows], (state.bank, state.bank_opt))
        assert_equal(fresh(np.array(rows, np.int32)), expected)


def test_initial_rows_need_a_key_or_a_head():
    for both in ({}, {"key": jax.random.key(0), "head": POOLED}):
        with pytest.raises(DataError, match="exactly one"):
            bank.initial(ONE, TX, **both)


def test_a_grown_bank_keeps_its_rows(trained):
    key = jax.random.key(0)
    state = step.init_state(ONE, TX, TX, num_users=C, key=key)
    larger = step.init_state(ONE, TX, TX, num_users=C + 5, key=key)
    assert_equal(bank.grow(state, C + 5, bank.initial(ONE, TX, key=key)), larger)
    with pytest.raises(DataError, match="has 6 rows, it cannot grow to 5"):
        bank.grow(trained, 5, FRESH)


def test_new_users_start_at_the_pooled_head_without_a_new_compilation(trained):
    traces = 0

    def counted(state, batch):
        nonlocal traces
        traces += 1
        return step.make_train_step(ONE, TX, TX)(state, batch)

    update = jax.jit(counted)
    directory, state = directories.Directory(C, IDS), trained
    update(state, make_batch([0, 1]))
    state = directories.add_users(state, directory, ["eve"], FRESH, chunk=4)
    (new,) = directory.rows(["eve"])
    assert_equal(row(state, new), jax.tree.map(np.asarray, (POOLED, TX.init(POOLED))))
    update(state, make_batch([new, 1]))
    assert traces == 1 and bank.capacity(state) == C

    state = directories.add_users(state, directory, ["fay", "gus", "hal"], FRESH, chunk=4)
    assert bank.capacity(state) == directory.capacity == C + 4  # by whole chunks
    for number in range(4):
        assert_equal(row(state, number), row(trained, number))
    with pytest.raises(DataError, match="'ann' has a head already"):
        directories.add_users(state, directory, [*"abcdefg", "ann"], FRESH, chunk=4)
    assert directory.capacity == C + 4
    with pytest.raises(DataError, match="the bank has 6 rows and its directory 10"):
        directories.add_users(trained, directory, ["x"], FRESH)


def test_nothing_remains_of_a_removed_user(trained):
    directory = directories.Directory(C, IDS)
    state = directories.remove_users(trained, directory, ["bob", "dee"], FRESH)
    assert_equal(row(state, 1), row(fresh_state(), 1))
    assert_equal(row(state, 3), row(fresh_state(), 3))
    assert_equal([row(state, n) for n in (0, 2, 4, 5)], [row(trained, n) for n in (0, 2, 4, 5)])
    state = directories.add_users(state, directory, ["eve"], FRESH)
    batch = make_batch([1], seed=9)
    assert_equal(row(UPDATE(state, batch)[0], 1), row(UPDATE(fresh_state(), batch)[0], 1))


def test_a_user_moves_to_another_bank_by_a_file(trained, tmp_path):
    directory, path = directories.Directory(C, IDS), tmp_path / "cyd.safetensors"
    row_file.export_user(path, trained, directory, "cyd", family=MLP, dims=DIMS)
    with safetensors.safe_open(path, "numpy") as file:
        assert file.metadata()["user_id"] == "cyd" and file.metadata()["family"] == "mlp"

    other = directories.Directory(C, ["zoe"])
    state = row_file.import_user(path, fresh_state(), other, FRESH, family=MLP, dims=DIMS)
    assert other.rows(["cyd"]) == 1
    assert_equal(row(state, 1), row(trained, 2))
    assert_equal(row(state, 0), row(fresh_state(), 0))
    state = row_file.import_user(path, state, other, FRESH, family=MLP, dims=DIMS, user_id="zoe")
    assert_equal(row(state, 0), row(trained, 2))
    # They go on learning as if they had never moved.
    batch = make_batch([2], seed=5)
    moved = batch.replace(rows=edited(batch.rows, 0, 1))
    assert_close(row(UPDATE(state, moved)[0], 1), row(UPDATE(trained, batch)[0], 2))


def test_a_file_that_does_not_fit_is_one_sentence_and_changes_nothing(trained, tmp_path):
    directory, path = directories.Directory(C, IDS), tmp_path / "ann.safetensors"
    row_file.export_user(path, trained, directory, "ann", family=MLP, dims=DIMS)

    def load(path, tx=TX, family="mlp", dims=DIMS, **settings):
        chosen = heads.get(family, **settings)

        def one_row(key):
            user = chosen.init_user(key, dims)
            return user, tx.init(user)

        row_file.load(path, jax.eval_shape(one_row, jax.random.key(0)), family=chosen, dims=dims)

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
        row_file.import_user(
            tmp_path / "torn.safetensors", trained, directory, FRESH, family=MLP, dims=DIMS, user_id="z"
        )
    assert directory.ids == IDS
    with pytest.raises(DataError, match="no head for user 'zoe'"):
        row_file.export_user(path, trained, directory, "zoe", family=MLP, dims=DIMS)
    with pytest.raises(DataError, match="the user cannot be written \\(No such file"):
        row_file.export_user(tmp_path / "no" / "x", trained, directory, "ann", family=MLP, dims=DIMS)


def test_moments_of_bfloat16_survive_the_file(tmp_path):
    tx = optax.scale_by_adam(mu_dtype=jnp.bfloat16)
    rows = jax.tree.map(lambda leaf: np.asarray(leaf) + np.ones((), leaf.dtype), (POOLED, tx.init(POOLED)))
    assert rows[1].mu["b1"].dtype == jnp.bfloat16
    row_file.save(tmp_path / "x", "ann", rows, family=MLP, dims=DIMS)
    owner, back = row_file.load(tmp_path / "x", rows, family=MLP, dims=DIMS)
    assert owner == "ann"
    assert_equal(back, rows)


def test_a_batch_that_a_step_would_take_without_a_word_is_refused():
    stray = make_batch([3, 1])
    with pytest.raises(DataError, match=r"examples in a slot without a user \(row 6 or more\)"):
        checks.check_batch(stray, C)
    batch = stray.replace(targets=stray.targets.replace(mask=edited(stray.targets.mask, slice(2, None), False)))
    checks.check_batch(batch, C)
    nan = [0, 2]
    with pytest.raises(DataError, match="the batch's x of row 3, example 2, is not finite"):
        checks.check_batch(batch.replace(x=edited(batch.x, (*nan, 1), np.nan)), C)
    with pytest.raises(DataError, match="the batch's score of row 3, example 2, is not finite"):
        score = edited(batch.targets.score, tuple(nan), np.inf)
        checks.check_batch(batch.replace(targets=batch.targets.replace(score=score)), C)
    with pytest.raises(DataError, match="row 3 comes twice, expected once: a head has one update"):
        checks.check_batch(batch.replace(rows=edited(batch.rows, 1, 3)), C)
    with pytest.raises(DataError, match="the batch has row -1, expected 0 to 5, or 6 for no user"):
        checks.check_batch(batch.replace(rows=edited(batch.rows, 1, -1)), C)
    # What the mask hides, and slots without a user, may hold anything; a batch may be without users.
    hidden = edited(edited(batch.x, (0, -1), np.nan), 3, np.nan)
    checks.check_batch(batch.replace(x=hidden), C)
    nobody = batch.replace(targets=batch.targets.replace(mask=batch.targets.mask & False), rows=np.full(4, C, np.int32))
    checks.check_batch(nobody, C)


def test_users_without_examples_are_left_alone(trained):
    batch = make_batch([2, 3], slots=2)
    batch = batch.replace(targets=batch.targets.replace(mask=edited(batch.targets.mask, 1, False)))
    checks.check_batch(batch, C)
    assert_equal(row(UPDATE(trained, batch)[0], 3), row(trained, 3))


def test_permuting_users_permutes_the_heads_exactly(trained):
    """Exactly: also where they stand elsewhere in the bank, over twenty steps."""
    order = np.array([2, 0, 3, 1])
    one = two = trained
    two = bank.put_users(two, order, *bank.take_users(trained, np.arange(4)))
    for seed in range(20):
        batch = make_batch([0, 1, 2, 3], seed=seed)
        one, _ = UPDATE(one, batch)
        shuffled = jax.tree.map(lambda leaf: leaf[np.argsort(order)], batch)
        two, _ = UPDATE(two, shuffled.replace(rows=batch.rows))
    assert_equal([row(two, to) for to in order], [row(one, n) for n in range(4)])


def test_permuting_users_changes_a_jointly_trained_part_by_rounding_alone():
    shared = scorer.Scorer(family=heads.get("shared", dropout=0.0), dims=DIMS)
    tx = optax.sgd(0.1)
    state = step.init_state(shared, tx, TX, num_users=C, key=jax.random.key(0))
    update = jax.jit(step.make_train_step(shared, tx, TX))
    one = two = state
    for seed in range(5):
        batch = make_batch([0, 1, 2, 3], seed=seed)
        one, _ = update(one, batch)
        two, _ = update(two, jax.tree.map(lambda leaf: leaf[np.array([2, 0, 3, 1])], batch))
    assert_close(one.shared, two.shared, atol=1e-6)
    assert not np.array_equal(one.shared["w1"], state.shared["w1"])


def test_twenty_vmapped_steps_equal_a_loop_over_users(trained):
    batches = [make_batch([4, 0, 2], seed=seed, pull=0.3) for seed in range(20)]
    together = trained
    for batch in batches:
        together, _ = UPDATE(together, batch)

    @jax.jit
    def alone(user, opt, x, extras, targets):
        def mean(user):
            total, weight = losses.cross_entropy(
                scorer.logits(MLP, {}, user, jnp.concatenate([x, extras], axis=-1)), targets
            )
            away = jax.tree.map(jnp.subtract, user, trained.anchor)
            return total / weight + 0.3 / 2 * sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(away))

        away = jax.tree.map(jnp.subtract, user, trained.anchor)
        updates, opt = optimizers.update(TX, jax.grad(mean)(user), opt, away)
        return optax.apply_updates(user, updates), opt

    for slot, number in enumerate([4, 0, 2]):
        user, opt = row(trained, number)
        for batch in batches:
            own = jax.tree.map(lambda leaf, slot=slot: leaf[slot], (batch.x, batch.extras, batch.targets))
            user, opt = alone(user, opt, *own)
        assert_close(row(together, number)[0], user, atol=1e-5)


def test_rows_may_be_lists_and_what_else_they_are_is_one_sentence(trained):
    users = bank.take_users(trained, [2, 1])
    assert_equal(users, bank.take_users(trained, np.array([2, 1])))
    assert_equal(row(bank.put_users(trained, [5, 0], *users), 0), row(trained, 1))
    for bad, says in (
        (1, r"rows have shape \[\]"),
        ([1.0], "rows are float64, expected whole"),
        ([True], "rows are true"),
    ):
        with pytest.raises(DataError, match=says):
            bank.take_users(trained, bad)


@pytest.mark.parametrize(
    ("fresh", "says"),
    [
        (bank.initial(ONE, optimizers.adamw(0.05, 0.1, moments=jnp.bfloat16), head=POOLED), "1/1/mu/b1 is uint16"),
        (lambda rows: FRESH(rows[:1]), r"what rows start with: 0/b1 is float32\[1, 5\], expected float32"),
        (lambda rows: ({"w": np.zeros(len(rows))}, ()), "what rows start with: lack 0/b1"),
    ],
)
def test_a_bank_that_rows_do_not_fit_stays_as_it_is_with_its_directory(trained, fresh, says):
    directory = directories.Directory(C, IDS)
    for call in (
        lambda: bank.reset(trained, [0, 4], fresh),
        lambda: bank.grow(trained, C + 3, fresh),
        lambda: directories.add_users(trained, directory, ["eve", "fay"], fresh, chunk=4),
        lambda: directories.add_users(trained, directory, list("efghi"), fresh, chunk=4),
        lambda: directories.remove_users(trained, directory, ["bob", "ann"], fresh),
    ):
        with pytest.raises(DataError, match=says):
            call()
        assert directory.to_note() == [*IDS, None, None]
    np.testing.assert_array_equal(directory.add(["eve"]), [4])


def test_large_rows_are_reset_as_small_ones_are():
    wide = scorer.Scorer(family=heads.get("mlp", width=1000), dims=DIMS)
    state = step.init_state(wide, TX, TX, num_users=3, key=jax.random.key(0))
    fresh = bank.initial(wide, TX, key=jax.random.key(0))
    moved = bank.put_users(state, [1], *bank.take_users(state, [2]))
    assert_equal(bank.reset(moved, [1], fresh), state)


def test_a_batch_out_of_range_is_refused():
    batch = make_batch([3, 1, 0, 2])
    targets = batch.targets.replace(label=edited(batch.targets.label, (1, 2), 1.5))
    with pytest.raises(DataError, match="the batch's label of row 1, example 2, is out of range"):
        checks.check_batch(batch.replace(targets=targets), C)
    checks.check_batch(batch.replace(targets=targets), C, loss="pairwise")
    for pull, says in ((-1.0, "row 0 is -1.0"), (np.nan, "row 0 is nan")):
        with pytest.raises(DataError, match=f"the batch's pull of {says}, expected a finite number of 0 or more"):
            checks.check_batch(batch.replace(pull=edited(batch.pull, 2, pull)), C)


def test_where_nothing_is_stored_rows_need_only_differ():
    shared, tx = scorer.Scorer(family=heads.get("shared"), dims=DIMS), optax.sgd(0.1)
    state = step.init_state(shared, tx, tx, num_users=C, key=jax.random.key(0))
    assert bank.capacity(state) == 0
    batch = make_batch([3, 1, 0, 2])
    checks.check_batch(batch, 0)
    _, metrics = jax.jit(step.make_train_step(shared, tx, tx))(state, batch)
    assert float(metrics["weight"]) == batch.targets.mask.sum()
    with pytest.raises(DataError, match="row 3 comes twice"):
        checks.check_batch(batch.replace(rows=edited(batch.rows, 1, 3)), 0)
    with pytest.raises(DataError, match="the batch has row -1, expected 0 or more"):
        checks.check_batch(batch.replace(rows=edited(batch.rows, 1, -1)), 0)


def test_a_file_says_whose_row_it_is(trained, tmp_path):
    directory, path = directories.Directory(C, IDS), tmp_path / "ann"
    with pytest.raises(DataError, match="the id of a user is 3, expected a string"):
        row_file.export_user(path, trained, directory, 3, family=MLP, dims=DIMS)
    row_file.export_user(path, trained, directory, "ann", family=MLP, dims=DIMS)
    with safetensors.safe_open(path, "numpy") as file:
        metadata = {name: value for name, value in file.metadata().items() if name != "user_id"}
        leaves = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    safetensors.numpy.save_file(leaves, path, metadata=metadata)
    with pytest.raises(DataError, match="does not say whose row it is, expected a user_id"):
        row_file.import_user(path, trained, directory, FRESH, family=MLP, dims=DIMS)
