import http.server
import json
import threading

import pytest

from hydrajax.llm import request, store
from hydrajax.types import Message


def reply(text="answer", *, status=200, headers=None, **fields):
    """What the server below sends: a Messages answer, or with another status an error whose message is `text`."""
    if status == 200:
        body = {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "m",
            "content": [{"type": "text", "text": text}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": 7, "output_tokens": 3},
        } | fields
    else:
        body = {"type": "error", "error": {"type": "some_error", "message": text}}
    return status, headers or {}, json.dumps(body).encode()


class Server(http.server.ThreadingHTTPServer):
    """The other end of the Messages protocol, on the loopback interface.

    `answer(number, body)` says what the request of this number (from 0) gets; what came in is kept.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.bodies: list[dict] = []
        self.headers: list[dict] = []
        self.lock = threading.Lock()
        self.answer = lambda number, body: reply(f"answer to {body['messages'][-1]['content']}")

    def handle_error(self, request, client_address):
        """A client that was killed is no longer there to be answered; anything else shows on the client's side."""


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with self.server.lock:
            number = len(self.server.bodies)
            self.server.bodies.append(body)
            self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
        if self.path != "/v1/messages":
            status, headers, content = reply("no such address", status=404)
        else:
            status, headers, content = self.server.answer(number, body)
        self.send_response(status)
        for name, value in {"content-type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(name="reply")
def _reply():
    return reply


@pytest.fixture
def ask():
    """Makes a request of one user turn."""

    def make(text="hello", **rest) -> request.Request:
        return request.Request(messages=(Message(role="user", text=text),), **({"max_tokens": 9} | rest))

    return make


@pytest.fixture
def answers(tmp_path):
    """A store of the test's own, closed at its end."""
    opened = store.Store(tmp_path / "answers.sqlite")
    yield opened
    opened.close()
