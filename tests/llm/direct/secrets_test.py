"""The key is sent to the server, and is nowhere else."""

import contextlib
import logging
import sqlite3

import pytest

from hydrajax.llm import request
from tests.llm.direct.conftest import SECRET, SIX, asked
from tests.llm.fault_server import FaultServer
from tests.llm.faults import Faults


@pytest.mark.slow
def test_the_key_is_nowhere(make, ask, answers, caplog):
    caplog.set_level(logging.DEBUG)
    faults = Faults(**dict.fromkeys(SIX, 0.1), rejected=lambda body: body["messages"][0]["content"] == "q1")
    with FaultServer(faults) as server:
        llm = make(server)
        outcome = llm.sample_all(asked(ask, 20), stage="s")
        assert any(SECRET in value for value in server.headers_seen[0].values())
        with pytest.raises(request.LLMError) as caught:
            llm.sample(asked(ask, 20), stage="s")
    said = [caplog.text, *map(str, outcome.failures.values()), *map(repr, outcome.failures.values()), str(caught.value)]
    assert caplog.records and not [text for text in said if SECRET in text]
    with contextlib.closing(sqlite3.connect(answers.path)) as db:
        assert SECRET not in "".join(db.iterdump())


def test_a_server_that_repeats_the_key_in_its_error_does_not_spread_it(make, ask, server, reply, caplog):
    server.answer = lambda number, body: reply(f"the key {SECRET} has no access", status=400)
    outcome = make(server).sample_all([ask("q")], stage="s")
    assert SECRET not in str(outcome.failures[0]) + caplog.text
