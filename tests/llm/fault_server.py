"""The Messages and Message Batches protocol on the loopback interface, with faults drawn by seed.

For tests of load and of recovery; where a test writes the answers by hand, the `server` of conftest is the simpler one.
It also runs in a process of its own, for tests that kill the client:

    python -m tests.llm.fault_server --port-file F --stats-file G [--seed 0] [--share 0.3] [--latency 0.01]
"""

import argparse
import asyncio
import collections
import concurrent.futures
import dataclasses
import hashlib
import json
import os
import pathlib
import re
import threading
import time
from collections.abc import Callable
from typing import Any

from tests.llm.fault_batches import Batch, BatchCalls
from tests.llm.fault_replies import Bucket, Reply, error, of_json, parsed, words
from tests.llm.faults import ERRORS, OF_BATCH_CALLS, OF_MESSAGES, STOP_REASONS, Faults, digest

_KEPT = 100  # headers and bodies that are kept for a test to look at
_MOST_BYTES = 256 * 2**20
_BATCH_PATH = re.compile("/v1/messages/batches(?:/([^/]+)(?:/(results|cancel))?)?")


_NO_FAULTS = Faults()


class FaultServer(BatchCalls):
    """A context manager; the server runs in a thread of its own while it is open.

    Args:
      faults: what goes wrong, and how often.
      seed: decides which requests it strikes, and the order of a batch's results.
      latency: seconds before an answer of status 200; errors come at once.
      rate_limit: requests a second, none by default. What exceeds it is a 429 that counts as no try of its body.
      headers: whether answers carry the state of `rate_limit`.
      batch_seconds: from a batch's creation to its end.
      text: the answer to a body, by default the start of its digest and how often it was answered before.

    Attributes:
      url: where it listens.
      requests: POST /v1/messages that arrived whole, whatever was answered.
      answered: answers of status 200 that were sent whole and hold what the API would send, and the results of
        batches that succeeded, delivered or not: what one would have paid for.
      by_fault: field of Faults -> how often it struck; "" counts the messages and results that it spared.
      limited: 429s for `rate_limit`; they are not in `by_fault`.
      bodies: digest of a body -> how often it was answered in the sense of `answered`.
      most_at_once: POST /v1/messages under way at the same time.
      batches: batch id -> its custom ids.
      archived: ids of batches whose results are no longer kept; tests fill it. Some say so when they are asked about
        the batch (no address), some only when the results are fetched (404): every other id is of either kind.
      garbled: ids of batches whose results break off in the middle of a line; tests fill it.
      headers_seen: names in lower case, of the first 100 requests to any address.
      bodies_seen: the first 100 bodies of messages, alone or in a batch.
    """

    def __init__(
        self,
        faults: Faults = _NO_FAULTS,
        *,
        seed: int = 0,
        latency: float = 0.0,
        rate_limit: float | None = None,
        headers: bool = True,
        batch_seconds: float = 0.0,
        text: Callable[[dict], str] | None = None,
        host: str = "127.0.0.1",
    ):
        self.url = ""
        self.requests = 0
        self.answered = 0
        self.by_fault: collections.Counter[str] = collections.Counter()
        self.limited = 0
        self.bodies: collections.Counter[str] = collections.Counter()
        self.most_at_once = 0
        self.batches: dict[str, list[str]] = {}
        self.archived: set[str] = set()
        self.garbled: set[str] = set()
        self.headers_seen: list[dict] = []
        self.bodies_seen: list[dict] = []
        self._faults = faults
        self._seed = seed
        self._latency = latency
        self._bucket = None if rate_limit is None else Bucket(rate_limit)
        self._headers = headers
        self._batch_seconds = batch_seconds
        self._text = text
        self._host = host
        self._tries: collections.Counter[Any] = collections.Counter()
        self._under_way = 0
        self._replies = 0
        self._batches: dict[str, Batch] = {}
        self._failure: Exception | None = None

    def __enter__(self) -> "FaultServer":
        started: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._thread = threading.Thread(target=self._run, args=(started,), name="fault server", daemon=True)
        self._thread.start()
        started.result()
        return self

    def __exit__(self, *exception):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        if self._failure is not None:  # in `text` or `rejected`; the client only saw a closed connection
            raise self._failure

    def stats(self) -> dict[str, int]:
        answers = list(self.bodies.values())  # one step to the interpreter, so the other thread cannot come between
        return {
            "requests": self.requests,
            "answered": self.answered,
            "distinct_bodies": len(answers),
            "most_per_body": max(answers, default=0),
        }

    def _run(self, started: concurrent.futures.Future[None]) -> None:
        try:
            asyncio.run(self._serve(started))
        except Exception as error:
            if started.done():
                raise
            started.set_exception(error)

    async def _serve(self, started: concurrent.futures.Future[None]) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._connection, self._host, 0, backlog=4096, limit=2**20)
        self.url = f"http://{self._host}:{server.sockets[0].getsockname()[1]}"
        started.set_result(None)
        await self._stop.wait()
        server.close()  # the connections end with their tasks, which asyncio.run cancels

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._exchange(reader, writer):
                pass
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass  # the client is gone, or is none
        except asyncio.CancelledError:
            writer.transport.abort()
            raise
        except Exception as error:
            self._failure = error
        finally:
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answers one request; returns whether the connection stays open."""
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head[:-4].decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", 0))
        if length > _MOST_BYTES:
            reply = error(413, "request_too_large", f"{length} bytes, expected at most {_MOST_BYTES}")
            last = True
        else:
            content = await reader.readexactly(length)
            if len(self.headers_seen) < _KEPT:
                self.headers_seen.append(headers)
            method, target, _ = first.split(" ")
            reply = await self._reply(method, target, content, hung_up=reader.at_eof)
            last = headers.get("connection", "").lower() == "close"
        if reply is None:
            return False
        # Nothing is awaited between the count of an answer and this line, so equal bodies get different answers.
        writer.write(self._head(reply) + reply.content[: reply.sent])
        await writer.drain()
        return not last and reply.sent is None

    def _head(self, reply: "Reply") -> bytes:
        self._replies += 1
        headers = {
            "content-type": reply.content_type,
            "content-length": len(reply.content),
            "request-id": f"req_{self._replies:024d}",
            **reply.headers,
        }
        if self._bucket is not None and self._headers:
            headers |= self._bucket.headers()
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"HTTP/1.1 {reply.status} \r\n{lines}\r\n".encode("latin-1")

    async def _reply(self, method: str, target: str, content: bytes, hung_up: Callable[[], bool]) -> "Reply | None":
        """What is sent, None to close the connection without an answer."""
        path, _, query = target.partition("?")
        if (method, path) == ("POST", "/v1/messages"):
            self.requests += 1
            self._under_way += 1
            self.most_at_once = max(self.most_at_once, self._under_way)
            try:
                return await self._message(content, hung_up)
            finally:
                self._under_way -= 1
        if (found := _BATCH_PATH.fullmatch(path)) is None:
            return error(404, "not_found_error", f"{method} {path} is not served here")
        call = (method, path, hashlib.sha256(content).hexdigest())
        fault = self._faults.draw(OF_BATCH_CALLS, self._seed, self._try(call), *call)
        if fault:
            self.by_fault[fault] += 1
            return error(*ERRORS[fault], "injected")
        return await self._batch_call(method, *found.groups(), query, content)

    def _try(self, key: Any) -> int:
        """How often it was called with this key before."""
        self._tries[key] += 1
        return self._tries[key] - 1

    async def _message(self, content: bytes, hung_up: Callable[[], bool]) -> "Reply | None":
        body = parsed(content)
        self._keep(body)
        if self._bucket is not None and (wait := self._bucket.take()):
            self.limited += 1
            return error(429, "rate_limit_error", "too many requests", {"retry-after": f"{wait:.3f}"})
        if reason := self._refused(body):
            return error(400, "invalid_request_error", reason)
        key = digest(body)
        number = self._try(key)
        fault = self._faults.draw(OF_MESSAGES, self._seed, number, key)
        self.by_fault[fault] += 1
        if fault in ERRORS:
            headers = {"retry-after": f"{self._faults.retry_after:g}"} if fault == "rate_limited" else {}
            return error(*ERRORS[fault], "injected", headers)
        if fault == "timeout":
            await asyncio.sleep(self._faults.hang)
            return None
        if self._latency:
            await asyncio.sleep(self._latency)
        if hung_up():
            return None
        reply = of_json(self._answer(body, key, fault))
        half = len(reply.content) // 2
        if fault == "dropped":
            return dataclasses.replace(reply, sent=half)
        if fault == "invalid_json":
            if number % 2:
                return Reply(200, b"<html><body>Please log in.</body></html>", content_type="text/html")
            return dataclasses.replace(reply, content=reply.content[:half])
        self._paid(key)
        return reply

    def _keep(self, body: Any) -> None:
        if len(self.bodies_seen) < _KEPT:
            self.bodies_seen.append(body)

    def _refused(self, body: Any) -> str:
        """Why the API would refuse the body for good, or ""."""
        if not isinstance(body, dict):
            return "the body is not a JSON object"
        for name, kind in (("model", str), ("max_tokens", int), ("messages", list)):
            if not isinstance(body.get(name), kind) or not body[name]:
                return f"{name}: got {body.get(name)!r}, expected a {kind.__name__}"
        if not all(isinstance(message, dict) and "content" in message for message in body["messages"]):
            return "messages: expected objects with a content"
        if body.get("stream"):
            return "stream: answers are not streamed here"
        if self._faults.rejected(body):
            self.by_fault["rejected"] += 1
            return "injected"
        return ""

    def _answer(self, body: dict, key: str, fault: str) -> dict:
        number = self.bodies[key]
        text = f"answer {key[:8]} {number}" if self._text is None else self._text(body)
        content = [] if fault == "empty" else [{"type": "text", "text": text}]
        return {
            "id": f"msg_{key[:16]}{number:08d}",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": content,
            "stop_reason": STOP_REASONS.get(fault, "end_turn"),
            "stop_sequence": None,
            "stop_details": {"type": "refusal", "category": None, "explanation": None} if fault == "refusal" else None,
            "usage": {
                "input_tokens": sum(words(message["content"]) for message in body["messages"]),
                "output_tokens": words(content),
                "cache_read_input_tokens": 0,
                "cache_creation_input_tokens": 0,
            },
        }

    def _paid(self, key: str) -> None:
        self.answered += 1
        self.bodies[key] += 1


def _write(path: pathlib.Path, text: str) -> None:
    """Whoever reads the file finds it whole."""
    new = path.with_name(path.name + ".new")
    new.write_text(text)
    os.replace(new, path)


def main() -> None:
    parser = argparse.ArgumentParser(description="Serves until it is killed.")
    parser.add_argument("--port-file", type=pathlib.Path, required=True, help="gets the port")
    parser.add_argument("--stats-file", type=pathlib.Path, required=True, help="gets the counts, 20 times a second")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=float, default=0.0, help="of requests that go wrong, in six ways alike")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before an answer")
    args = parser.parse_args()
    wrong = (*ERRORS, "dropped", "invalid_json")
    faults = Faults(**dict.fromkeys(wrong, args.share / len(wrong)))
    with FaultServer(faults, seed=args.seed, latency=args.latency) as server:
        _write(args.stats_file, json.dumps(server.stats()))
        _write(args.port_file, server.url.rpartition(":")[2])
        while True:
            time.sleep(0.05)
            _write(args.stats_file, json.dumps(server.stats()))


if __name__ == "__main__":
    main()
