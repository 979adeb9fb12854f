"""Who is sent next: properties of the order, with a clock that the test turns."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hydrajax.llm import queue as queue_lib
from hydrajax.llm import request
from hydrajax.types import Message


def _ask(text="hello", **rest) -> request.Request:
    return request.Request(messages=(Message(role="user", text=text),), **({"max_tokens": 9} | rest))


def _keyed(requests):
    return {(request.key("m", r), r.sample): r for r in requests}


def _drained(queue):
    """Everything that may be sent now, none of it answered meanwhile."""
    return list(iter(queue.pop, None))


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


_groups = st.lists(st.sampled_from("abcd"), max_size=30)


@given(_groups)
def test_groups_take_turns_and_keep_their_own_order(groups):
    wanted = _keyed(_ask(str(i), group=group) for i, group in enumerate(groups))
    sent = [wanted[key] for key in _drained(queue_lib.Queue(wanted, in_turn=False))]
    assert sorted(int(r.messages[0].text) for r in sent) == list(range(len(groups)))
    for group in set(groups):
        mine = [int(r.messages[0].text) for r in sent if r.group == group]
        assert mine == sorted(mine)
    left = {group: groups.count(group) for group in groups}
    done = dict.fromkeys(left, 0)
    for r in sent:
        done[r.group] += 1
        waiting = [done[group] for group in left if done[group] < left[group]]
        # Whoever still waits is at most one turn behind whoever has had most.
        assert not waiting or max(done.values()) - min(waiting) <= 1


def test_the_last_of_many_users_does_not_wait_for_the_first_one_s_thousand():
    wanted = _keyed([*(_ask(f"many {i}", group="many") for i in range(1000)), _ask("one", group="one")])
    queue = queue_lib.Queue(wanted, in_turn=False)
    assert "one" in [wanted[key].group for key in itertools.islice(iter(queue.pop, None), 2)]


@given(st.permutations(list(range(8))))
def test_in_turn_the_order_is_that_of_the_beginnings_whatever_the_groups(places):
    requests = [_ask("ab"[i // 4], sample=i % 4, group=str(i)) for i in range(8)]
    wanted = _keyed(requests[i] for i in places)
    sent = [wanted[key] for key in _drained(queue_lib.Queue(wanted, in_turn=True, warms=lambda r: True))]
    assert sent == requests


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 4)), unique=True), st.randoms())
@settings(max_examples=50)
def test_of_a_long_prompt_one_goes_alone_until_it_is_answered(pairs, random):
    wanted = _keyed(_ask(text, sample=sample, group=text) for text, sample in pairs)
    queue = queue_lib.Queue(wanted, in_turn=False, warms=lambda r: r.messages[0].text != "c")
    sent: list[tuple[str, int]] = []
    done: set[str] = set()
    while len(queue) or len(sent) < len(wanted):
        batch = _drained(queue)
        for key in batch:
            before = [other for other in sent if other[0] == key[0]]
            assert wanted[key].messages[0].text == "c" or not before or key[0] in done
            sent.append(key)
        unanswered = [key for key in sent if key[0] not in done]
        assert batch or unanswered, "something waits for ever"
        if unanswered:
            key = random.choice(unanswered)
            queue.done(key)
            done.add(key[0])
    assert sorted(sent) == sorted(wanted)
    assert len(queue) == 0 and queue.pop() is None


def test_followers_are_free_as_well_when_the_first_one_failed_for_good_or_was_put_back_meanwhile():
    wanted = _keyed(_ask(sample=i) for i in range(3))
    clock = Clock()
    queue = queue_lib.Queue(wanted, in_turn=False, warms=lambda r: True, clock=clock)
    first = queue.pop()
    queue.later(first, 2.0)
    assert queue.pop() is None and len(queue) == 3
    clock.now += 2.0
    assert queue.pop() == first and queue.pop() is None
    queue.done(first)
    assert sorted(_drained(queue)) == sorted(set(wanted) - {first})
    queue.done(first)
    assert queue.pop() is None


@given(st.lists(st.floats(0.0, 50.0), min_size=1, max_size=8))
def test_what_is_put_back_comes_when_its_time_has_come_and_in_that_order(waits):
    wanted = _keyed(_ask(str(i)) for i in range(len(waits)))
    clock = Clock()
    queue = queue_lib.Queue(wanted, in_turn=False, clock=clock)
    keys = _drained(queue)
    for key, seconds in zip(keys, waits, strict=True):
        queue.later(key, seconds)
    came = {}
    while len(queue):
        wait = queue.wait()
        clock.now += wait + 1e-9
        key = queue.pop()
        assert key is not None
        came[key] = clock.now - 100.0
    for key, seconds in zip(keys, waits, strict=True):
        assert came[key] >= seconds - 1e-6
        assert came[key] <= max(waits) + 1e-3
    assert list(came.values()) == sorted(came.values())
    assert queue.wait() is None


def test_what_waits_for_its_time_keeps_nobody_else_waiting():
    wanted = _keyed([_ask("slow"), _ask("quick")])
    queue = queue_lib.Queue(wanted, in_turn=False, clock=Clock())
    slow = queue.pop()
    queue.later(slow, 1000.0)
    assert wanted[queue.pop()].messages[0].text == "quick"
    assert queue.pop() is None
    assert queue.wait() == pytest.approx(1000.0)


def test_nothing_wanted():
    queue = queue_lib.Queue({}, in_turn=False)
    assert len(queue) == 0 and queue.pop() is None and queue.wait() is None
