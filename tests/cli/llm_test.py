"""`hydrajax sample` and `hydrajax store` as a person at the terminal sees them."""

import asyncio
import contextlib
import json
import pathlib
import sqlite3

import pytest

from hydrajax.cli import main
from hydrajax.llm import direct, in_batches, store
from tests.llm.fault_server import FaultServer
from tests.llm.faults import Faults

SECRET = "sk-ant-secret-of-this-test"
CLAUDE = "claude-haiku-4-5"


@pytest.fixture(autouse=True)
def _anywhere(monkeypatch, tmp_path):
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "there")
    monkeypatch.setenv("COLUMNS", "200")

    async def soon(job, seconds):
        await asyncio.sleep(0.01)

    monkeypatch.setattr(direct, "backoff", lambda attempt, rng: 0.01)
    monkeypatch.setattr(in_batches, "_sleep", soon)


@pytest.fixture
def claude(monkeypatch):
    """Makes a server that Claude's names lead to."""

    def make(*args, **rest):
        server = FaultServer(*args, **rest)

        class Open:
            def __enter__(self):
                server.__enter__()
                monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
                monkeypatch.setenv("ANTHROPIC_API_KEY", SECRET)
                return server

            def __exit__(self, *exception):
                return server.__exit__(*exception)

        return Open()

    return make


@pytest.fixture
def hydrajax_(capsys):
    """Calls the command; returns (exit code, standard output, standard error)."""

    def call(*arguments):
        code = 0
        try:
            main.main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = end.code
        out, error = capsys.readouterr()
        assert SECRET not in out + error and "Traceback" not in error
        return code, out, error

    return call


def _write(lines=6, name="in.jsonl", n=2):
    path = pathlib.Path(name)
    rows = [
        {"id": f"u{i}", "messages": [{"role": "user", "content": f"q{i} of copper"}], "n": n, "max_tokens": 9}
        for i in range(lines)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _sample(call, *rest, llm="scripted"):
    options = ("--input", "in.jsonl", "--output", "out.jsonl", "--llm", llm, "--store", "s.sqlite")
    return call("sample", *options, *rest)


def _rows():
    return [json.loads(line) for line in pathlib.Path("out.jsonl").read_text().splitlines()]


# --- sample ---


def test_answers_are_written_and_a_second_run_calls_nobody(hydrajax_):
    _write()
    code, out, error = _sample(hydrajax_)
    assert (code, out) == (0, "out.jsonl\n")
    assert "12 answers (12 calls, 0 from the store), 0 failed for good" in error
    first = _rows()
    assert [(row["id"], row["sample"]) for row in first] == [(f"u{i}", s) for i in range(6) for s in range(2)]
    code, _, error = _sample(hydrajax_)
    assert code == 0 and "12 answers (0 calls, 12 from the store), 0 failed for good" in error
    assert _rows() == first


@pytest.mark.parametrize("transport", ["messages", "batches"])
def test_claude_fails_often_and_all_is_answered(hydrajax_, claude, transport):
    _write()
    shares = {"server_error": 0.2, "overloaded": 0.1, "dropped": 0.1, "expired": 0.1, "duplicated": 0.2}
    with claude(Faults(**shares)) as server:
        code, _, error = _sample(hydrajax_, "--transport", transport, llm=CLAUDE)
        assert code == 0 and "12 answers (12 calls" in error
        assert server.answered == 12 and (server.requests == 0) == (transport == "batches")
    assert len({row["text"] for row in _rows()}) == 12


@pytest.mark.parametrize("transport", ["messages", "batches"])
def test_permanent_failures_are_error_lines_and_exit_code_1(hydrajax_, claude, transport):
    _write()
    bad = ["q1", "q4"]
    faults = Faults(rejected=lambda body: any(b in json.dumps(body["messages"]) for b in bad))
    with claude(faults) as server:
        code, _, error = _sample(hydrajax_, "--transport", transport, llm=CLAUDE)
        assert code == 1 and "8 answers" in error and "4 failed for good" in error
        wrong = [row for row in _rows() if "error" in row]
        assert [(row["id"], row["sample"]) for row in wrong] == [("u1", 0), ("u1", 1), ("u4", 0), ("u4", 1)]
        assert all(set(row) == {"id", "sample", "error"} for row in wrong)
        bad.clear()
        code, _, error = _sample(hydrajax_, "--transport", transport, llm=CLAUDE)
        assert code == 0 and "12 answers (4 calls, 8 from the store" in error
        assert server.answered == 12
    assert not [row for row in _rows() if "error" in row]


def test_a_limit_ends_it_with_a_sentence_and_without_an_output(hydrajax_, claude):
    _write()
    with claude() as server:
        code, out, error = _sample(hydrajax_, "--max-calls", "5", llm=CLAUDE)
        assert (code, out) == (2, "")
        assert (
            "budget of 5 calls is spent: 5 of 12 answers that were missing were received and stored, 7 are left"
            in error
        )
        assert server.requests == 5
        assert sorted(p.name for p in pathlib.Path().iterdir() if "sqlite" not in p.name) == ["in.jsonl"]
        for limit in (("--max-tokens", "1"), ("--max-usd", "0.0000001")):
            code, _, error = _sample(hydrajax_, *limit, llm=CLAUDE)
            assert code == 2 and "budget of" in error and server.requests == 5
        assert _sample(hydrajax_, llm=CLAUDE)[0] == 0
        assert server.requests == 12


def test_a_limit_of_dollars_of_an_unknown_price_is_refused_and_anything_else_works(hydrajax_, claude):
    _write()
    with claude() as server:
        code, _, error = _sample(hydrajax_, "--max-usd", "1", llm="claude-some-day-3")
        assert code == 2 and "price of claude-some-day-3 is not known" in error and server.requests == 0
        code, _, error = _sample(hydrajax_, llm="claude-some-day-3")
        assert code == 0 and server.answered == 12


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--llm", "nobody"), "unknown LLM 'nobody'"),
        (("--llm", CLAUDE), "ANTHROPIC_API_KEY"),
        (("--llm", "scripted", "--transport", "batches"), "takes no batches"),
        (("--llm", "scripted", "--parallel", "0"), "parallel is 0"),
        (("--llm", "scripted", "--max-calls", "-1"), "calls is -1"),
        (("--llm", "scripted", "--input", "missing.jsonl"), "missing.jsonl: cannot be read"),
        (("--llm", "scripted", "--output", "nowhere/out.jsonl"), "there is no folder nowhere"),
    ],
)
def test_bad_arguments_are_one_sentence(hydrajax_, arguments, sentence):
    _write()
    given = {"--input": "in.jsonl", "--output": "out.jsonl", "--store": "s.sqlite"}
    given |= dict(zip(arguments[::2], arguments[1::2], strict=True))
    code, out, error = hydrajax_("sample", *(word for pair in given.items() for word in pair))
    assert (code, out) == (2, "") and sentence in error and error.count("\n") == 1
    assert not pathlib.Path("out.jsonl").exists()


