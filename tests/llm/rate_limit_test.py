"""How fast requests are sent, with a clock that moves only where somebody sleeps."""

import asyncio
import random
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hydrajax.llm import rate_limit
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
    monkeypatch.setattr(rate_limit, "asyncio", types.SimpleNamespace(Event=asyncio.Event, sleep=made.sleep))
    return made


async def _enter(limiter, count):
    for _ in range(count):
        assert await asyncio.wait_for(limiter.enter(), 5)


def test_it_begins_small_and_lets_no_more_in_than_the_window(clock):
    async def run():
        limiter = rate_limit.RateLimiter(100, clock=clock)
        await _enter(limiter, rate_limit.FIRST_WINDOW)
        blocked = asyncio.create_task(limiter.enter())
        for _ in range(5):
            await asyncio.sleep(0)
        assert not blocked.done()
        limiter.leave()
        assert await asyncio.wait_for(blocked, 5)
        assert limiter.under_way == rate_limit.FIRST_WINDOW

    asyncio.run(run())


@pytest.mark.parametrize("most", [1, 3, 40])
def test_the_window_grows_with_answers_to_the_most_and_no_further(clock, most):
    limiter = rate_limit.RateLimiter(most, clock=clock)
    windows = []
    for _ in range(60):
        limiter.answered(Limits())
        windows.append(limiter.window)
    assert windows == sorted(windows)
    assert windows[-1] == most
    assert windows[0] <= rate_limit.FIRST_WINDOW + 1


def test_a_complaint_halves_it_and_a_burst_of_them_counts_once(clock):
    limiter = rate_limit.RateLimiter(64, clock=clock)
    for _ in range(100):
        limiter.answered(Limits())
    for _ in range(30):
        limiter.complained(None, limited=False)
    assert limiter.window == 32.0
    for _ in range(20):
        clock.now += 2.0
        limiter.complained(None, limited=False)
    assert limiter.window == 1.0


def test_one_may_always_be_under_way(clock):
    async def run():
        limiter = rate_limit.RateLimiter(4, clock=clock)
        for _ in range(10):
            clock.now += 2.0
            limiter.complained(None, limited=False)
        await _enter(limiter, 1)

    asyncio.run(run())


@given(st.floats(0.01, 100.0), st.booleans())
def test_a_server_that_asks_to_wait_is_left_alone_by_everybody(seconds, limited):
    async def run():
        limiter = rate_limit.RateLimiter(8, clock=clock)
        await _enter(limiter, 1)
        start = clock.now
        limiter.complained(seconds, limited=limited)
        await _enter(limiter, 1)
        assert seconds - 1e-6 <= clock.now - start <= seconds + 2.5

    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rate_limit, "asyncio", types.SimpleNamespace(Event=asyncio.Event, sleep=clock.sleep))
        asyncio.run(run())


def test_a_shorter_wait_does_not_end_a_longer_one(clock):
    async def run():
        limiter = rate_limit.RateLimiter(8, clock=clock)
        start = clock.now
        limiter.complained(10.0, limited=False)
        limiter.complained(1.0, limited=True)
        await _enter(limiter, 1)
        assert 10.0 - 1e-6 <= clock.now - start <= 12.5

    asyncio.run(run())


def test_it_waits_where_an_answer_says_that_the_limit_is_used_up(clock):
    async def run():
        limiter = rate_limit.RateLimiter(8, clock=clock)
        limiter.answered(Limits(wait=3.0))
        start = clock.now
        await _enter(limiter, 1)
        assert clock.now - start == pytest.approx(3.0)

    asyncio.run(run())


def test_requests_are_spaced_to_the_limit_that_the_server_names(clock):
    async def run():
        limiter = rate_limit.RateLimiter(1000, clock=clock)
        limiter.window = 1000.0
        limiter.answered(Limits(per_minute=600.0))
        await _enter(limiter, 1)
        start = clock.now
        await _enter(limiter, 100)
        assert clock.now - start == pytest.approx(100 * 60 / 600, rel=0.05)
        # A pause is not made up for in a burst (but for a tenth of a second's worth, which a late timer may cost).
        clock.now += 60.0
        start = clock.now
        await _enter(limiter, 50)
        assert clock.now - start >= 50 * 60 / 600 - 0.3

    asyncio.run(run())


async def _answered_at(limiter, clock, count, rate):
    """A server that answers so many a second; returns the seconds that it took."""
    start = clock.now
    for i in range(count):
        await _enter(limiter, 1)
        clock.now = max(clock.now, start + i / rate)
        limiter.leave()
        limiter.answered(Limits())
    return clock.now - start


def test_asked_too_often_without_a_word_on_limits_they_are_spaced_to_what_was_answered(clock):
    async def run():
        limiter = rate_limit.RateLimiter(64, clock=clock)
        await _answered_at(limiter, clock, 400, 100.0)
        for _ in range(200):
            limiter.complained(None, limited=True)
        seconds = await _answered_at(limiter, clock, 100, 1e6)
        assert 0.3 < seconds < 1.5  # without the complaint they would all go at once
        assert limiter.window == 64.0

    asyncio.run(run())


def test_one_complaint_after_a_pause_does_not_slow_everything_to_a_crawl(clock):
    """Another stage, or the end of a long `retry-after`: nothing was answered in the last seconds, which says nothing
    of the rate that the server takes."""

    async def run():
        limiter = rate_limit.RateLimiter(64, clock=clock)
        await _answered_at(limiter, clock, 400, 100.0)
        clock.now += 30.0
        limiter.complained(None, limited=True)
        assert await _answered_at(limiter, clock, 100, 1e6) < 20.0

    asyncio.run(run())


def test_where_nothing_is_said_of_limits_nothing_is_spaced(clock):
    async def run():
        limiter = rate_limit.RateLimiter(8, clock=clock)
        limiter.answered(Limits())
        start = clock.now
        await _enter(limiter, 8)
        assert clock.now == start

    asyncio.run(run())


def test_whoever_waits_is_told_to_stop():
    async def run():
        stopped = []
        limiter = rate_limit.RateLimiter(1)
        assert await limiter.enter()
        waiting = asyncio.create_task(limiter.enter(lambda: bool(stopped)))
        await asyncio.sleep(0)
        stopped.append(True)
        limiter.wake()
        assert await asyncio.wait_for(waiting, 5) is False
        assert limiter.under_way == 1
        limiter.leave()
        limiter.pause(1000.0)
        assert await asyncio.wait_for(limiter.enter(lambda: bool(stopped)), 5) is False

    asyncio.run(run())


def test_waits_grow_without_end_only_up_to_a_limit_and_differ():
    rng = random.Random(0)
    drawn = {attempt: [rate_limit.backoff(attempt, rng) for _ in range(50)] for attempt in range(1, 60)}
    for attempt, waits in drawn.items():
        longest = min(rate_limit.LONGEST_WAIT, 0.5 * 2 ** (attempt - 1))
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
        limiter = rate_limit.RateLimiter(64, clock=clock)
        tokens, filled = bucket, clock.now
        while answers < 3000:
            assert await limiter.enter()
            clock.now += 1e-4  # sending takes its time, so that even a sender without a limiter comes to an end
            tokens, filled = min(bucket, tokens + (clock.now - filled) * limit), clock.now
            if tokens >= 1:
                tokens -= 1
                answers += 1
                limiter.answered(Limits(per_minute=60 * limit if named else None))
            else:
                refusals += 1
                limiter.complained((1 - tokens) / limit, limited=True)
            limiter.leave()

    begun = clock.now
    asyncio.run(run())
    assert refusals <= refused * answers
    assert answers / (clock.now - begun) >= share * limit
