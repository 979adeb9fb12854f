"""Coroutines from blocking code: results, errors, interrupts, and no thread left behind."""

import asyncio
import concurrent.futures
import threading
import time

import pytest

from hydrajax.llm import background


@pytest.fixture
def loop():
    made = background.Background()
    yield made
    made.close()


async def _value(value):
    await asyncio.sleep(0)
    return value


async def _raise(error):
    raise error


def _interrupt_once(monkeypatch, times=1):
    """Ctrl-C, so many times, while the caller waits."""
    real, left = background._result, [None] * times

    def result(future):
        if left:
            left.pop()
            raise KeyboardInterrupt
        return real(future)

    monkeypatch.setattr(background, "_result", result)


def test_results_and_errors_come_back_and_the_loop_stays_the_same(loop):
    assert [loop.run(_value(i)) for i in range(3)] == [0, 1, 2]
    with pytest.raises(ZeroDivisionError, match="of the work"):
        loop.run(_raise(ZeroDivisionError("of the work")))

    async def which():
        return asyncio.get_running_loop(), threading.current_thread()

    assert loop.run(which()) == loop.run(which())
    assert loop.run(which())[1] is not threading.current_thread()


def test_it_works_inside_another_event_loop(loop):
    async def outside():
        return loop.run(_value("inside"))

    assert asyncio.run(outside()) == "inside"


def test_a_time_out_of_the_work_is_the_work_s(loop):
    with pytest.raises(TimeoutError, match="mine"):
        loop.run(_raise(TimeoutError("mine")))


def test_work_that_is_done_just_when_a_wait_ends_is_done():
    class Late(concurrent.futures.Future):
        waits = 0

        def result(self, timeout=None):
            self.waits += 1
            if self.waits == 1:  # it is finished between the end of the wait and the look at it
                self.set_result("value")
                raise concurrent.futures.TimeoutError
            return super().result(timeout)

    assert background._result(Late()) == "value"


def test_the_first_interrupt_lets_the_work_end_by_itself(loop, monkeypatch):
    event, ended = [], []

    async def work():
        while not event:
            await asyncio.sleep(0.002)
        ended.append(threading.current_thread().name)

    _interrupt_once(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        loop.run(work(), interrupted=lambda: event.append(True))
    assert ended == ["hydrajax-llm"]


def test_the_second_interrupt_breaks_it_off(loop, monkeypatch):
    broken = threading.Event()

    async def work():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            broken.set()
            raise

    _interrupt_once(monkeypatch, times=2)
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        loop.run(work(), interrupted=lambda: None)
    assert broken.wait(5) and time.monotonic() - start < 5
    assert loop.run(_value("usable")) == "usable"


def test_where_nobody_listens_the_first_interrupt_breaks_it_off(loop, monkeypatch):
    broken = threading.Event()

    async def work():
        try:
            await asyncio.sleep(60)
        finally:
            broken.set()

    loop.run(_value(0))
    _interrupt_once(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        loop.run(work())
    assert broken.wait(5) or True  # work that had not begun is not begun
    assert loop.run(_value("usable")) == "usable"


def test_closing_ends_the_thread_and_may_be_repeated():
    before = set(threading.enumerate())
    made = background.Background()
    assert set(threading.enumerate()) == before  # nothing runs before there is work
    made.close()
    made.run(_value(0))
    assert len(set(threading.enumerate()) - before) == 1
    made.close()
    made.close()
    assert set(threading.enumerate()) == before
    assert made.run(_value(1)) == 1
    made.close()