# --- store ---


@pytest.fixture
def filled(hydrajax_):
    _write()
    assert _sample(hydrajax_)[0] == 0

    def call(*arguments):
        return hydrajax_("store", *arguments, *(() if "--store" in arguments else ("--store", "s.sqlite")))

    return call


def test_statistics_show_every_model_and_the_attempts(filled):
    code, out, _ = filled("stats")
    assert code == 0 and "scripted" in out and "12" in out and "answered 12" in out


def test_a_copy_serves_instead_of_calls(filled, hydrajax_):
    expected = _rows()
    code, out, _ = filled("export", "copy.jsonl")
    assert (code, out) == (0, "12 answers written to copy.jsonl\n")
    assert filled("import", "copy.jsonl")[1] == "0 new, 12 known, 0 known with another text (kept)\n"
    assert filled("import", "copy.jsonl", "--store", "other.sqlite")[1].startswith("12 new, 0 known")
    options = ("--input", "in.jsonl", "--output", "out.jsonl", "--llm", "scripted", "--store", "other.sqlite")
    _, _, error = hydrajax_("sample", *options)
    assert "(0 calls, 12 from the store)" in error and _rows() == expected


def test_a_sound_store_and_a_faulty_one(filled):
    assert filled("verify")[:2] == (0, "12 answers, no fault\n")
    opened = store.Store("s.sqlite")
    opened.execute("update answers set output_tokens = -3 where sample = 1")
    opened.close()
    code, out, _ = filled("verify")
    assert code == 1 and out.count("output_tokens is -3") == 6


def test_a_damaged_store_is_one_sentence(filled):
    opened = store.Store("s.sqlite")
    opened.execute("pragma journal_mode = delete")
    # One statement: each of 300 would be a transaction, which waits for the disk.
    numbers = "with recursive n(i) as (select 0 union all select i + 1 from n where i < 299)"
    text = "replace(hex(zeroblob(60)), '00', i || ' ')"
    opened.execute(f"insert into attempts {numbers} select {text}, 'answered', 1 from n")
    opened.close()
    path = pathlib.Path("s.sqlite")
    content = bytearray(path.read_bytes())
    content[8192:] = b"\xff" * (len(content) - 8192)
    path.write_bytes(content)
    code, out, error = filled("verify")
    assert code in (1, 2) and (out or error)


