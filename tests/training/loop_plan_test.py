import numpy as np
import pytest

from hydrajax.training import loop
from tests.training.conftest import assert_equal, make_examples, make_tokens

SIZES = (3, 0, 40, 12, 9, 5)


def plan(examples, **changes):
    values = dict(epochs=2, users_per_batch=2, batch_examples=16, prior_strength=4.0)
    return loop.plan(examples, len(SIZES), **(values | changes))


@pytest.mark.parametrize("whole", [False, True])
def test_every_epoch_has_every_example_once_with_its_user(whole):
    examples = make_examples(SIZES)
    for epoch in plan(examples, whole_pools=whole).epochs:
        seen = []
        for slots in epoch:
            for user, rows in zip(slots.users, slots.rows, strict=True):
                real = rows[rows >= 0]
                assert (examples.user[real] == user).all()
                seen.extend(real.tolist())
        assert sorted(seen) == list(range(sum(SIZES)))


def test_users_of_a_batch_differ_and_empty_slots_have_the_capacity():
    examples = make_examples(SIZES)
    slots = [s for epoch in plan(examples).epochs for s in epoch]
    assert {s.users.shape for s in slots} == {(2,)}
    for s in slots:
        real = s.users[s.users < len(SIZES)]
        assert len(set(real.tolist())) == len(real) > 0
        assert (s.rows[s.users == len(SIZES)] == -1).all()
    assert any((s.users == len(SIZES)).any() for s in slots)


def test_few_shapes():
    examples = make_examples(SIZES)
    shapes = {s.rows.shape for epoch in plan(examples, epochs=5).epochs for s in epoch}
    assert shapes == {(2, 8), (2, 16)}


def test_arrays_are_those_of_the_rows():
    examples = make_examples(SIZES)
    planned = plan(examples)
    slots = planned.epochs[0][0]
    batch = planned.batch(slots)
    for i, user in enumerate(slots.users):
        mask = batch.targets.mask[i]
        np.testing.assert_array_equal(mask, slots.rows[i] >= 0)
        np.testing.assert_array_equal(batch.x[i][mask], examples.x[slots.rows[i][mask]])
        np.testing.assert_array_equal(batch.targets.pool[i][mask], examples.pool[slots.rows[i][mask]])
        if user < len(SIZES):
            np.testing.assert_allclose(batch.pull[i], 4.0 / SIZES[user])


def test_order_is_decided_by_the_seed_and_changes_by_epoch():
    examples = make_examples(SIZES)

    def order(seed):
        return [[(s.users.tolist(), s.rows.tolist()) for s in epoch] for epoch in plan(examples, seed=seed).epochs]

    assert order(0) == order(0)
    assert order(0) != order(1)
    assert order(0)[0] != order(0)[1]


def feed(examples):
    planned = plan(examples)
    return planned.iterator(), planned.ends[-1]


def test_an_iterator_goes_on_where_its_state_was_taken():
    examples = make_examples(SIZES)
    first, total = feed(examples)
    for _ in range(3):
        next(first)
    state = first.get_state()
    rest = list(first)
    assert len(rest) == total - 3
    second, _ = feed(examples)
    second.set_state(state)
    for a, b in zip(rest, second, strict=True):
        assert_equal(a, b)


def test_texts_are_cut_to_a_bucket_and_none_is_lost():
    texts = make_tokens(sum(SIZES))
    texts.mask[:3, 10:] = False  # the first user's three
    examples = make_examples(SIZES)
    examples = type(examples)(**{**vars(examples), "x": texts})
    lengths = set()
    planned = plan(examples, prior_strength=0.0)
    for slots in planned.epochs[0]:
        batch = planned.batch(slots)
        lengths.add(batch.x.ids.shape[-1])
        real = slots.rows >= 0
        np.testing.assert_array_equal(batch.x.mask[real].sum(axis=-1), texts.mask[slots.rows[real]].sum(axis=-1))
        assert not batch.x.mask[~real].any()
    assert lengths == {16, 32}


def test_ends_count_the_batches_of_every_epoch():
    planned = plan(make_examples(SIZES), epochs=3)
    assert planned.ends == [0, *np.cumsum([len(epoch) for epoch in planned.epochs])]


@pytest.mark.parametrize("total", [1, 12, 24, 1000])
def test_a_batch_has_as_many_users_as_make_up_so_many_examples(total):
    examples = make_examples([20] * 12)  # chunks of 7, 7 and 6
    planned = loop.plan(examples, 12, epochs=1, users_per_batch=12, batch_examples=8, total_examples=total)
    assert {len(slots.users) for slots in planned.epochs[0]} == {max(1, min(12, round(total / (20 / 3))))}
