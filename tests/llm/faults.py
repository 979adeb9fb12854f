"""What goes wrong at the other end of the protocol, and how often: drawn by seed."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence

# Field of Faults -> status and type of the error it stands for.
ERRORS = {
    "rate_limited": (429, "rate_limit_error"),
    "rate_limited_bare": (429, "rate_limit_error"),
    "overloaded": (529, "overloaded_error"),
    "server_error": (500, "api_error"),
}
STOP_REASONS = {"empty": "end_turn", "refusal": "refusal", "truncated": "max_tokens"}

# What one draw decides between. A share is exact, as at most one fault of a group strikes.
OF_MESSAGES = (*ERRORS, "timeout", "dropped", "invalid_json", *STOP_REASONS)
OF_BATCH_CALLS = ("overloaded", "server_error")
OF_RESULTS = ("expired", "errored", *STOP_REASONS)
OF_DELIVERY = ("missing", "duplicated")


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
        for group in (OF_MESSAGES, OF_RESULTS, OF_DELIVERY):
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
    """SHA-256 of the body's canonical JSON, the key of `fault_server.FaultServer.bodies`."""
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
