"""What an invocation has asked and paid is found in the run's folder, however it ended."""

import json
import os
import signal
import subprocess
import sys

import pytest

from hydrajax import files
from hydrajax.llm import request, usage
from hydrajax.runs import accounts, invocations

ANSWER = request.Answer(text="a", stop_reason="end_turn", input_tokens=7, output_tokens=2)


class Asks:
    """Stands for a sampler that was asked."""

    def __init__(self):
        self.model, self.usage = "scripted", usage.Usage(model="scripted")

    def sample(self, requests, *, stage):
        raise AssertionError("the LLM was called")


def quiet(line):
    pass


def test_a_line_is_there_from_the_start_and_grows_with_every_call(tmp_path):
    asks = Asks()
    with invocations.noted(tmp_path, "hydrajax run", accounts.Clock(quiet), [asks]):
        for calls in range(12):
            (line,) = invocations.read(tmp_path)
            assert (line["calls"], line["input_tokens"], line["finished"]) == (calls, 7 * calls, False)
            asks.usage.add(ANSWER)
    (line,) = invocations.read(tmp_path)
    assert (line["calls"], line["finished"], line["command"]) == (12, True, "hydrajax run")
    asks.usage.add(ANSWER)  # another invocation's
    assert invocations.read(tmp_path) == [line]


def test_an_exception_leaves_it_unfinished_and_a_judge_is_noted_beside(tmp_path):
    asks, judges = Asks(), Asks()
    with (
        pytest.raises(KeyboardInterrupt),
        invocations.noted(tmp_path, "c", accounts.Clock(quiet), [asks, judges]),
    ):
        judges.usage.add(ANSWER)
        raise KeyboardInterrupt
    (line,) = invocations.read(tmp_path)
    assert (line["finished"], line["calls"], line["judge_llm"]["calls"]) == (False, 0, 1)


KILLED = """
import os, pathlib, signal, sys
from hydrajax.llm import request, usage
from hydrajax.runs import accounts, invocations
class Asks:
    model, usage = "scripted", usage.Usage(model="scripted")
    def sample(self, requests, *, stage): raise AssertionError
with invocations.noted(pathlib.Path(sys.argv[1]), "killed", accounts.Clock(print), [Asks()]):
    for _ in range(3):
        Asks.usage.add(request.Answer(text="a", stop_reason="end_turn", input_tokens=7, output_tokens=2))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_invocation_asked_is_found(tmp_path):
    killed = subprocess.run([sys.executable, "-c", KILLED, tmp_path], check=False, env=os.environ)
    assert killed.returncode == -signal.SIGKILL
    asks = Asks()
    with invocations.noted(tmp_path, "again", accounts.Clock(quiet), [asks]):
        asks.usage.add(ANSWER)
    first, second = invocations.read(tmp_path)
    assert (first["command"], first["calls"], first["finished"]) == ("killed", 3, False)
    assert (second["command"], second["calls"], second["finished"]) == ("again", 1, True)
    assert invocations.total([first, second]).startswith("4 calls, ")


def test_a_line_that_does_not_fit_stays_as_it_was(tmp_path):
    path = tmp_path / "lines"
    path.write_text('{"cut')
    start = files.append_line(path, {"n": 1}, room=3)
    files.append_line(path, {"n": "next"})
    files.rewrite_line(path, start, {"n": 1234})
    files.rewrite_line(path, start, {"n": 12345})
    assert [json.loads(line) for line in path.read_text().splitlines()[1:]] == [{"n": 1234}, {"n": "next"}]
