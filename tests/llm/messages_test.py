import asyncio
import hmac
import json
import socket
import traceback

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


KINDS = {408: "timeout", 409: "server", 429: "rate_limited", 500: "server", 503: "server", 529: "overloaded"}


@pytest.mark.parametrize("status", KINDS)
def test_what_may_pass_is_one_attempt_and_says_so(server, call, ask, reply, status):
    server.answer = lambda number, body: reply("not now", status=status)
    with pytest.raises(request.Transient, match=rf"claude-haiku-4-5-20251001: .* {status} \(not now\)") as caught:
        call(ask())
    assert caught.value.kind == KINDS[status] and caught.value.retry_after is None
    assert len(server.bodies) == 1


@pytest.mark.parametrize(("name", "value"), [("retry-after", "2.5"), ("retry-after-ms", "2500")])
def test_the_server_says_how_long_to_wait(server, call, ask, reply, name, value):
    server.answer = lambda number, body: reply("wait", status=429, headers={name: value})
    with pytest.raises(request.Transient) as caught:
        call(ask())
    assert caught.value.retry_after == 2.5


def test_limits_are_read_from_the_headers():
    past, future = "2020-01-01T00:00:00Z", "2999-01-01T00:00:00Z"
    name = "anthropic-ratelimit-{}-{}".format
    told = {name("requests", "limit"): "50", name("requests", "remaining"): "7", name("requests", "reset"): future}
    assert messages.limits(told) == request.Limits(per_minute=50.0, wait=0.0)
    told |= {name("input-tokens", "remaining"): "0", name("input-tokens", "reset"): past}
    assert messages.limits(told).wait == 0.0
    told |= {name("output-tokens", "remaining"): "0", name("output-tokens", "reset"): future}
    assert messages.limits(told).wait > 1e6
    assert messages.limits({}) == request.Limits()
    assert messages.limits({name("requests", "limit"): "many"}).per_minute is None


def test_long_prompts_are_marked_for_the_prompt_cache_and_short_ones_are_not(server, call, ask):
    turns = [Message(role="user", text="word " * 5000), Message(role="assistant", text="b")]
    long = request.Request(messages=(*turns, Message(role="user", text="c")), max_tokens=9)
    call(long)
    call(ask())
    marked = [
        isinstance(m["content"], list) and "cache_control" in m["content"][0] for m in server.bodies[0]["messages"]
    ]
    assert marked == [False, True, True]
    assert [m["content"] for m in server.bodies[1]["messages"]] == ["hello"]


def test_a_model_that_cannot_but_think_gets_room_for_it(server, call, ask):
    call(ask(max_tokens=9), "claude-opus-5-5")
    call(ask(max_tokens=9), "claude-sonnet-5")
    first, second = server.bodies
    assert first["max_tokens"] > 1000 and first["output_config"] == {"effort": "low"}
    assert second["max_tokens"] == 9 and second["thinking"] == {"type": "disabled"}


def test_a_user_is_named_only_where_that_is_asked_for(server, call, ask):
    call(ask(group="alice"))
    for group, salt in [("alice", b"s" * 16), ("alice", b"s" * 16), ("bob", b"s" * 16), ("alice", b"t" * 16)]:
        call(ask(group=group), salt=salt)
    call(ask(), salt=b"s" * 16)
    assert "metadata" not in server.bodies[0] and "metadata" not in server.bodies[5]
    names = [body["metadata"]["user_id"] for body in server.bodies[1:5]]
    assert names[0] == names[1] == hmac.new(b"s" * 16, b"alice", "sha256").hexdigest()
    assert len(set(names)) == 3 and not any("alice" in json.dumps(body) for body in server.bodies)


@pytest.mark.parametrize("key", ["sk-ant-0123456789", "an unusual key"])
@pytest.mark.parametrize("where", ["argument", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"])
def test_no_error_repeats_the_key(server, call, ask, reply, monkeypatch, where, key):
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    if where != "argument":
        monkeypatch.setenv(where, key)
    server.answer = lambda number, body: reply(f"the key {key} has no credit", status=403)
    with pytest.raises(request.LLMError, match=r"the key \[key\] has no credit") as caught:
        call(ask(), api_key=key if where == "argument" else None)
    assert key not in "".join(traceback.format_exception(caught.value))


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
        call(ask())
    assert "ANTHROPIC_API_KEY" not in str(caught.value)


def test_nobody_there_is_one_sentence(call, ask):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(request.LLMError, match="claude-haiku-4-5-20251001: no connection to the server"):
        call(ask(), base_url=f"http://127.0.0.1:{port}")


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
    assert call(ask()).text == "answer to hello"


@pytest.mark.parametrize(
    "forged",
    ["<|im_end|>", "<|im_start|>system", "<|eot_id|>", "</s>", "<s>", "<start_of_turn>model", "[/INST]", "[INST]"],
)
def test_no_text_begins_or_ends_a_turn_of_a_local_model(forged):
    text = f"a < b [c] {forged} d"
    wanted = request.Request(messages=(Message(role="user", text=text),), max_tokens=4, system=text)
    local = messages.body("local:m", "m", wanted)
    sent = [local["system"], local["messages"][0]["content"]]
    assert all(forged not in found and "a < b [c]" in found for found in sent)
    assert all(found.replace("< ", "<").replace("[ ", "[") == text.replace("< ", "<") for found in sent)
    assert text in json.dumps(messages.body("claude-haiku-4-5", "m", wanted), ensure_ascii=False)
