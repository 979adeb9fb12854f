"""How fast requests are sent, with a clock that moves only where somebody sleeps."""

import asyncio
import random
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hydrajax.llm import rate_limit as pace_lib
from hydrajax.llm.request import Limits


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now

    async def sleep(self, seconds):
        self.now += seconds
        await asyncio.sleep(0)


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(pace_lib, "asyncio", types.SimpleNamespace(Event=asyncio.Event, sleep=made.sleep))
    return made


async def _enter(pace, count):
    for _ in range(count):
        assert await asyncio.wait_for(pace.enter(), 5)


def test_it_begins_small_and_lets_no_more_in_than_the_window(clock):
    async def run():
        pace = pace_lib.Pace(100, clock=clock)
        await _enter(pace, pace_lib.FIRST_WINDOW)
        blocked = asyncio.create_task(pace.enter())
        for _ in range(5):
            await asyncio.sleep(0)
        assert not blocked.done()
        pace.leave()
        assert await asyncio.wait_for(blocked, 5)
        assert pace.under_way == pace_lib.FIRST_WINDOW

    asyncio.run(run())


@pytest.mark.parametrize("most", [1, 3, 40])
def test_the_window_grows_with_answers_to_the_most_and_no_further(clock, most):
    pace = pace_lib.Pace(most, clock=clock)
    windows = []
    for _ in range(60):
        pace.answered(Limits())
        windows.append(pace.window)
    assert windows == sorted(windows)
    assert windows[-1] == most
    assert windows[0] <= pace_lib.FIRST_WINDOW + 1


def test_a_complaint_halves_it_and_a_burst_of_them_counts_once(clock):
    pace = pace_lib.Pace(64, clock=clock)
    for _ in range(100):
        pace.answered(Limits())
    for _ in range(30):
        pace.complained(None, limited=False)
    assert pace.window == 32.0
    for _ in range(20):
        clock.now += 2.0
        pace.complained(None, limited=False)
    assert pace.window == 1.0


def test_one_may_always_be_under_way(clock):
    async def run():
        pace = pace_lib.Pace(4, clock=clock)
        for _ in range(10):
            clock.now += 2.0
            pace.complained(None, limited=False)
        await _enter(pace, 1)

    asyncio.run(run())


@given(st.floats(0.01, 100.0), st.booleans())
def test_a_server_that_asks_to_wait_is_left_alone_by_everybody(seconds, limited):
    async def run():
        pace = pace_lib.Pace(8, clock=clock)
        await _enter(pace, 1)
        start = clock.now
        pace.complained(seconds, limited=limited)
        await _enter(pace, 1)
        assert seconds - 1e-6 <= clock.now - start <= seconds + 2.5

    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pace_lib, "asyncio", types.SimpleNamespace(Event=asyncio.Event, sleep=clock.sleep))
        asyncio.run(run())


def test_a_shorter_wait_does_not_end_a_longer_one(clock):
    async def run():
        pace = pace_lib.Pace(8, clock=clock)
        start = clock.now
        pace.complained(10.0, limited=False)
        pace.complained(1.0, limited=True)
        await _enter(pace, 1)
        assert 10.0 - 1e-6 <= clock.now - start <= 12.5

    asyncio.run(run())


def test_it_waits_where_an_answer_says_that_the_limit_is_used_up(clock):
    async def run():
        pace = pace_lib.Pace(8, clock=clock)
        pace.answered(Limits(wait=3.0))
        start = clock.now
        await _enter(pace, 1)
        assert clock.now - start == pytest.approx(3.0)

    asyncio.run(run())


def test_requests_are_spaced_to_the_limit_that_the_server_names(clock):
    async def run():
        pace = pace_lib.Pace(1000, clock=clock)
        pace.window = 1000.0
        pace.answered(Limits(per_minute=600.0))
        await _enter(pace, 1)
        start = clock.now
        await _enter(pace, 100)
        assert clock.now - start == pytest.approx(100 * 60 / 600, rel=0.05)
        # A pause is not made up for in a burst (but for a tenth of a second's worth, which a late timer may cost).
        clock.now += 60.0
        start = clock.now
        await _enter(pace, 50)
        assert clock.now - start >= 50 * 60 / 600 - 0.3

    asyncio.run(run())


