"""The calls of the Message Batches protocol, for the server with faults."""

import asyncio
import collections
import datetime
import hashlib
import random
import re
import urllib.parse
from typing import Any

from tests.llm.fault_replies import Reply, error, json_line, now, of_json, parsed, problem, rfc3339
from tests.llm.faults import OF_DELIVERY, OF_RESULTS, digest

_MOST_PER_BATCH = 100_000
_CUSTOM_ID = re.compile("[a-zA-Z0-9_-]{1,64}")


class BatchCalls:
    """The part of a `FaultServer` that makes, lists, ends and cancels batches."""

    async def _batch_call(
        self, method: str, batch_id: str | None, action: str | None, query: str, content: bytes
    ) -> "Reply":
        if batch_id is None:
            if method == "POST":
                return self._create_batch(parsed(content))
            if method == "GET":
                return await self._list_batches(dict(urllib.parse.parse_qsl(query)))
        elif (batch := self._batches.get(batch_id)) is None:
            return error(404, "not_found_error", f"there is no batch {batch_id}")
        else:
            await self._catch_up(batch)
            if (method, action) == ("GET", None):
                return of_json(self._shown(batch))
            if (method, action) == ("GET", "results"):
                if not batch.ended.is_set() or batch_id in self.archived:
                    return error(404, "not_found_error", f"batch {batch_id} has not ended")
                whole = len(batch.results) if batch_id not in self.garbled else len(batch.results) // 2
                return Reply(200, batch.results[:whole], content_type="application/x-jsonl")
            if (method, action) == ("POST", "cancel"):
                return self._cancel_batch(batch)
        return error(405, "invalid_request_error", f"{method} is not served at this address")

    def _create_batch(self, body: Any) -> "Reply":
        requests = body.get("requests") if isinstance(body, dict) else None
        if reason := _invalid_batch(requests):
            return error(400, "invalid_request_error", reason)
        number = len(self._batches)
        key = hashlib.sha256(f"{self._seed} {number}".encode()).hexdigest()[:24]
        batch = Batch(f"msgbatch_{key}", requests, ends=self._loop.time() + self._batch_seconds)
        self.batches[batch.id] = [request["custom_id"] for request in requests]
        self._batches[batch.id] = batch
        reply = of_json(self._shown(batch))
        batch.work = self._loop.create_task(self._work(batch))
        return reply

    async def _work(self, batch: "Batch") -> None:
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
                delivery = self._faults.draw(OF_DELIVERY, self._seed, tried, key)
                if delivery:
                    self.by_fault[delivery] += 1
                line = json_line({"custom_id": request["custom_id"], "result": result})
                lines += [line] * {"missing": 0, "": 1, "duplicated": 2}[delivery]
                if number % 500 == 499:
                    await asyncio.sleep(0)
        except Exception as error:
            self._failure = error
        self._end(batch, lines)

    def _result(self, body: dict, key: str, tried: int) -> dict:
        if reason := self._refused(body):
            return {"type": "errored", "error": problem("invalid_request_error", reason)}
        fault = self._faults.draw(OF_RESULTS, self._seed, tried, key)
        self.by_fault[fault] += 1
        if fault == "expired":
            return {"type": "expired"}
        if fault == "errored":
            return {"type": "errored", "error": problem("api_error", "injected")}
        answer = self._answer(body, key, fault)
        self._paid(key)
        return {"type": "succeeded", "message": answer}

    def _end(self, batch: "Batch", lines: list[bytes]) -> None:
        random.Random(f"{self._seed} {batch.id}").shuffle(lines)
        batch.results = b"".join(lines)
        batch.requests = []
        batch.ended_at = now()
        batch.ended.set()

    async def _catch_up(self, batch: "Batch") -> None:
        if self._loop.time() >= batch.ends:
            await batch.ended.wait()

    def _cancel_batch(self, batch: "Batch") -> "Reply":
        if batch.ended.is_set():
            return error(400, "invalid_request_error", f"batch {batch.id} has ended")
        batch.work.cancel()  # it sleeps: what is due is waited for before
        batch.canceled_at = now()
        reply = of_json(self._shown(batch))
        batch.counts["canceled"] = len(batch.requests)
        canceled = {"type": "canceled"}
        self._end(batch, [json_line({"custom_id": name, "result": canceled}) for name in self.batches[batch.id]])
        return reply

    async def _list_batches(self, query: dict[str, str]) -> "Reply":
        newest_first = list(reversed(self._batches))
        after = query.get("after_id")
        if after is not None and after not in self._batches:
            return error(400, "invalid_request_error", f"after_id: there is no batch {after}")
        left = newest_first[0 if after is None else newest_first.index(after) + 1 :]
        page = left[: int(query.get("limit", 20))]
        for name in page:
            await self._catch_up(self._batches[name])
        return of_json(
            {
                "data": [self._shown(self._batches[name]) for name in page],
                "has_more": len(page) < len(left),
                "first_id": page[0] if page else None,
                "last_id": page[-1] if page else None,
            }
        )

    def _shown(self, batch: "Batch") -> dict:
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
            "created_at": rfc3339(batch.created_at),
            "expires_at": rfc3339(batch.created_at + datetime.timedelta(days=1)),
            "ended_at": rfc3339(batch.ended_at),
            "cancel_initiated_at": rfc3339(batch.canceled_at),
            "archived_at": rfc3339(batch.ended_at) if archived else None,
            "results_url": address if ended and not (archived and sorted(self.archived).index(batch.id) % 2) else None,
        }


class Batch:
    """A batch under way or ended, which is when its requests have made room for its results."""

    def __init__(self, batch_id: str, requests: list[dict], ends: float):
        self.id = batch_id
        self.requests = requests
        self.ends = ends
        self.results = b""
        self.counts: collections.Counter[str] = collections.Counter()
        self.created_at = now()
        self.canceled_at: datetime.datetime | None = None
        self.ended_at: datetime.datetime | None = None
        self.ended = asyncio.Event()
        self.work: asyncio.Task[None]


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
