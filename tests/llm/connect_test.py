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
