"""Makes the golden runs: every kind of run on generated data, a tiny base and the scripted LLM, seeds fixed.

    python -m tests.golden.runs                    runs them all and writes tests/golden/expected/*.json anew (freezes)
    python -m tests.golden.runs FOLDER [NAME ...]  writes there instead, all of them or these

The commands are those of a person at the terminal, one after the other in one process.
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import pathlib
import random
import sqlite3
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from unittest import mock

import numpy as np

EXPECTED = pathlib.Path(__file__).with_name("expected")
WORDS = (
    "harbour", "lantern", "meadow", "copper", "violin", "glacier", "orchard", "compass", "thunder", "velvet", "saddle",
    "pepper", "canvas", "marble", "sparrow", "engine", "ribbon", "window", "barley", "anchor",
)  # fmt: skip
TASK = """
name = "reply_tone"
kind = "generation"
template = "Answer this message: {message}"
answer = "reply"
inputs = {message = "message"}
corpus = ["message", "reply"]
record_line = 'the answer to "{message}" is "{reply}" '
max_answer_tokens = 24
"""
HABITS = ("indeed", "however", "meanwhile", "perhaps", "certainly", "suddenly")

SIZES = [
    "--llm",
    "scripted",
    "--settings.pseudo-queries",
    "2",
    "--settings.derangements",
    "2",
    "--settings.samples",
    "2",
    "--epochs",
    "0",
    "2",
]
FITS = ["--scorer.pooled-epochs", "2", "--scorer.dropout", "0", "--scorer.learning-rate", ".05", "--losses", "pairwise"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Golden:
    """A command with its data: `{data}` and `{base}` stand for folders that are made for it."""

    name: str
    command: Sequence[str]
    plan: bool = False

    def arguments(self, folder: pathlib.Path) -> list[str]:
        places = {"{data}": str(folder / "data"), "{base}": str(folder / "base")}
        given = [_filled(part, places) for part in self.command]
        store = ["--store", str(folder / f"{self.name}.sqlite")]
        return [*given, *store, *(["--plan"] if self.plan else ["--out", str(folder / self.name)])]


def _filled(text: str, places: Mapping[str, str]) -> str:
    for name, place in places.items():
        text = text.replace(name, place)
    return text


def _lamp(task: str, *more: str) -> tuple[str, ...]:
    people = ("--train-users", "4", "--dev-users", "3")
    return ("run", "lamp", "--task", task, "--data-dir", "{data}", "--base", "{base}", *people, *SIZES, *FITS, *more)


RUNS = (
    Golden(
        name="demo",
        command=("run", "demo", "--base", "{base}", "--llm", "scripted", "--train-users", "4", "--dev-users", "4",
                 "--queries-per-user", "2", "--epochs", "0", "2", *FITS[:6]),
    ),
    Golden(name="rating", command=_lamp("LaMP_3", "--strategies", "rag,hypotheses,cfrag", "--candidates", "6")),
    Golden(
        name="label",
        command=_lamp(
            "LaMP_2M", "--strategies", "rag,persona,label_histogram,hypothesis_bank", "--candidates", "4",
            "--settings.adapter-pools", "reranked", "--scorer.family", "linear",
        ),
    ),
    Golden(
        name="text",
        command=_lamp(
            "LaMP_7", "--strategies", "zero_shot,pag,peer_difference,full_profile", "--candidates", "4",
            "--settings.prompts.compare-on", "nearest", "--settings.prompts.least-writers", "3",
            "--settings.adapter-pools", "zero_shot", "--adapter-family", "linear",
        ),
    ),
    Golden(
        name="custom",
        command=("run", "custom", "--task", "{data}/tone/task.toml", "--data-dir", "{data}/tone", "--base", "{base}",
                 *SIZES, *FITS),
    ),
    Golden(
        name="folds",
        command=_lamp("LaMP_2N", "--folds", "2", "--no-cross-user", "--adapter-family", "linear"),
    ),
    Golden(
        name="hyperalign",
        command=("run", "hyperalign", "--data", "{data}/train.jsonl", "{data}/test.jsonl", "--base", "{base}", "--llm",
                 "scripted", "--authors", "6", "--shown", "3", "--validation", "1", "--test", "1", "--samples", "2",
                 "--strategies", "hypotheses,persona,pag"),
    ),
    Golden(
        name="hyperalign_llm",
        command=("run", "hyperalign", "--data", "{data}/train.jsonl", "{data}/test.jsonl", "--base", "{base}", "--llm",
                 "scripted", "--authors", "3", "--shown", "2", "--validation", "1", "--test", "1", "--samples", "1",
                 "--strategies", "rag", "--judge", "llm"),
    ),
    Golden(name="plan", plan=True, command=_lamp("LaMP_3", "--strategies", "rag,hypotheses", "--candidates", "6")),
)  # fmt: skip


def make_data(folder: pathlib.Path) -> None:
    """LaMP-shaped files, a task of one's own, texts by author."""
    from hydrajax.data import tasks

    for task in ("LaMP_3", "LaMP_2M", "LaMP_2N", "LaMP_7"):
        _write_lamp(folder / task, tasks.LAMP[task])
    tone = folder / "tone"
    tone.mkdir()
    (tone / "task.toml").write_text(TASK)
    for split, count in (("train", 6), ("dev", 3)):
        lines = []
        for i in range(count):
            rng = random.Random(f"tone {split} {i}")
            profile = [{"id": f"{j}", "message": _words(rng, 9), "reply": _words(rng, 5)} for j in range(4)]
            asked = {"id": f"{split}{i}", "inputs": {"message": _words(rng, 8)}, "output": _words(rng, 5)}
            lines.append(json.dumps({"user_id": f"{split}{i}", "profile": profile, "queries": [asked]}))
        (tone / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    for split in ("train", "test"):
        rows = []
        for place, habit in enumerate(HABITS):
            for number in range(9):
                rng = random.Random(f"{split} {place} {number}")
                body = " ".join(habit if rng.random() < 0.2 else rng.choice(WORDS) for _ in range(50))
                text = f"The {rng.choice(WORDS)} of day {number} in {split}. It {body}."
                rows.append(json.dumps({"author": f"author{place}", "file": f"{number}.txt", "text": text}))
        (folder / f"{split}.jsonl").write_text("\n".join(rows) + "\n")


def _words(rng: random.Random, n: int) -> str:
    return " ".join(rng.choices(WORDS, k=n))


def _write_lamp(folder: pathlib.Path, task: Any) -> None:
    folder.mkdir(parents=True)

    def record(rng: random.Random) -> dict[str, str]:
        fields = {field: _words(rng, 9) for field in task.fields}
        return fields | ({task.answer: rng.choice(task.labels[:3])} if task.labels else {})

    for split, count in (("train", 4), ("dev", 3)):
        questions, golds = [], []
        for i in range(count):
            rng = random.Random(f"{task.name} {split} {i}")
            # The last new user has no profile.
            size = 0 if (split, i) == ("dev", 2) else 4 + i % 2
            profile = [{"id": f"{split}{i}-{j}", **record(rng)} for j in range(size)]
            asked = record(rng)
            slot = next(iter(task.inputs.values()), task.corpus[0])
            questions.append({"id": f"{split}{i}", "input": task.question({"text": asked[slot]}), "profile": profile})
            golds.append({"id": f"{split}{i}", "output": asked[task.answer]})
        (folder / f"{split}_questions.json").write_text(json.dumps(questions))
        (folder / f"{split}_outputs.json").write_text(json.dumps({"task": task.name, "golds": golds}))


def make_base(folder: pathlib.Path) -> None:
    """A BERT of two layers and 16 dimensions, whose tokenizer knows `WORDS`."""
    import safetensors.numpy
    import tokenizers

    from tests.nn.conftest import bert_shapes

    folder.mkdir()
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *HABITS, *"abcdefghijklmnopqrstuvwxyz0123456789.,"]
    vocab += [f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz0123456789"]
    tokenizer = tokenizers.BertWordPieceTokenizer(vocab={word: i for i, word in enumerate(vocab)})
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "model_type": "bert", "hidden_act": "gelu", "vocab_size": len(vocab), "hidden_size": 16,
        "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, "max_position_embeddings": 256,
        "type_vocab_size": 2,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    rng = np.random.default_rng(0)
    shapes = bert_shapes(config)
    tensors = {name: rng.normal(size=shape, scale=0.3).astype(np.float32) for name, shape in shapes.items()}
    for name in shapes:
        if name.endswith("LayerNorm.weight"):
            tensors[name] += 1
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")


def outcome(golden: Golden, folder: pathlib.Path, printed: str) -> dict[str, Any]:
    """What is compared: results without times, every answer, and which requests were asked."""
    if golden.plan:
        return {"printed": [line.split() for line in printed.splitlines()]}
    out = folder / golden.name
    results = json.loads((out / "results.json").read_text())
    results.pop("seconds", None)
    rows = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    with contextlib.closing(sqlite3.connect(folder / f"{golden.name}.sqlite")) as store:
        hashes = sorted(str(row[0]) for row in store.execute("select key from answers"))
    return {"results": results, "answers": _answers(rows), "requests": _digest(hashes)}


def _answers(rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    kept = ("query", "user", "answers", "pools", "records", "author", "strategy", "text", "sample", "shown")
    return [{name: row[name] for name in kept if name in row} for row in rows]


def _digest(hashes: Sequence[str]) -> dict[str, Any]:
    return {"count": len(hashes), "sha256": hashlib.sha256("\n".join(hashes).encode()).hexdigest()}


def run_all(folder: pathlib.Path, names: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The golden runs of these names in `folder`, with what each gave."""
    from hydrajax import entry

    (folder / "data").mkdir(parents=True)
    make_data(folder / "data")
    make_base(folder / "base")
    for golden in (golden for golden in RUNS if golden.name in names):
        printed = io.StringIO()
        arguments = ["hydrajax", *golden.arguments(folder)]
        with mock.patch.object(sys, "argv", arguments), contextlib.redirect_stdout(printed):
            entry.main()
        yield golden.name, outcome(golden, folder, printed.getvalue())


def main() -> None:
    """Runs in the folder that is given, or freezes."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["COLUMNS"] = "200"
    # Most of the time goes into compiling dozens of small programs, which need not be fast.
    os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["XDG_CACHE_HOME"] = scratch
        target = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else EXPECTED
        target.mkdir(parents=True, exist_ok=True)
        names = sys.argv[2:] or [golden.name for golden in RUNS]
        for name, found in run_all(pathlib.Path(scratch) / "runs", names):
            (target / f"{name}.json").write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
