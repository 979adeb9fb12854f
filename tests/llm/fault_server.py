"""The Messages and Message Batches protocol on the loopback interface, with faults drawn by seed.

For tests of load and of recovery; where a test writes the answers by hand, the `server` of conftest is the simpler one.
It also runs in a process of its own, for tests that kill the client:

    python tests/llm/fault_server.py --port-file F --stats-file G [--seed 0] [--share 0.3] [--latency 0.01]
"""

import argparse
import asyncio
import collections
import concurrent.futures
import dataclasses
import datetime
import hashlib
import json
import math
import os
import pathlib
import random
import re
import threading
import time
import urllib.parse
from collections.abc import Callable, Sequence
from typing import Any

# Field of Faults -> status and type of the error it stands for.
_ERRORS = {
    "rate_limited": (429, "rate_limit_error"),
    "rate_limited_bare": (429, "rate_limit_error"),
    "overloaded": (529, "overloaded_error"),
    "server_error": (500, "api_error"),
}
_STOP_REASONS = {"empty": "end_turn", "refusal": "refusal", "truncated": "max_tokens"}

# What one draw decides between. A share is exact, as at most one fault of a group strikes.
_OF_MESSAGES = (*_ERRORS, "timeout", "dropped", "invalid_json", *_STOP_REASONS)
_OF_BATCH_CALLS = ("overloaded", "server_error")
_OF_RESULTS = ("expired", "errored", *_STOP_REASONS)
_OF_DELIVERY = ("missing", "duplicated")

_KEPT = 100  # headers and bodies that are kept for a test to look at
_MOST_PER_BATCH = 100_000
_MOST_BYTES = 256 * 2**20
_CUSTOM_ID = re.compile("[a-zA-Z0-9_-]{1,64}")
_BATCH_PATH = re.compile("/v1/messages/batches(?:/([^/]+)(?:/(results|cancel))?)?")


def never(body: dict) -> bool:
    return False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Faults:
    """Shares of requests in [0, 1], drawn by the seed, the body and how often this very body was tried before.

    The order in which different requests arrive therefore changes nothing, nor do waits for the rate limit.

    Attributes:
      rate_limited, rate_limited_bare: 429 with and without a `retry-after` of `retry_after` seconds.
      overloaded, server_error: 529 and 500; the only ones that also strike the calls that manage batches.
      timeout: holds the answer for `hang` seconds, then closes the connection without one.
      dropped: closes the connection in the middle of the answer.
      invalid_json: status 200, and the answer's JSON is cut off, or it is a web page.
      empty, refusal, truncated: answers without content, or with the stop reasons `refusal` and `max_tokens`.
      rejected: whether a body is answered 400 whenever it comes.
      missing, duplicated: results that a batch leaves out or gives twice.
      expired, errored: results of these types; the error is worth another try.

    Raises:
      ValueError: the shares of faults that exclude each other exceed 1.
    """

    rate_limited: float = 0.0
    rate_limited_bare: float = 0.0
    overloaded: float = 0.0
    server_error: float = 0.0
    timeout: float = 0.0
    dropped: float = 0.0
    invalid_json: float = 0.0
    empty: float = 0.0
    refusal: float = 0.0
    truncated: float = 0.0
    retry_after: float = 0.05
    hang: float = 1.0
    rejected: Callable[[dict], bool] = never
    missing: float = 0.0
    duplicated: float = 0.0
    expired: float = 0.0
    errored: float = 0.0

    def __post_init__(self):
        for group in (_OF_MESSAGES, _OF_RESULTS, _OF_DELIVERY):
            total = sum(getattr(self, name) for name in group)
            if total > 1 + 1e-9:
                raise ValueError(f"the shares of {', '.join(group)} add up to {total:g}, expected at most 1")

    def draw(self, group: Sequence[str], *key) -> str:
        """The field of `group` that strikes what `key` names, or ""."""
        left = int.from_bytes(hashlib.sha256(repr((group, *key)).encode()).digest()[:8]) / 2**64
        for name in group:
            left -= getattr(self, name)
            if left < 0:
                return name
        return ""


def digest(body: dict) -> str:
    """SHA-256 of the body's canonical JSON, the key of `FaultServer.bodies`."""
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


_NO_FAULTS = Faults()


