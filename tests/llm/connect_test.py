import sys
import textwrap

import pytest

from hydrajax.llm import budget, connect, local_server, messages, models, repack, request, sampler, scripted


def test_a_name_says_which_llm(tmp_path, monkeypatch):
    monkeypatch.setattr(repack, "is_slow", lambda path: False)
    path = tmp_path / "Mine.gguf"
    path.write_bytes(b"x")
    assert isinstance(connect.connect("scripted"), scripted.Scripted)
    own = connect.connect(str(path))
    assert isinstance(own, local_server.LocalServer) and own.model.startswith("local:Mine@")
    claude = connect.connect("claude-haiku-4-5", parallel=5)
    assert isinstance(claude, messages.Messages) and (claude.model, claude.parallel) == ("claude-haiku-4-5", 5)


def test_an_unknown_name_is_named():
    with pytest.raises(request.LLMError, match=r"unknown LLM 'lokal'; valid are local, FILE\.gguf, scripted, Claude"):
        connect.connect("lokal")


def test_the_key_may_come_from_a_file(tmp_path, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "of-the-environment")
    (tmp_path / "key").write_text("of-the-file\n")
    assert connect.connect("claude-haiku-4-5", key_file=str(tmp_path / "key")).client().api_key == "of-the-file"
    assert connect.connect("claude-haiku-4-5").client().api_key == "of-the-environment"


@pytest.mark.parametrize(
    ("which", "content", "sentence"),
    [
        ("key_file", None, "cannot be read"),
        ("key_file", b" \n", "is empty, expected an API key"),
        ("key_file", b"sk-secret\nsk-other", "more than one line"),
        ("key_file", b"KEY = sk-secret", "more than one line or word"),
        ("salt_file", b"sk-secret", "holds 9 bytes, expected a salt of at least 16"),
    ],
)
def test_a_file_without_a_secret_is_named_and_not_repeated(tmp_path, which, content, sentence):
    if content is not None:
        (tmp_path / "file").write_bytes(content)
    with pytest.raises(request.LLMError, match=sentence) as caught:
        connect.connect("claude-haiku-4-5", **{which: str(tmp_path / "file")})
    assert "sk-" not in str(caught.value) and str(tmp_path / "file") in str(caught.value)


def test_a_server_of_one_s_own_may_have_any_model(monkeypatch):
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:1")
    way = connect.connect("my-model")
    assert isinstance(way, messages.Messages) and way.model == "my-model"
    assert isinstance(connect.connect("scripted"), scripted.Scripted)
    with pytest.raises(request.LLMError, match="takes no batches"):
        connect.connect("scripted", transport="batches")


# --- an LLM of one's own ---


def _example():
    """The file that `connect` shows."""
    lines = connect.__doc__.split("repeats what it is asked:\n")[1].split("\n\nWhere it fails")[0]
    return textwrap.dedent(lines)


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Writes a file and makes a folder of it where modules are found; what was imported of it is forgotten."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    monkeypatch.setattr(models, "OF_OTHERS", {})

    def write(name, text):
        path = tmp_path / name
        path.write_text(text)
        return path

    yield write
    models.find.cache_clear()


@pytest.mark.parametrize("base_url", [None, "http://127.0.0.1:1"])
@pytest.mark.parametrize("name", ["{path}:Echo", "their_echo:Echo", "their_echo:MADE", "their_echo:make"])
def test_an_llm_of_one_s_own_is_one_file(own, answers, ask, monkeypatch, name, base_url):
    if base_url:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", base_url)
    path = own("their_echo.py", _example() + "\nMADE = Echo()\n\ndef make():\n    return Echo()\n")
    transport = connect.connect(name.format(path=path))
    assert isinstance(transport, request.Transport)
    llm = sampler.StoredSampler(transport, answers, budget=budget.Budget(usd=1.0))
    assert [answer.text for answer in llm.sample([ask("one"), ask("two")], stage="s")] == ["one", "two"]
    assert llm.usage.cost_usd == 0.0
    llm.close()


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("theirs:THING", "THING = 3", r"theirs:THING: a int has no model, parallel, in_turn, limits, check, complete"),
        ("theirs:OTHER", "", "theirs: the file defines no OTHER$"),
        ("theirs:THING", "1 / 0", r"theirs:THING: cannot be used as an LLM \(ZeroDivisionError"),
        (
            "theirs:THING",
            "raise SystemExit",
            r"cannot be used as an LLM \(ImportError: it calls sys.exit",
        ),
        (
            "theirs:thing",
            "def thing() -> None: raise SystemExit",
            r"cannot be used as an LLM \(SystemExit: ",
        ),
        ("theirs:thing", "def thing(model): ...", r"theirs:thing: cannot be used as an LLM \(TypeError"),
        ("nowhere_at_all:THING", "", r"nowhere_at_all:THING: cannot be used as an LLM \(ModuleNotFoundError"),
        ("nowhere/at_all.py:THING", "", "^nowhere/at_all.py: the file does not exist$"),
    ],
)
def test_what_is_no_llm_is_said_in_one_sentence(own, name, text, sentence):
    own("theirs.py", text)
    with pytest.raises(request.LLMError, match=sentence) as caught:
        connect.connect(name)
    assert "\n" not in str(caught.value)


def test_a_server_s_model_may_have_a_colon(monkeypatch):
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:1")
    assert connect.connect("llama:8b").model == "llama:8b"


@pytest.mark.parametrize("given", ["None", "'Hello.'"])
def test_what_an_llm_of_ones_own_gives_that_is_no_answer_is_said(own, answers, ask, given):
    path = own(
        "their_echo.py", _example().replace("return request.Answer(", f"return {given}\n        request.Answer(")
    )
    llm = sampler.StoredSampler(connect.connect(f"{path}:Echo"), answers)
    with pytest.raises(request.LLMError, match=r"^echo-1: complete gives (None|'Hello\.'), expected an Answer"):
        llm.sample([ask("one")], stage="s")
    llm.close()
