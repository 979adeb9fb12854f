"""Whole authorship runs on invented authors, answered by the scripted LLM."""

import dataclasses
import json
import random

import numpy as np
import pytest

from hydrajax.data import texts_by_author
from hydrajax.evaluation.authorship import report as authorship_report
from hydrajax.llm import request, scripted
from hydrajax.prompting import contract
from hydrajax.runs import authorship, authorship_config, workbench
from hydrajax.runs import machine as machine_lib
from hydrajax.runs import run as run_lib
from hydrajax.types import DataError

pytestmark = pytest.mark.slow  # whole runs

WORDS = ["river", "stone", "market", "letter", "engine", "garden", "winter", "signal", "bottle", "forest", "copper"]
HABITS = ["indeed", "however", "meanwhile", "perhaps", "certainly", "suddenly", "frankly"]
FILES = {
    "config.json", "finished.json", "invocations.jsonl", "predictions.jsonl", "results.json", "report.html",
    "user_models.jsonl", "user_models.lock",
}  # fmt: skip
STRATEGIES = ("zero_shot", "icl_random", "pag")


def write(folder, split, authors=7, each=9):
    """Texts with a habit each; nothing else tells the authors apart."""
    rows = []
    for place, habit in enumerate(HABITS[:authors]):
        for number in range(each):
            rng = random.Random(f"{split} {place} {number}")
            body = " ".join(habit if rng.random() < 0.2 else rng.choice(WORDS) for _ in range(50))
            text = f"The {rng.choice(WORDS)} of day {number} in {split}. It {body}."
            rows.append({"author": f"author{place}", "file": f"{number}.txt", "text": text})
    path = folder / f"{split}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def embed_words(texts):
    """Stands for the base: how often each word occurs."""
    counts = np.array([[1.0, *(text.count(word) for word in WORDS)] for text in texts], np.float32)
    return counts / np.linalg.norm(counts, axis=1, keepdims=True)


@pytest.fixture(scope="module", autouse=True)
def _small_base():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workbench, "encoders", lambda base, cache: (embed_words, embed_words))
        yield


def make_config(folder, **changes):
    values = {
        "data": (write(folder, "train"), write(folder, "test")),
        "authors": 6,
        "shown": 3,
        "validation": 1,
        "test": 2,
        "strategies": STRATEGIES,
        "llm": "scripted",
        "samples": 2,
    }
    return authorship_config.Authorship(**values | changes)


def quiet(line):
    pass


def start(config, folder):
    machine = machine_lib.Machine(store=str(folder / "answers.sqlite"))
    return run_lib.run(config, folder / "run", command="hydrajax run hyperalign", machine=machine, say=quiet)


def planned_calls(plans):
    return sum(stage.calls for plan in plans for stage in plan.stages.values())


class Other(scripted.Scripted):
    """Another scripted LLM; `log` gets the names of those that are asked or closed."""

    def __init__(self, name, log):
        self.model, self._log = name, log

    async def complete(self, request):
        self._log.append((self.model, "asked", request))
        return await super().complete(request)

    async def close(self):
        self._log.append((self.model, "closed", None))


def two_llms(monkeypatch, writer="scripted", judge="scripted-judge"):
    """The log of a machine that connects to these two."""
    log = []
    monkeypatch.setattr(machine_lib.Machine, "connect", lambda self, name: Other({"w": writer, "j": judge}[name], log))
    return log


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finished:
    folder: object
    config: authorship_config.Authorship
    results: dict
    rows: list


