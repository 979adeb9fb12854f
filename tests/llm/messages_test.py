import asyncio
import socket
import time

import pytest

from hydrajax.llm import messages, request
from hydrajax.types import Message

CLAUDE = "claude-haiku-4-5-20251001"  # takes a temperature
UNLISTED = "claude-of-the-future-9"  # is not listed, so it is sent none


@pytest.fixture
def call(server):
    """Sends one request to the test's server."""

    def send(wanted, model=CLAUDE, **settings):
        async def once():
            client = messages.Messages(model, **({"base_url": server.url, "api_key": "key"} | settings))
            try:
                return await client.complete(wanted)
            finally:
                await client.close()

        return asyncio.run(once())

    return send


def test_a_request_is_sent_in_full(server, call):
    turns = (Message(role="user", text="a"), Message(role="assistant", text="b"), Message(role="user", text="c"))
    call(request.Request(messages=turns, max_tokens=9, temperature=0.5, system="be brief", sample=4))
    assert server.bodies == [
        {
            "model": CLAUDE,
            "max_tokens": 9,
            "temperature": 0.5,
            "system": "be brief",
            "messages": [
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": "b"},
                {"role": "user", "content": "c"},
            ],
        }
    ]
    assert "key" in (server.headers[0].get("x-api-key"), server.headers[0].get("authorization", "")[len("Bearer ") :])


@pytest.mark.parametrize(
    ("model", "temperature", "sent"),
    [(CLAUDE, 0.0, True), (CLAUDE, None, False), (UNLISTED, 0.0, False), (UNLISTED, 1.0, False)],
)
def test_a_temperature_is_sent_to_models_that_take_one(server, call, ask, model, temperature, sent):
    call(ask(temperature=temperature), model)
    assert ("temperature" in server.bodies[0]) == sent
    assert "system" not in server.bodies[0]


def test_text_blocks_are_joined_and_thinking_is_not(server, call, ask, reply):
    blocks = [
        {"type": "thinking", "thinking": "hm", "signature": "x"},
        {"type": "text", "text": "one "},
        {"type": "text", "text": "two"},
    ]
    server.answer = lambda number, body: reply(content=blocks)
    assert call(ask()).text == "one two"


@pytest.mark.parametrize("stop", ["end_turn", "max_tokens", "refusal", "model_context_window_exceeded"])
def test_why_it_stopped_is_recorded(server, call, ask, reply, stop):
    server.answer = lambda number, body: reply(content=[], stop_reason=stop)
    answer = call(ask())
    assert (answer.text, answer.stop_reason, answer.cached) == ("", stop, False)


def test_tokens_read_from_a_prompt_cache_count_as_input(server, call, ask, reply):
    usage = {
        "input_tokens": 5,
        "cache_read_input_tokens": 100,
        "cache_creation_input_tokens": 20,
        "output_tokens": 4,
    }
    server.answer = lambda number, body: reply(usage=usage)
    answer = call(ask())
    assert (answer.input_tokens, answer.output_tokens) == (125, 4)


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503, 529])
def test_what_passes_is_tried_again(server, call, ask, reply, status):
    server.answer = lambda number, body: (
        reply("wait", status=status, headers={"retry-after-ms": "5"}) if number < 2 else reply("at last")
    )
    assert call(ask()).text == "at last"
    assert len(server.bodies) == 3 and server.bodies[0] == server.bodies[2]


def test_the_server_says_how_long_to_wait(server, call, ask, reply):
    server.answer = lambda number, body: (
        reply("wait", status=429, headers={"retry-after-ms": "400"}) if number == 0 else reply()
    )
    start = time.monotonic()
    call(ask())
    assert time.monotonic() - start >= 0.4


def test_in_the_end_it_gives_up_with_the_server_s_reason(server, call, ask, reply):
    server.answer = lambda number, body: reply("overloaded today", status=529, headers={"retry-after-ms": "1"})
    with pytest.raises(request.LLMError, match=r"claude-haiku-4-5-20251001: .* 529 \(overloaded today"):
        call(ask(), max_retries=3)
    assert len(server.bodies) == 4


@pytest.mark.parametrize("status", [400, 403, 404, 413])
def test_what_is_refused_for_good_is_not_tried_again(server, call, ask, reply, status):
    server.answer = lambda number, body: reply("prompt is too long", status=status)
    with pytest.raises(request.LLMError, match=rf"the server answered {status} \(prompt is too long\)"):
        call(ask())
    assert len(server.bodies) == 1


def test_a_refused_key_is_named(server, call, ask, reply):
    server.answer = lambda number, body: reply("invalid x-api-key", status=401)
    with pytest.raises(request.LLMError, match="the API key was refused; set ANTHROPIC_API_KEY"):
        call(ask())


def test_no_key_is_one_sentence(ask):
    async def once():
        client = messages.Messages("claude-haiku-4-5")
        try:
            await client.complete(ask())
        finally:
            await client.close()

    with pytest.raises(request.LLMError, match="set ANTHROPIC_API_KEY, or use --llm local"):
        asyncio.run(once())


def test_a_missing_key_is_noticed_without_a_call(monkeypatch, tmp_path):
    monkeypatch.setenv("ANTHROPIC_CONFIG_DIR", str(tmp_path))
    with pytest.raises(request.LLMError, match="set ANTHROPIC_API_KEY, or use --llm local"):
        messages.Messages("claude-haiku-4-5").check()
    monkeypatch.setenv("ANTHROPIC_API_KEY", "a-key")
    messages.Messages("claude-haiku-4-5").check()


NO_ANSWERS = [b"<html>a proxy's page</html>", b'{"id": "x"}', b'{"content": [1]}', b"[]", b"null", b""]


@pytest.mark.parametrize("content", NO_ANSWERS)
def test_an_answer_that_is_none_is_one_sentence(server, call, ask, content):
    server.answer = lambda number, body: (200, {}, content)
    with pytest.raises(request.LLMError, match="what the server sent is not an answer in the Messages") as caught:
        call(ask(), max_retries=0)
    assert "ANTHROPIC_API_KEY" not in str(caught.value)


def test_nobody_there_is_one_sentence(call, ask):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(request.LLMError, match="claude-haiku-4-5-20251001: no connection to the server"):
        call(ask(), base_url=f"http://127.0.0.1:{port}", max_retries=0)


def test_a_server_of_one_s_own_gets_no_key_of_the_environment(server, call, ask, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "not-for-you-1")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "not-for-you-2")
    call(ask())
    assert "not-for-you" not in str(server.headers)


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_a_proxy_is_not_asked_for_the_loopback_interface(call, ask, monkeypatch, variable):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        monkeypatch.setenv(variable, f"http://127.0.0.1:{unused.getsockname()[1]}")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert call(ask(), max_retries=0).text == "answer to hello"
