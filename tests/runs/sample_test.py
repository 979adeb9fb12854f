"""Requests from a file, answers into a file: whole or not at all, and in the order of the requests."""

import contextlib
import json
import os
import stat

import pytest

from hydrajax.llm import budget, request, sampler, store
from hydrajax.runs import sample
from hydrajax.types import DataError


class Transport:
    """Says what it was asked; refuses and breaks down as it is told."""

    def __init__(self, refused=(), breaks=()):
        self.model, self.parallel, self.in_turn, self.limits = "m", 4, False, request.Limits()
        self.refused, self.breaks = set(refused), set(breaks)
        self.sent: list[request.Request] = []

    def check(self): ...

    async def complete(self, wanted):
        text = wanted.messages[-1].text
        self.sent.append(wanted)
        if text in self.refused:
            raise request.Rejected(f"{text} is too long")
        if text in self.breaks:
            raise request.LLMError(f"{text} broke it")
        return request.Answer(
            text=f"{text}/{wanted.sample} é", stop_reason="end_turn", input_tokens=10, output_tokens=2
        )

    async def close(self): ...


@pytest.fixture
def work(tmp_path):
    """Samples lines with a transport; returns what it returned and what it wrote."""
    with contextlib.ExitStack() as stack:
        answers = store.Store(tmp_path / "answers.sqlite")
        stack.callback(answers.close)

        def run(lines, transport=None, target="out.jsonl", **rest):
            source = tmp_path / "in.jsonl"
            source.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))
            llm = sampler.StoredSampler(transport or Transport(), answers, **rest)
            stack.callback(llm.close)
            found = sample.sample(source, tmp_path / target, llm)
            return found, [json.loads(line) for line in (tmp_path / target).read_text().splitlines()]

        yield run


def _line(name, text=None, **rest):
    return {"id": name, "messages": [{"role": "user", "content": text or f"q{name}"}], "max_tokens": 9} | rest


def _left(folder):
    """Files that a run leaves beside its store and its input."""
    return sorted(path.name for path in folder.iterdir() if "sqlite" not in path.name and path.name != "in.jsonl")


def test_every_sample_of_every_line_in_order(work):
    found, rows = work([_line("b", n=2), _line(7, n=3), _line("a")])
    assert [(row["id"], row["sample"]) for row in rows] == [("b", 0), ("b", 1), (7, 0), (7, 1), (7, 2), ("a", 0)]
    assert [row["text"] for row in rows] == ["qb/0 é", "qb/1 é", "q7/0 é", "q7/1 é", "q7/2 é", "qa/0 é"]
    assert all(set(row) == {"id", "sample", "text", "stop_reason", "input_tokens", "output_tokens"} for row in rows)
    assert found == (6, 0)


def test_all_that_a_line_says_is_sent(work):
    transport = Transport()
    turns = [{"role": role, "content": role} for role in ("user", "assistant", "user")]
    work([_line("a", messages=turns, system="be brief", temperature=1, max_tokens=77)], transport)
    (sent,) = transport.sent
    assert [(m.role, m.text) for m in sent.messages] == [(role, role) for role in ("user", "assistant", "user")]
    assert (sent.system, sent.temperature, sent.max_tokens, sent.sample, sent.group) == ("be brief", 1.0, 77, 0, "a")


def test_equal_lines_are_asked_once_and_both_answered(work):
    transport = Transport()
    _, rows = work([_line("a", "same", n=2), _line("b", "same")], transport)
    assert len(transport.sent) == 2 and rows[0]["text"] == rows[2]["text"] != rows[1]["text"]


def test_portions_change_nothing(work, monkeypatch):
    lines = [_line(i, n=1 + i % 3) for i in range(9)]
    _, expected = work(lines)
    monkeypatch.setattr(sample, "PORTION", 4)
    assert work(lines)[1] == expected


def test_permanent_failures_are_lines_of_their_own_and_are_tried_again(work, tmp_path, monkeypatch):
    monkeypatch.setattr(sample, "PORTION", 2)
    lines = [_line(name, n=2) for name in "abc"]
    found, rows = work(lines, Transport(refused={"qa", "qb"}))
    assert found == (2, 4)
    assert rows[2] == {"id": "b", "sample": 0, "error": "qb is too long"}
    assert [row["id"] for row in rows if "error" in row] == list("aabb")
    again = Transport(refused={"qb"})
    found, rows = work(lines, again)
    assert found == (4, 2)
    assert sorted((r.messages[0].text, r.sample) for r in again.sent) == [
        ("qa", 0), ("qa", 1), ("qb", 0), ("qb", 1)
    ]  # fmt: skip
    assert _left(tmp_path) == ["out.jsonl"]


@pytest.mark.parametrize("rest", [{"breaks": True}, {"limit": True}])
def test_what_ends_early_writes_nothing_and_goes_on_later(work, tmp_path, rest):
    lines = [_line(i) for i in range(20)]
    (tmp_path / "out.jsonl").write_text("of an earlier run\n")
    settings = {"budget": budget.Budget(calls=5)} if "limit" in rest else {}
    transport = Transport(breaks={"q15"} if "breaks" in rest else ())
    with pytest.raises(request.LLMError, match="of 20 answers that were missing were received and stored"):
        work(lines, transport, **settings)
    assert (tmp_path / "out.jsonl").read_text() == "of an earlier run\n"
    assert _left(tmp_path) == ["out.jsonl"]
    done = len([r for r in transport.sent if r.messages[0].text not in transport.breaks])
    again = Transport()
    assert len(work(lines, again)[1]) == 20
    assert len(again.sent) == 20 - done < 20