class FaultServer:
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
        self._bucket = None if rate_limit is None else _Bucket(rate_limit)
        self._headers = headers
        self._batch_seconds = batch_seconds
        self._text = text
        self._host = host
        self._tries: collections.Counter[Any] = collections.Counter()
        self._under_way = 0
        self._replies = 0
        self._batches: dict[str, _Batch] = {}
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
            reply = _error(413, "request_too_large", f"{length} bytes, expected at most {_MOST_BYTES}")
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

    def _head(self, reply: "_Reply") -> bytes:
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

    async def _reply(self, method: str, target: str, content: bytes, hung_up: Callable[[], bool]) -> "_Reply | None":
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
            return _error(404, "not_found_error", f"{method} {path} is not served here")
        call = (method, path, hashlib.sha256(content).hexdigest())
        fault = self._faults.draw(_OF_BATCH_CALLS, self._seed, self._try(call), *call)
        if fault:
            self.by_fault[fault] += 1
            return _error(*_ERRORS[fault], "injected")
        return await self._batch_call(method, *found.groups(), query, content)

    def _try(self, key: Any) -> int:
        """How often it was called with this key before."""
        self._tries[key] += 1
        return self._tries[key] - 1

    async def _message(self, content: bytes, hung_up: Callable[[], bool]) -> "_Reply | None":
        body = _parsed(content)
        self._keep(body)
        if self._bucket is not None and (wait := self._bucket.take()):
            self.limited += 1
            return _error(429, "rate_limit_error", "too many requests", {"retry-after": f"{wait:.3f}"})
        if reason := self._refused(body):
            return _error(400, "invalid_request_error", reason)
        key = digest(body)
        number = self._try(key)
        fault = self._faults.draw(_OF_MESSAGES, self._seed, number, key)
        self.by_fault[fault] += 1
        if fault in _ERRORS:
            headers = {"retry-after": f"{self._faults.retry_after:g}"} if fault == "rate_limited" else {}
            return _error(*_ERRORS[fault], "injected", headers)
        if fault == "timeout":
            await asyncio.sleep(self._faults.hang)
            return None
        if self._latency:
            await asyncio.sleep(self._latency)
        if hung_up():
            return None
        reply = _json(self._answer(body, key, fault))
        half = len(reply.content) // 2
        if fault == "dropped":
            return dataclasses.replace(reply, sent=half)
        if fault == "invalid_json":
            if number % 2:
                return _Reply(200, b"<html><body>Please log in.</body></html>", content_type="text/html")
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
            "stop_reason": _STOP_REASONS.get(fault, "end_turn"),
            "stop_sequence": None,
            "stop_details": {"type": "refusal", "category": None, "explanation": None} if fault == "refusal" else None,
            "usage": {
                "input_tokens": sum(_words(message["content"]) for message in body["messages"]),
                "output_tokens": _words(content),
                "cache_read_input_tokens": 0,
                "cache_creation_input_tokens": 0,
            },
        }

    def _paid(self, key: str) -> None:
        self.answered += 1
        self.bodies[key] += 1

    async def _batch_call(
        self, method: str, batch_id: str | None, action: str | None, query: str, content: bytes
    ) -> "_Reply":
        if batch_id is None:
            if method == "POST":
                return self._create_batch(_parsed(content))
            if method == "GET":
                return await self._list_batches(dict(urllib.parse.parse_qsl(query)))
        elif (batch := self._batches.get(batch_id)) is None:
            return _error(404, "not_found_error", f"there is no batch {batch_id}")
        else:
            await self._catch_up(batch)
            if (method, action) == ("GET", None):
                return _json(self._shown(batch))
            if (method, action) == ("GET", "results"):
                if not batch.ended.is_set() or batch_id in self.archived:
                    return _error(404, "not_found_error", f"batch {batch_id} has not ended")
                whole = len(batch.results) if batch_id not in self.garbled else len(batch.results) // 2
                return _Reply(200, batch.results[:whole], content_type="application/x-jsonl")
            if (method, action) == ("POST", "cancel"):
                return self._cancel_batch(batch)
        return _error(405, "invalid_request_error", f"{method} is not served at this address")

    def _create_batch(self, body: Any) -> "_Reply":
        requests = body.get("requests") if isinstance(body, dict) else None
        if reason := _invalid_batch(requests):
            return _error(400, "invalid_request_error", reason)
        number = len(self._batches)
        key = hashlib.sha256(f"{self._seed} {number}".encode()).hexdigest()[:24]
        batch = _Batch(f"msgbatch_{key}", requests, ends=self._loop.time() + self._batch_seconds)
        self.batches[batch.id] = [request["custom_id"] for request in requests]
        self._batches[batch.id] = batch
        reply = _json(self._shown(batch))
        batch.work = self._loop.create_task(self._work(batch))
        return reply

    async def _work(self, batch: "_Batch") -> None:
        await asyncio.sleep(self._batch_seconds)
        lines: list[bytes] = []
        try:
            for number, request in enumerate(batch.requests):
                body = request["params"]
                self._keep(body)
                key = digest(body)
                tried = self._try(key)
                result = self._result(body, key, tried)
                batch.counts[result["type"]] += 1
                delivery = self._faults.draw(_OF_DELIVERY, self._seed, tried, key)
                if delivery:
                    self.by_fault[delivery] += 1
                line = _jsonl({"custom_id": request["custom_id"], "result": result})
                lines += [line] * {"missing": 0, "": 1, "duplicated": 2}[delivery]
                if number % 500 == 499:
                    await asyncio.sleep(0)
        except Exception as error:
            self._failure = error
        self._end(batch, lines)

    def _result(self, body: dict, key: str, tried: int) -> dict:
        if reason := self._refused(body):
            return {"type": "errored", "error": _problem("invalid_request_error", reason)}
        fault = self._faults.draw(_OF_RESULTS, self._seed, tried, key)
        self.by_fault[fault] += 1
        if fault == "expired":
            return {"type": "expired"}
        if fault == "errored":
            return {"type": "errored", "error": _problem("api_error", "injected")}
        answer = self._answer(body, key, fault)
        self._paid(key)
        return {"type": "succeeded", "message": answer}

    def _end(self, batch: "_Batch", lines: list[bytes]) -> None:
        random.Random(f"{self._seed} {batch.id}").shuffle(lines)
        batch.results = b"".join(lines)
        batch.requests = []
        batch.ended_at = _now()
        batch.ended.set()

    async def _catch_up(self, batch: "_Batch") -> None:
        if self._loop.time() >= batch.ends:
            await batch.ended.wait()

    def _cancel_batch(self, batch: "_Batch") -> "_Reply":
        if batch.ended.is_set():
            return _error(400, "invalid_request_error", f"batch {batch.id} has ended")
        batch.work.cancel()  # it sleeps: what is due is waited for before
        batch.canceled_at = _now()
        reply = _json(self._shown(batch))
        batch.counts["canceled"] = len(batch.requests)
        canceled = {"type": "canceled"}
        self._end(batch, [_jsonl({"custom_id": name, "result": canceled}) for name in self.batches[batch.id]])
        return reply

    async def _list_batches(self, query: dict[str, str]) -> "_Reply":
        newest_first = list(reversed(self._batches))
        after = query.get("after_id")
        if after is not None and after not in self._batches:
            return _error(400, "invalid_request_error", f"after_id: there is no batch {after}")
        left = newest_first[0 if after is None else newest_first.index(after) + 1 :]
        page = left[: int(query.get("limit", 20))]
        for name in page:
            await self._catch_up(self._batches[name])
        return _json(
            {
                "data": [self._shown(self._batches[name]) for name in page],
                "has_more": len(page) < len(left),
                "first_id": page[0] if page else None,
                "last_id": page[-1] if page else None,
            }
        )

    def _shown(self, batch: "_Batch") -> dict:
        ended = batch.ended.is_set()
        kinds = ("succeeded", "errored", "canceled", "expired")
        archived = batch.id in self.archived
        address = f"{self.url}/v1/messages/batches/{batch.id}/results"
        return {
            "id": batch.id,
            "type": "message_batch",
            "processing_status": "ended" if ended else "in_progress" if batch.canceled_at is None else "canceling",
            "request_counts": {"processing": len(batch.requests)}
            | {kind: batch.counts[kind] * ended for kind in kinds},
            "created_at": _rfc3339(batch.created_at),
            "expires_at": _rfc3339(batch.created_at + datetime.timedelta(days=1)),
            "ended_at": _rfc3339(batch.ended_at),
            "cancel_initiated_at": _rfc3339(batch.canceled_at),
            "archived_at": _rfc3339(batch.ended_at) if archived else None,
            "results_url": address if ended and not (archived and sorted(self.archived).index(batch.id) % 2) else None,
        }