def test_removing(filled):
    assert filled("gc")[:2] == (
        0,
        "removed 0 answers, 0 claims of processes that have ended and 0 notes of batches without a request\n",
    )
    assert filled("gc", "--older-than-days", "1")[1].startswith("removed 0 answers")
    assert filled("gc", "--model", "nobody")[1].startswith("removed 0 answers")
    assert filled("gc", "--model", "scripted")[1].startswith("removed 12 answers")
    assert filled("verify")[1] == "0 answers, no fault\n"


def test_a_negative_age_does_not_remove_everything(filled):
    filled("gc", "--older-than-days", "-1")
    assert filled("verify")[1].startswith("12 answers")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("export",), "store export needs a FILE"),
        (("stats", "file"), "store stats takes no file"),
        (("stats", "--model", "m"), "store stats takes no --model, --older-than-days or --batches; gc does"),
        (("verify", "--batches"), "store verify takes no --model"),
        (("export", "out.jsonl", "--older-than-days", "3"), "store export takes no --model"),
        (("verify", "--store", "missing.sqlite"), "missing.sqlite: there is no such store"),
        (("import", "missing.jsonl"), "missing.jsonl: there is no such file"),
        (("import", "in.jsonl"), "in.jsonl, line 1: has no key"),
        (("verify", "--store", "in.jsonl"), "in.jsonl: cannot be used as a store"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(filled, arguments, sentence):
    code, out, error = filled(*arguments)
    assert (code, out) == (2, "") and sentence in error and error.count("\n") == 1
    assert not pathlib.Path("missing.sqlite").exists()
    assert filled("verify")[1] == "12 answers, no fault\n"


@pytest.mark.parametrize("action", ["stats", "verify", "export", "gc"])
@pytest.mark.parametrize("content", ["", "foreign", "no database"])
def test_a_file_without_a_store_stays_as_it_is(hydrajax_, action, content):
    path = pathlib.Path("file.sqlite")
    if content == "foreign":
        with contextlib.closing(sqlite3.connect(path)) as database:
            database.execute("create table mine (a text)")
    else:
        path.write_text(content)
    before = path.read_bytes()
    code, out, error = hydrajax_("store", action, *(["o"] if action == "export" else []), "--store", "file.sqlite")
    assert (code, out) == (2, "") and error.startswith("hydrajax: file.sqlite: ") and error.count("\n") == 1
    assert path.read_bytes() == before and [found.name for found in pathlib.Path().iterdir()] == ["file.sqlite"]


def test_looking_at_a_store_of_an_earlier_version_leaves_it_as_it_is(filled):
    path = pathlib.Path("s.sqlite")
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("pragma journal_mode = delete")
        database.execute("alter table answers drop column expected_tokens")
        database.execute("alter table answers drop column batch")
        database.execute("drop table attempts")
    before = path.read_bytes()
    assert "none noted" in filled("stats")[1] and filled("verify")[1] == "12 answers, no fault\n"
    assert filled("export", "copy.jsonl")[0] == 0
    assert path.read_bytes() == before
    assert json.loads(pathlib.Path("copy.jsonl").read_text().splitlines()[0])["batch"] == 0


@pytest.mark.parametrize("target", ["a.sqlite", "a.sqlite-wal", "in.jsonl"])
def test_neither_the_store_nor_the_input_is_written_over(hydrajax_, target):
    _write()
    assert _sample(hydrajax_, "--store", "a.sqlite")[0] == 0
    before = pathlib.Path("a.sqlite").read_bytes(), pathlib.Path("in.jsonl").read_bytes()
    arguments = ["sample", "--input", "in.jsonl", "--output", target, "--llm", "scripted", "--store", "a.sqlite"]
    code, _, error = hydrajax_(*arguments)
    assert code == 2 and target in error
    if target != "in.jsonl":
        code, _, error = hydrajax_("store", "export", target, "--store", "a.sqlite")
        assert code == 2 and "is the store itself" in error
    assert before == (pathlib.Path("a.sqlite").read_bytes(), pathlib.Path("in.jsonl").read_bytes())


def test_an_import_of_nothing_makes_no_store(hydrajax_):
    code, _, error = hydrajax_("store", "import", "nothing.jsonl", "--store", "new.sqlite")
    assert code == 2 and "nothing.jsonl" in error
    assert not pathlib.Path("new.sqlite").exists()
