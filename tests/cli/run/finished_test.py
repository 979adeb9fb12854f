"""What a finished run is good for at the terminal: its report, an answer, and who comes later."""

import json
import pathlib

import pytest

from hydrajax.cli import main
from hydrajax.llm import scripted
from hydrajax.runs import workbench
from tests.cli.run.conftest import TASK, lamp, refused
from tests.runs import conftest as stand_ins


def test_a_report_is_written_again_from_the_folder_alone(data, capfd, untrained, tmp_path):
    main.main(lamp(data, "--out", "run"))
    said = capfd.readouterr().out
    pathlib.Path("run/report.html").unlink()
    main.main(["report", "run"])
    again = capfd.readouterr().out
    assert pathlib.Path("run/report.html").is_file()
    assert again.splitlines()[:5] == said.splitlines()[:5]


def test_damaged_files_of_a_run_are_one_sentence(data, capfd, untrained, tmp_path):
    run = tmp_path / "run"
    main.main(lamp(data, "--out", str(run)))
    capfd.readouterr()
    whole = {name: json.loads((run / name).read_text()) for name in ("config.json", "results.json")}
    damaged = (
        ("results.json", {}, "results.json: has no 'experiment', expected a text"),
        ("results.json", {"experiment": "lamp"}, "results.json: has no 'task', expected a text"),
        ("results.json", {**whole["results.json"], "methods": {"rag": 3}}, "methods.rag is 3, expected an object"),
        ("config.json", {**whole["config.json"], "seed": "x"}, "config.json: does not hold the configuration of a run"),
        ("config.json", {**whole["config.json"], "settings": 3}, "config.json: does not hold the configuration of a"),
    )
    for name, values, sentence in damaged:
        (run / name).write_text(json.dumps(values))
        assert sentence in refused(["report", str(run)], capfd)
        (run / name).write_text(json.dumps(whole[name]))


def test_what_is_computed_anew_says_why_and_shows_nothing_of_before_in_silence(data, capfd, untrained):
    command = lamp(data, "--store", "s.sqlite", "--out", "run")
    main.main(command)
    main.main(command)
    assert "this run is finished already, and is computed again (1 invocation)" in capfd.readouterr().err
    data.files["dev_questions.json"][0]["profile"][0]["text"] = "another review"
    data.write()
    why = "computed anew, since what it was made of is not the same any more (its data)"
    for _ in range(2):  # the second time it is known from the first
        with pytest.raises(SystemExit), pytest.MonkeyPatch.context() as patch:
            patch.setattr(scripted.Scripted, "complete", stand_ins.never)
            main.main(command)
        assert why in capfd.readouterr().err
    for used in (["report", "run"], ["answer", "run", "--user", "dev1", "--input", "lantern", "--store", "s.sqlite"]):
        main.main(used)
        said = capfd.readouterr().err
        assert why in said and "what is shown is of before; repeat its command to finish it" in said, used
    with pytest.raises(SystemExit):
        main.main(["personalise", "run", "--profile", "nobody.jsonl"])
    assert why in capfd.readouterr().err
    main.main(command)
    capfd.readouterr()
    main.main(["report", "run"])
    assert capfd.readouterr().err == ""


def test_an_answer_can_be_had_and_explained(data, capfd, untrained):
    main.main(lamp(data, "--out", "run"))
    capfd.readouterr()
    question = ["run", "--user", "dev0", "--input", "lantern and copper"]
    main.main(["answer", *question])
    answered = capfd.readouterr().out.strip()
    assert answered in TASK.labels
    main.main(["answer", *question, "--explain"])
    lines = capfd.readouterr().out.splitlines()
    assert lines[0] == answered
    assert any(line.startswith("record ") and "of dev 0" in line for line in lines)
    assert any("1x" in line or "2x" in line for line in lines)


def test_a_stranger_is_answered_without_a_profile(data, capfd, untrained):
    main.main(lamp(data, "--out", "run"))
    capfd.readouterr()
    main.main(["answer", "run", "--user", "nobody we know", "--input", "lantern", "--explain"])
    out, err = capfd.readouterr()
    assert "answer chosen by nobody: nothing was learned" in out and "record " not in out
    assert err.startswith("hydrajax: 'nobody we know' is no user of this run: answered without a profile\n")


ANN = {"user_id": "ann", "profile": [{"id": f"{i}", "text": f"copper {i} of ann", "score": str(i)} for i in (1, 2, 3)]}


@pytest.mark.slow
def test_who_comes_later_is_answered_by_a_head_of_the_own(data, capfd, monkeypatch):
    monkeypatch.setattr(workbench, "encoders", stand_ins.encoders)
    main.main(lamp(data, "--out", "run", "--scorer.family", "linear", "--losses", "pairwise", "--epochs", "1"))
    pathlib.Path("people.jsonl").write_text(json.dumps(ANN) + "\n")
    come = ["personalise", "run", "--profile", "people.jsonl"]
    question = ["answer", "run", "--user", "ann", "--input", "lantern of ann", "--explain"]
    capfd.readouterr()
    main.main([*come, "--plan"])
    planned = capfd.readouterr().out
    assert "nothing was called" in planned and "record trials" in planned
    main.main(question)
    out, err = capfd.readouterr()
    assert "the pooled head" in out and "'ann' is no user of this run" in err
    main.main(come)
    out, err = capfd.readouterr()
    assert "1 user personalised, 0 before (" in out and " 0 calls" not in out and "1 of 1 users" in err
    assert "\nreranker: 1 of 1 got a head of their own\nadapter: 1 of 1 got a head of their own\n" in out
    main.main(question)
    out, err = capfd.readouterr()
    assert "answer chosen by the user's own head\n" in out and "records chosen by the" in out
    assert "of ann | " in out and err == ""
    main.main(come)
    assert capfd.readouterr().out == "personalised before: 1 user; no call was made\n"


def test_where_nobody_has_a_head_who_comes_later_is_known(data, capfd, untrained, tmp_path):
    main.main(lamp(data, "--out", str(tmp_path / "run")))
    path = tmp_path / "people.json"
    path.write_text(json.dumps([ANN]))
    capfd.readouterr()
    main.main(["personalise", str(tmp_path / "run"), "--profile", str(path)])
    out, _ = capfd.readouterr()
    assert "1 user kept, with no head of their own, 0 before (0 calls, 0 answers from the store)\n" in out
    for name in ("reranker", "adapter"):
        assert f"{name}: nobody gets a head of their own: it learned nothing in this run" in out
    path.write_text(json.dumps([ANN | {"user_id": "bob"}]))
    main.main(["personalise", str(tmp_path / "run"), "--profile", str(path), "--plan"])
    out, _ = capfd.readouterr()
    assert "1 user to personalise" in out and "adapter: nobody gets a head of their own" in out
    assert "nothing would be asked: no scorer gives users heads of their own" in out and "nothing was called" not in out
    main.main(["answer", str(tmp_path / "run"), "--user", "ann", "--input", "lantern", "--explain"])
    out, err = capfd.readouterr()
    assert "of ann | " in out and "answer chosen by nobody: nothing was learned" in out
    assert err == "hydrajax: the run's adapter has learned nothing: the first answer is taken\n"
    path.write_text(json.dumps([ANN | {"user_id": "dev0"}]))
    assert "'dev0'" in refused(["personalise", str(tmp_path / "run"), "--profile", str(path)], capfd)