@dataclasses.dataclass(frozen=True)
class _Reply:
    """An answer; `sent` is how many bytes of the content go out before the connection is closed, None for all."""

    status: int
    content: bytes
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    content_type: str = "application/json"
    sent: int | None = None


class _Batch:
    """A batch under way or ended, which is when its requests have made room for its results."""

    def __init__(self, batch_id: str, requests: list[dict], ends: float):
        self.id = batch_id
        self.requests = requests
        self.ends = ends
        self.results = b""
        self.counts: collections.Counter[str] = collections.Counter()
        self.created_at = _now()
        self.canceled_at: datetime.datetime | None = None
        self.ended_at: datetime.datetime | None = None
        self.ended = asyncio.Event()
        self.work: asyncio.Task[None]


class _Bucket:
    """Tokens that are refilled all the time, at most a tenth of a second's worth."""

    def __init__(self, rate: float):
        self._rate = rate
        self._capacity = self._tokens = max(1.0, rate / 10)
        self._at = time.monotonic()

    def take(self) -> float:
        """Takes a token and returns 0.0, or returns the seconds until there is one, rounded up to a millisecond."""
        self._refill()
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return math.ceil((1 - self._tokens) / self._rate * 1000) / 1000

    def headers(self) -> dict[str, Any]:
        self._refill()
        full = _now() + datetime.timedelta(seconds=(self._capacity - self._tokens) / self._rate)
        return {
            "anthropic-ratelimit-requests-limit": int(self._rate * 60),
            "anthropic-ratelimit-requests-remaining": int(self._tokens),
            "anthropic-ratelimit-requests-reset": _rfc3339(full),
        }

    def _refill(self) -> None:
        now = time.monotonic()
        self._tokens = min(self._capacity, self._tokens + (now - self._at) * self._rate)
        self._at = now


