"""An event loop in a thread of its own, so that blocking code, and code inside another event loop, can use it."""

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Background:
    """Runs coroutines one after another in a thread that starts with the first of them."""

    def __init__(self):
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def run(self, work: Coroutine[Any, Any, T], *, interrupted: Callable[[], None] | None = None) -> T:
        """Runs a coroutine to its end.

        Args:
          work: what to run.
          interrupted: called in the loop's thread at the first Ctrl-C, so that the work can come to an end by itself;
            KeyboardInterrupt is raised when it has. A second Ctrl-C breaks it off.
        """
        future = asyncio.run_coroutine_threadsafe(work, self._started())
        try:
            return _result(future)
        except KeyboardInterrupt:
            if interrupted is None or self._loop is None:
                future.cancel()
                raise
            self._loop.call_soon_threadsafe(interrupted)
            try:
                _result(future)
            except KeyboardInterrupt:
                future.cancel()
            raise

    def close(self) -> None:
        if self._loop is None or self._thread is None:
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._loop = self._thread = None

    def _started(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="hydrajax-llm", daemon=True)
            self._thread.start()
        return self._loop


def _result(future: "concurrent.futures.Future[T]") -> T:
    # A wait without a limit cannot be interrupted on every system.
    while True:
        try:
            return future.result(timeout=1.0)
        except concurrent.futures.TimeoutError:
            if future.done():
                return future.result()
