"""What the server with faults sends: answers and errors as JSON, and the state of its rate limit."""

import dataclasses
import datetime
import json
import math
import time
from typing import Any


@dataclasses.dataclass(frozen=True)
class Reply:
    """An answer; `sent` is how many bytes of the content go out before the connection is closed, None for all."""

    status: int
    content: bytes
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    content_type: str = "application/json"
    sent: int | None = None


class Bucket:
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
        full = now() + datetime.timedelta(seconds=(self._capacity - self._tokens) / self._rate)
        return {
            "anthropic-ratelimit-requests-limit": int(self._rate * 60),
            "anthropic-ratelimit-requests-remaining": int(self._tokens),
            "anthropic-ratelimit-requests-reset": rfc3339(full),
        }

    def _refill(self) -> None:
        now = time.monotonic()
        self._tokens = min(self._capacity, self._tokens + (now - self._at) * self._rate)
        self._at = now


def parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None


def words(content: str | list[dict]) -> int:
    texts = [content] if isinstance(content, str) else [block.get("text", "") for block in content]
    return sum(len(text.split()) for text in texts)


def problem(kind: str, message: str) -> dict:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": None}


def of_json(body: dict) -> Reply:
    return Reply(200, json.dumps(body).encode())


def json_line(line: dict) -> bytes:
    return json.dumps(line).encode() + b"\n"


def error(status: int, kind: str, message: str, headers: dict[str, str] | None = None) -> Reply:
    return Reply(status, json.dumps(problem(kind, message)).encode(), headers or {})


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def rfc3339(moment: datetime.datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
