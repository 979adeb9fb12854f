"""`hydrajax run --config FILE.py`: a configuration in a file, of any kind, with options that override it."""

import json
import pathlib
import sys
import textwrap

import pytest

from hydrajax.cli import main, run
from hydrajax.methods import settings as settings_lib
from hydrajax.runs import config as config_lib

ROOT = pathlib.Path(__file__).parents[2]
LAMP = """
from hydrajax.runs import config

def get_config(smoke=False):
    return config.Lamp(task="LaMP_3", preset="small", seed=3, train_users=5 if smoke else 50)
"""
OF_ONES_OWN = """
import dataclasses
import pathlib
from typing import ClassVar

from hydrajax.runs import config


@dataclasses.dataclass(frozen=True, kw_only=True)
class Count(config.Configuration):
    \"\"\"Counts.\"\"\"

    experiment: ClassVar[str] = "count"
    loader: ClassVar[str] = "counting"
    module: ClassVar[str] = "counting"

    up_to: int = 3
    \"\"\"The last number.\"\"\"

    def __post_init__(self):
        super().__post_init__()
        if self.up_to < 0:
            raise ValueError(f"up_to is {self.up_to}, expected 0 or more")

    @property
    def encoder(self):
        return None


def get_config(smoke=False):
    return Count(llm="scripted", up_to=2 if smoke else 3)
"""
COUNTING = """
import pathlib
import rich.table

def load(config, say):
    say("note: these are numbers")
    return range(1, config.up_to + 1)

def compute(config, data, bench, out, clock):
    with clock.stage("counting"):
        return [{"number": n} for n in data], {"sum": sum(data), "llm": bench.llm.model}

def plan(runs, bench):
    return bench.plans()

def write_report(out):
    (out / "report.html").write_text("numbers")
    return out / "report.html"

def text_table(results):
    table = rich.table.Table()
    table.add_row(f"the sum is {results['sum']}")
    return table

def verdicts(results):
    return ["[they] were counted"]
"""


@pytest.fixture(autouse=True)
def _anywhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "path", [*sys.path])


def write(text, name="mine.py"):
    path = pathlib.Path(name)
    path.write_text(textwrap.dedent(text))
    return str(path)


def parsed(*more, text=LAMP):
    number = len(list(pathlib.Path().glob("*.py")))  # a file is read once
    return run.parse(["--config", write(text, f"mine{number}.py"), *more]).config


def test_a_file_gives_the_configuration_and_options_override_it():
    config = parsed()
    assert config == config_lib.Lamp(task="LaMP_3", preset="small", seed=3, train_users=50)
    assert config.settings == settings_lib.SMALL
    changed = parsed("--seed", "4", "--settings.samples", "2", "--smoke")
    assert (changed.seed, changed.train_users, changed.settings.samples, changed.settings.retrieved) == (4, 5, 2, 5)
    assert run.parse(["--seed", "4", "--config", write(LAMP)]).config.seed == 4


def test_another_preset_replaces_the_files_and_settings_of_its_own_stay():
    assert parsed("--preset", "paper").settings == settings_lib.PAPER
    assert parsed(text=LAMP.replace('preset="small", ', "")).settings == settings_lib.SMALL
    assert parsed("--llm", "claude-x", text=LAMP.replace('preset="small", ', "")).settings == settings_lib.Settings()
    own = LAMP.replace('preset="small"', "settings=settings.Settings(samples=3)").replace(
        "import config\n", "import config\nfrom hydrajax.methods import settings\n", 1
    )
    assert parsed("--llm", "claude-x", "--settings.retrieved", "7", text=own).settings == settings_lib.Settings(
        samples=3, retrieved=7
    )