async def _answered_at(pace, clock, count, rate):
    """A server that answers so many a second; returns the seconds that it took."""
    start = clock.now
    for i in range(count):
        await _enter(pace, 1)
        clock.now = max(clock.now, start + i / rate)
        pace.leave()
        pace.answered(Limits())
    return clock.now - start


def test_asked_too_often_without_a_word_on_limits_they_are_spaced_to_what_was_answered(clock):
    async def run():
        pace = pace_lib.Pace(64, clock=clock)
        await _answered_at(pace, clock, 400, 100.0)
        for _ in range(200):
            pace.complained(None, limited=True)
        seconds = await _answered_at(pace, clock, 100, 1e6)
        assert 0.3 < seconds < 1.5  # without the complaint they would all go at once
        assert pace.window == 64.0

    asyncio.run(run())


def test_one_complaint_after_a_pause_does_not_slow_everything_to_a_crawl(clock):
    """Another stage, or the end of a long `retry-after`: nothing was answered in the last seconds, which says nothing
    of the rate that the server takes."""

    async def run():
        pace = pace_lib.Pace(64, clock=clock)
        await _answered_at(pace, clock, 400, 100.0)
        clock.now += 30.0
        pace.complained(None, limited=True)
        assert await _answered_at(pace, clock, 100, 1e6) < 20.0

    asyncio.run(run())


def test_where_nothing_is_said_of_limits_nothing_is_spaced(clock):
    async def run():
        pace = pace_lib.Pace(8, clock=clock)
        pace.answered(Limits())
        start = clock.now
        await _enter(pace, 8)
        assert clock.now == start

    asyncio.run(run())


def test_whoever_waits_is_told_to_stop():
    async def run():
        stopped = []
        pace = pace_lib.Pace(1)
        assert await pace.enter()
        waiting = asyncio.create_task(pace.enter(lambda: bool(stopped)))
        await asyncio.sleep(0)
        stopped.append(True)
        pace.wake()
        assert await asyncio.wait_for(waiting, 5) is False
        assert pace.under_way == 1
        pace.leave()
        pace.pause(1000.0)
        assert await asyncio.wait_for(pace.enter(lambda: bool(stopped)), 5) is False

    asyncio.run(run())


def test_waits_grow_without_end_only_up_to_a_limit_and_differ():
    rng = random.Random(0)
    drawn = {attempt: [pace_lib.backoff(attempt, rng) for _ in range(50)] for attempt in range(1, 60)}
    for attempt, waits in drawn.items():
        longest = min(pace_lib.LONGEST_WAIT, 0.5 * 2 ** (attempt - 1))
        assert all(longest / 2 <= wait <= longest for wait in waits)
        assert len(set(waits)) == 50
    assert min(drawn[8]) > max(drawn[6])


@pytest.mark.parametrize(("named", "refused", "share"), [(True, 0.0, 0.95), (False, 0.25, 0.85)])
def test_a_rate_limit_raises_no_storm_and_is_used(clock, named, refused, share):
    """A bucket of 15 tokens that fills at 150 a second."""
    limit, bucket = 150.0, 15.0
    answers = refusals = 0

    async def run():
        nonlocal answers, refusals
        pace = pace_lib.Pace(64, clock=clock)
        tokens, filled = bucket, clock.now
        while answers < 3000:
            assert await pace.enter()
            clock.now += 1e-4  # sending takes its time, so that even a sender without a pace comes to an end
            tokens, filled = min(bucket, tokens + (clock.now - filled) * limit), clock.now
            if tokens >= 1:
                tokens -= 1
                answers += 1
                pace.answered(Limits(per_minute=60 * limit if named else None))
            else:
                refusals += 1
                pace.complained((1 - tokens) / limit, limited=True)
            pace.leave()

    begun = clock.now
    asyncio.run(run())
    assert refusals <= refused * answers
    assert answers / (clock.now - begun) >= share * limit