def _invalid_batch(requests: Any) -> str:
    """Why a batch of these requests is not created, or ""."""
    if not isinstance(requests, list) or not 0 < len(requests) <= _MOST_PER_BATCH:
        got = f"{len(requests)} of them" if isinstance(requests, list) else "no list"
        return f"requests: got {got}, expected 1 to {_MOST_PER_BATCH}"
    seen = set()
    for number, request in enumerate(requests):
        name = request.get("custom_id") if isinstance(request, dict) else None
        if not isinstance(name, str) or not _CUSTOM_ID.fullmatch(name):
            return f"requests.{number}.custom_id: got {name!r}, expected ^{_CUSTOM_ID.pattern}$"
        if name in seen:
            return f"requests.{number}.custom_id: {name!r} comes twice"
        if not isinstance(request.get("params"), dict):
            return f"requests.{number}.params: expected an object"
        seen.add(name)
    return ""


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None


def _words(content: str | list[dict]) -> int:
    texts = [content] if isinstance(content, str) else [block.get("text", "") for block in content]
    return sum(len(text.split()) for text in texts)


def _problem(kind: str, message: str) -> dict:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": None}


def _json(body: dict) -> _Reply:
    return _Reply(200, json.dumps(body).encode())


def _jsonl(line: dict) -> bytes:
    return json.dumps(line).encode() + b"\n"


def _error(status: int, kind: str, message: str, headers: dict[str, str] | None = None) -> _Reply:
    return _Reply(status, json.dumps(_problem(kind, message)).encode(), headers or {})


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _rfc3339(moment: datetime.datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


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
    wrong = (*_ERRORS, "dropped", "invalid_json")
    faults = Faults(**dict.fromkeys(wrong, args.share / len(wrong)))
    with FaultServer(faults, seed=args.seed, latency=args.latency) as server:
        _write(args.stats_file, json.dumps(server.stats()))
        _write(args.port_file, server.url.rpartition(":")[2])
        while True:
            time.sleep(0.05)
            _write(args.stats_file, json.dumps(server.stats()))


if __name__ == "__main__":
    main()