def test_a_kind_of_ones_own_runs_the_same_way(capfd, tmp_path):
    write(COUNTING, "counting.py")
    command = ["run", "--config", write(OF_ONES_OWN), "--out", "here"]
    main.main([*command, "--up-to", "4"])
    out, err = capfd.readouterr()
    assert "the sum is 10" in out and "[they] were counted" in out and out.rstrip().endswith("here/report.html")
    assert "note: these are numbers" in err and "counting: " in err
    assert json.loads(pathlib.Path("here/results.json").read_text()) == {"sum": 10, "llm": "scripted"}
    assert len(pathlib.Path("here/predictions.jsonl").read_text().splitlines()) == 4
    kept = json.loads(pathlib.Path("here/config.json").read_text())
    assert (kept["experiment"], kept["up_to"], kept["module"]) == ("count", 4, "counting")
    with pytest.raises(SystemExit):
        main.main(command)
    assert "other settings (up_to differ)" in capfd.readouterr().err
    pathlib.Path("here/report.html").unlink()
    main.main(["report", "here"])
    assert "the sum is 10" in capfd.readouterr().out and pathlib.Path("here/report.html").exists()
    with pytest.raises(SystemExit):
        main.main(["answer", "here", "--user", "u", "--input", "i"])
    assert "holds a run of 'count', of which this cannot be asked" in capfd.readouterr().err
    main.main([*command, "--up-to", "4", "--plan"])
    assert "nothing was called" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "mine.py: the file does not exist"),
        ("x = 1", "mine.py: the file defines no get_config"),
        ("def get_config(smoke=False): 1 / 0", "gives no configuration (ZeroDivisionError: division by zero ("),
        ("def get_config(smoke=False): raise SystemExit", "gives no configuration (SystemExit: "),
        ("raise SystemExit", "gives no configuration (ImportError: it calls sys.exit, which would end the program ("),
        ("def get_config(smoke=False): return 3", "get_config gives int, expected a Configuration"),
        ("import nowhere_to_be_found", "ModuleNotFoundError"),
        ("def get_config(:", "SyntaxError"),
        (LAMP.replace("seed=3", "seed=-3"), "seed is -3"),
    ],
)
def test_a_file_that_gives_none_is_one_sentence(text, says, capfd):
    if text is not None:
        write(text)
    with pytest.raises(SystemExit) as stop:
        main.main(["run", "--config", "mine.py"])
    out, err = capfd.readouterr()
    assert stop.value.code == 2 and "mine.py" in err and says in err and err.count("\n") == 1 and out == ""


def test_what_a_configuration_of_ones_own_refuses_is_said_in_its_words(capfd):
    write(COUNTING, "counting.py")
    with pytest.raises(SystemExit) as stop:
        main.main(["run", "--config", write(OF_ONES_OWN), "--up-to", "-1"])
    assert stop.value.code == 2 and capfd.readouterr().err == "hydrajax: --up-to is -1, expected 0 or more\n"


def test_smoke_is_of_files(capfd):
    with pytest.raises(SystemExit):
        main.main(["run", "lamp", "--task", "LaMP_3", "--smoke"])
    assert "--config" in capfd.readouterr().err


def test_help_is_that_of_the_files_configuration(capfd):
    write(COUNTING, "counting.py")
    with pytest.raises(SystemExit) as stop:
        main.main(["run", "--config", write(OF_ONES_OWN), "--help"])
    out = capfd.readouterr().out
    assert stop.value.code == 0 and "--up-to" in out and "The last number." in out and "--task" not in out


@pytest.mark.parametrize("joined", [["1st,2nd"], ["1st", "2nd"], ["1st,", "2nd"], ["1st, 2nd"]])
def test_lists_may_be_joined_by_commas_in_any_option(joined):
    def filled(first, second):
        return [part.replace("1st", first).replace("2nd", second) for part in joined]

    own = ["--losses", *filled("cross_entropy", "pairwise"), "--epochs", *filled("2", "4"), "--seed", "7"]
    shown = ["--settings.shown", *filled("1", "3"), "--strategies", *filled("rag", "pag")]
    for config in (
        run.parse(["lamp", "--task", "LaMP_3", *own, *shown]).config,
        run.parse(["--config", write(LAMP), *own, *shown]).config,
    ):
        assert (config.losses, config.epochs, config.seed) == (("cross_entropy", "pairwise"), (2, 4), 7)
        assert (config.settings.shown, config.settings.strategies) == ((1, 3), ("rag", "pag"))
    file = ROOT / "experiments" / "configs" / "families.py"
    experiment = ["--tasks", *filled("LaMP_3", "LaMP_2N"), "--pools", *filled("labels", "sampled")]
    config = run.parse(["--config", str(file), *own, *experiment]).config
    assert (config.losses, config.tasks) == (("cross_entropy", "pairwise"), ("LaMP_3", "LaMP_2N"))
    assert config.pools == ("labels", "sampled") and "mlp, fresh" in config.families
    assert run.parse(["lamp", "--task", "LaMP_3", "--losses=pairwise,ordinal"]).config.losses == ("pairwise", "ordinal")


def test_texts_keep_their_commas():
    given = [
        "lamp",
        "--task",
        "LaMP_3",
        "--settings.styles",
        "Be brief, please.",
        "--scorer.family",
        "low_rank_mlp:rank=2",
    ]
    assert run.parse(given).config.settings.styles == ("Be brief, please.",)
