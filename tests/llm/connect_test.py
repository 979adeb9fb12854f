import pytest

from hydrajax.llm import connect, local_server, messages, repack, request, scripted


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
    with pytest.raises(request.LLMError, match=r"unknown LLM 'lokal'; valid are local, FILE\.gguf, scripted, and"):
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