@pytest.fixture(scope="module", params=["classifier", "llm"])
def finished(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    config = make_config(folder, judge=request.param)
    results = start(config, folder)
    rows = [json.loads(line) for line in (folder / "run" / "predictions.jsonl").read_text().splitlines()]
    return Finished(folder=folder, config=config, results=results, rows=rows)


def test_the_folder_holds_everything(finished):
    assert {path.name for path in (finished.folder / "run").iterdir()} == FILES
    assert json.loads((finished.folder / "run" / "results.json").read_text()) == finished.results


def test_the_judge_is_reported_beside_the_win_rates(finished):
    judge = finished.results["judge"]
    assert judge["kind"] == finished.config.judge
    for name in ("accuracy", "floor", "ceiling"):
        assert 0 <= judge[f"{name}_low"] <= judge[name] <= judge[f"{name}_high"] <= 1
    assert judge["llm"] == (None if judge["kind"] == "classifier" else "scripted")
    assert finished.results["judge_llm"] is None
    if judge["kind"] == "classifier":
        assert judge["unreadable"] == 0 and judge["by_words"]["50"]["value"] > 0.8
        assert judge["cross_validation"] > 0.8


def test_every_strategy_meets_every_other_its_shuffled_self_and_real_texts(finished):
    rates = finished.results["win_rates"]
    assert set(rates) == set(STRATEGIES)
    for strategy, against in rates.items():
        own = {f"{strategy}_shuffled"} if strategy != "zero_shot" else set()
        assert set(against) == {*STRATEGIES, "the_author", "another_author", *own} - {strategy}
        for other, rate in against.items():
            assert 0 <= rate["low"] <= rate["value"] <= rate["high"] <= 1
            if other in rates:
                assert rate["value"] + rates[other][strategy]["value"] == pytest.approx(1)
    assert set(finished.results["personal"]) == {"icl_random", "pag"}


def test_floor_and_ceiling_are_real_texts_against_zero_shot(finished):
    judge, against = finished.results["judge"], finished.results["win_rates"]["zero_shot"]
    assert judge["ceiling"] == pytest.approx(1 - against["the_author"]["value"])
    assert judge["floor"] == pytest.approx(1 - against["another_author"]["value"])


def test_rows_hold_texts_without_the_given_sentence(finished):
    assert len(finished.rows) == finished.results["queries"] == 12
    for row in finished.rows:
        assert row["texts"]["the_author"] == [row["gold"]]
        assert row["texts"]["another_author"][0] != row["gold"]
        assert {len(row["texts"][name]) for name in STRATEGIES} == {2}
        for texts in row["texts"].values():
            assert all(row["input"] not in text for text in texts)
        assert len(row["shown"]) == 3


def test_user_models_of_three_authors_are_reported(finished):
    known = finished.results["user_models"]
    assert len(known) == 3 and all(set(own) == {"pag"} and own["pag"] for own in known.values())
    page = (finished.folder / "run" / "report.html").read_text()
    assert all(author in page for author in known)


def test_a_second_run_makes_no_call(finished):
    again = start(finished.config, finished.folder)
    assert again["llm"]["calls"] == 0
    changing = ("llm", "seconds")
    assert {k: v for k, v in again.items() if k not in changing} == {
        k: v for k, v in finished.results.items() if k not in changing
    }
    plan = run_lib.plan(finished.config, machine=machine_lib.Machine(store=str(finished.folder / "answers.sqlite")))
    assert planned_calls(plan) == 0


def test_the_report_says_what_is_not_personal(finished):
    page = authorship_report.render({"command": "c"}, finished.results, finished.rows)
    for strategy, own in finished.results["personal"].items():
        rate = finished.results["win_rates"][strategy][f"{strategy}_shuffled"]
        assert own == (rate["low"] > 0.5)
        words = "it is personal" if own else "it is not shown to be personal"
        assert any(
            s.startswith(strategy) and s.endswith(f"{words}.") for s in authorship_report.verdicts(finished.results)
        )
        assert words in page


@pytest.mark.parametrize("judge", ["classifier", "llm"])
def test_a_plan_counts_the_calls_of_the_run(tmp_path, judge):
    config = make_config(tmp_path, judge=judge)
    machine = machine_lib.Machine(store=str(tmp_path / "answers.sqlite"))
    plan = run_lib.plan(config, machine=machine)
    assert not (tmp_path / "answers.sqlite").exists()
    counted = planned_calls(plan)
    asked = start(config, tmp_path)["llm"]["calls"]
    # Of a judge's duels those are not held in which texts are equal or empty once the given sentence is cut.
    assert counted == asked if judge == "classifier" else asked <= counted <= 1.5 * asked


def test_a_strategy_that_compares_authors_is_planned_and_left_out_where_it_must_not(tmp_path):
    """What a plan cannot know is counted at its most."""
    config = make_config(tmp_path, authors=3, shown=5, strategies=("hypothesis_bank",))
    (plan,) = run_lib.plan(config, machine=machine_lib.Machine(store=str(tmp_path / "answers.sqlite")))
    assert plan.stages["hypotheses tried"].calls > 0
    found = start(config, tmp_path)
    assert found["llm"]["calls"] <= planned_calls([plan])
    assert "hypothesis_bank" in found["win_rates"]
    alone = make_config(tmp_path, authors=3, shown=5, strategies=("hypothesis_bank",), cross_user=False)
    assert "hypothesis_bank" not in alone.compared


def test_an_interrupted_run_goes_on(tmp_path):
    config = make_config(tmp_path)
    limited = machine_lib.Machine(store=str(tmp_path / "answers.sqlite"), max_calls=20)
    with pytest.raises(request.LLMError):
        run_lib.run(config, tmp_path / "run", command="c", machine=limited, say=quiet)
    lines = (tmp_path / "run" / "invocations.jsonl").read_text().splitlines()
    assert [json.loads(line)["finished"] for line in lines] == [False]
    whole = run_lib.plan(config, machine=machine_lib.Machine(store=str(tmp_path / "other.sqlite")))
    done = start(config, tmp_path)
    assert 0 < done["llm"]["calls"] < planned_calls(whole)


def test_below_six_authors_there_are_no_intervals(tmp_path):
    found = start(make_config(tmp_path, authors=3, strategies=("zero_shot", "icl_random")), tmp_path)
    assert found["judge"]["accuracy_low"] is None and found["personal"] == {"icl_random": None}
    assert any("too few authors" in sentence for sentence in authorship_report.verdicts(found))


def test_what_is_compared_with_is_always_there():
    config = authorship_config.Authorship(data=(), strategies=("pag", "icl_random"))
    assert config.strategies == ("zero_shot", "icl_random", "pag")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"authors": 1}, "authors is 1, expected at least 2"),
        ({"samples": 0}, "samples is 0"),
        ({"shown_words": 3}, "shown_words is 3"),
        ({"temperature": -1.0}, "temperature is -1.0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        authorship_config.Authorship(data=(), **changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"strategies": ("sorcery",)}, "unknown prompt strategy 'sorcery'"),
        ({"authors": 60}, "of 7 authors have enough texts, expected 60"),
        ({"data": ()}, "no texts were given"),
        ({"data": ("missing.jsonl",)}, "missing.jsonl: the file does not exist"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(tmp_path, changes, words):
    with pytest.raises(DataError, match=words) as error:
        start(make_config(tmp_path, **changes), tmp_path)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_no_text_is_both_shown_and_judged(tmp_path):
    config = make_config(tmp_path)
    data = run_lib.load(config, quiet)
    shown = {record.id for user in data.users.values() for record in user.profile}
    asked = {query.id.split("/", 1)[1] for query in (*data.test, *data.validation)}
    everything = texts_by_author.read([tmp_path / "train.jsonl", tmp_path / "test.jsonl"])
    assert {name.split("/")[0] for name in shown} == {"train.jsonl"} and {n.split("/")[0] for n in asked} == {
        "test.jsonl"
    }
    assert len(everything) == 2 * 7 * 9


def test_the_given_prompts_are_used(tmp_path):
    config = make_config(tmp_path, prompts=contract.PromptSettings(max_answer_tokens=33, form="one_prompt"))
    seen = []

    class Noting:
        model, usage = "scripted", None

        def sample(self, requests, *, stage):
            seen.extend((stage, r) for r in requests)
            return [
                request.Answer(text="x y", stop_reason="end_turn", input_tokens=1, output_tokens=1) for _ in requests
            ]

    data = run_lib.load(config, quiet)
    machine = machine_lib.Machine(store=str(tmp_path / "answers.sqlite"))
    with workbench.planning(machine, config.llms, config.encoder) as bench:
        lab = authorship._lab(config, data, bench)
    authorship._rows(config, data, dataclasses.replace(lab, ctx=dataclasses.replace(lab.ctx, llm=Noting())))
    asked = [r for stage, r in seen if stage == "icl_random"]
    assert asked and all(r.max_tokens == 33 and len(r.messages) == 1 for r in asked)
    assert all(r.messages[0].text.count("Write an article that starts with:") == 1 for r in asked)


def test_another_llm_may_judge(tmp_path, monkeypatch):
    log = two_llms(monkeypatch)
    config = make_config(tmp_path, authors=3, llm="w", judge="llm", judge_llm="j")
    machine = machine_lib.Machine(store=str(tmp_path / "answers.sqlite"))
    plans = run_lib.plan(config, machine=machine)
    assert log == [] and [plan.model for plan in plans] == ["scripted", "scripted-judge"]
    assert "judge" not in plans[0].stages and set(plans[1].stages) == {"judge"}
    found = start(config, tmp_path)
    asked = {
        name: [w for who, what, w in log if (who, what) == (name, "asked")] for name in ("scripted", "scripted-judge")
    }
    judged = ["Which one is more likely by the same author?" in w.messages[0].text for w in asked["scripted-judge"]]
    assert judged and all(judged) and all(w.temperature == 0.0 for w in asked["scripted-judge"])
    assert not any("Which one is more likely" in w.messages[0].text for w in asked["scripted"])
    assert found["judge"]["kind"] == "llm" and found["judge"]["llm"] == "scripted-judge"
    for name, own in (("llm", asked["scripted"]), ("judge_llm", asked["scripted-judge"])):
        assert found[name]["calls"] == len(own) and found[name]["cost_usd"] == 0.0
    (line,) = [json.loads(line) for line in (tmp_path / "run" / "invocations.jsonl").read_text().splitlines()]
    assert line["judge_llm"]["calls"] == len(asked["scripted-judge"])
    assert "scripted-judge" in (tmp_path / "run" / "report.html").read_text()


def test_the_llm_that_writes_is_given_back_before_another_judges(tmp_path, monkeypatch):
    """An embedded LLM that waits for the other one would otherwise wait for ever."""
    log = two_llms(monkeypatch)
    start(make_config(tmp_path, authors=3, llm="w", judge="llm", judge_llm="j"), tmp_path)
    order = [(who, what) for who, what, _ in log]
    assert order.index(("scripted", "closed")) < order.index(("scripted-judge", "asked"))
    assert ("scripted", "asked") not in order[order.index(("scripted", "closed")) :]
    assert order[-1] == ("scripted-judge", "closed")


def test_a_judge_that_takes_no_temperature_gets_none(tmp_path, monkeypatch):
    log = two_llms(monkeypatch, judge="claude-opus-5")
    found = start(make_config(tmp_path, authors=3, llm="w", judge="llm", judge_llm="j"), tmp_path)
    assert {wanted.temperature for who, what, wanted in log if (who, what) == ("claude-opus-5", "asked")} == {None}
    assert found["judge_llm"]["cost_usd"] > 0


def test_both_llms_spend_of_one_budget(tmp_path, monkeypatch):
    log = two_llms(monkeypatch)
    config = make_config(tmp_path, authors=3, llm="w", judge="llm", judge_llm="j")
    writing = planned_calls(run_lib.plan(config, machine=machine_lib.Machine(store=str(tmp_path / "other.sqlite")))[:1])
    limited = machine_lib.Machine(store=str(tmp_path / "answers.sqlite"), max_calls=writing + 5)
    with pytest.raises(request.Stopped):
        run_lib.run(config, tmp_path / "run", command="c", machine=limited, say=quiet)
    asked = [who for who, what, _ in log if what == "asked"]
    assert len(asked) == writing + 5 and asked.count("scripted-judge") == 5


def test_the_same_llm_named_as_judge_is_asked_as_one(tmp_path):
    found = start(make_config(tmp_path, authors=3, judge="llm", judge_llm="scripted"), tmp_path)
    assert found["judge_llm"] is None and found["judge"]["llm"] == "scripted"


def test_a_judge_that_cannot_be_had_leaves_nothing(tmp_path):
    config = make_config(tmp_path, judge="llm", judge_llm="nobody")
    with pytest.raises(request.LLMError, match="unknown LLM 'nobody'"):
        start(config, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"train.jsonl", "test.jsonl"}


def test_a_classifier_asks_no_llm():
    with pytest.raises(
        ValueError, match="judge_llm is local, but a classifier judges and asks nobody; give --judge llm"
    ):
        authorship_config.Authorship(data=(), judge_llm="local")