@pytest.mark.parametrize(
    ("spoilt", "sentence"),
    [
        ("{not json\n", "is broken JSON"),
        ("[1]\n", "is list, expected an object"),
        ({"id": "x", "max_tokens": 1}, "has no messages; expected"),
        (_line("x", extra=1), "has the unknown extra; expected"),
        (_line(True), "id is True, expected a text or a whole number"),
        (_line([1]), r"id is \[1\]"),
        (_line("a"), "id 'a' occurs twice"),
        (_line("x", n=0), "n is 0, expected a whole number from 1 to 2"),
        (_line("x", n=True), "n is True"),
        (_line("x", max_tokens=1.5), "max_tokens is 1.5"),
        (_line("x", temperature=-1), "temperature is -1, expected a finite number of at least 0"),
        (_line("x", temperature=float("nan")), "temperature is nan"),
        (_line("x", temperature=float("inf")), "temperature is inf"),
        (_line("x", temperature="1"), "temperature is '1'"),
        (_line("x", system=3), "system is 3, expected a text"),
        (_line("x", messages=[]), "messages is not a list with at least one"),
        (_line("x", messages=[{"role": "user"}]), "message 1 is"),
        (_line("x", messages=[{"role": "assistant", "content": "t"}]), "message 1 has the role 'assistant'"),
        (_line("x", messages=[{"role": "user", "content": " \n"}]), "message 1 has no text"),
        (
            _line("x", messages=[{"role": "user", "content": "t"}, {"role": "assistant", "content": "t"}]),
            "the last message is the assistant's",
        ),
    ],
)
def test_one_bad_line_and_nothing_is_sent(work, tmp_path, spoilt, sentence):
    transport = Transport()
    with pytest.raises(DataError, match=rf"in.jsonl, line 3: .*{sentence}"):
        work([_line("a"), "\n", spoilt], transport)
    assert transport.sent == [] and _left(tmp_path) == []


def test_an_input_that_is_missing_or_empty_and_a_place_that_is_not_there(work, tmp_path):
    transport = Transport()
    with pytest.raises(DataError, match="holds no request"):
        work([], transport)
    with pytest.raises(DataError, match="there is no folder"):
        work([_line("a")], transport, target="nowhere/out.jsonl")
    llm = sampler.StoredSampler(transport, store.Store(":memory:"))
    with pytest.raises(DataError, match="missing.jsonl: cannot be read"):
        sample.sample(tmp_path / "missing.jsonl", tmp_path / "out.jsonl", llm)
    llm.store.close()
    llm.close()
    assert transport.sent == []


def test_a_request_of_half_a_surrogate_pair_does_not_keep_the_others(work):
    """Tweets hold such; JSON can say them."""
    _, rows = work([_line("a"), _line("b", "half \ud83d"), _line("c")])
    assert [row["id"] for row in rows] == ["a", "b", "c"]
    assert "text" in rows[0] and "text" in rows[2]


def test_a_line_may_say_whose_it_is(work):
    transport = Transport()
    work([_line("a"), _line("b", user="u1"), _line("c", user=7)], transport)
    assert {wanted.messages[0].text: wanted.group for wanted in transport.sent} == {"qa": "a", "qb": "u1", "qc": "7"}
    with pytest.raises(DataError, match="line 1: user is None, expected a text or a whole number"):
        work([_line("a", user=None)])


def test_no_device_becomes_a_file_and_no_pipe_is_read_twice(work, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    transport = Transport()
    for target in ("pipe", "folder"):
        with pytest.raises(DataError, match=f"{target}: is no file"):
            work([_line("a")], transport, target=target)
    assert not transport.sent and stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    with contextlib.closing(store.Store(":memory:")) as answers:
        llm = sampler.StoredSampler(transport, answers)
        with pytest.raises(DataError, match="pipe: is no file, expected one: it is read more than once"):
            sample.sample(tmp_path / "pipe", tmp_path / "out.jsonl", llm)


def test_progress_is_that_of_the_whole_file(tmp_path):
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(_line(f"{i}", n=3)) + "\n" for i in range(5)))
    seen = []

    @contextlib.contextmanager
    def bar(label):
        yield lambda done, total, note="": seen.append((done, total))

    with contextlib.closing(store.Store(":memory:")) as answers:
        llm = sampler.StoredSampler(Transport(), answers)
        sample.sample(tmp_path / "in.jsonl", tmp_path / "out.jsonl", llm, portion=4, bar=bar)
        llm.close()
    assert seen == [(i, 15) for i in range(1, 16)]


@pytest.mark.parametrize(
    ("model", "rest", "said"),
    [
        ("claude-haiku-5-5", {"temperature": 0.5}, ["takes no temperature", "1024 tokens are added"]),
        ("claude-haiku-4-5", {"temperature": 0.5}, []),
        ("claude-opus-4-8", {}, []),
    ],
)
def test_what_is_sent_otherwise_than_asked_is_told(work, caplog, model, rest, said):
    transport = Transport()
    transport.model = model
    work([_line("a", **rest)], transport)
    assert len(caplog.messages) == len(said) and all(s in m for s, m in zip(said, caplog.messages, strict=True))
