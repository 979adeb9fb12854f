import subprocess
import sys

import pytest

from hydrajax import retrieval
from hydrajax.data import tasks
from hydrajax.llm import planner, request, store
from hydrajax.methods import settings
from hydrajax.nn import families, heads
from hydrajax.prompting import contract, registry
from hydrajax.types import DataError, Query, Record, User

STRATEGY = '''
"""Asks twice."""

from hydrajax.prompting.contract import Strategy


class Twice(Strategy):
    def messages(self, query, records, user_model, ctx, *, note=""):
        return super().messages(query, records, user_model, ctx) * 2


STRATEGY = Twice()
'''
RETRIEVER = "def rank(query_text, records, corpus, *, query_id, seed):\n    return sorted(range(len(corpus)))\n"
FAMILY = "from hydrajax.nn.heads import mlp\n\n\nclass Mine(mlp.Mlp):\n    pass\n\n\nFAMILY = Mine\n"
QUERY = Query(id="q", user_id="u", inputs={"text": "asked now"})


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """The folder that one works in, with a package `mine` in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(registry, "_own", {})
    (tmp_path / "mine").mkdir()
    yield tmp_path / "mine"
    for name in [name for name in sys.modules if name.partition(".")[0] == "mine"]:
        del sys.modules[name]


@pytest.mark.parametrize("name", ["mine.twice", "mine/twice.py"])
def test_a_strategy_of_ones_own_is_called_by_the_last_part_of_its_name(name, folder):
    (folder / "twice.py").write_text(STRATEGY)
    strategy = registry.get(name)
    assert strategy.name == "twice" and registry.get("twice") is strategy is registry.get(name)
    assert registry.permitted(["rag", name], cross_user=False) == ("rag", "twice")
    assert registry.left_out([name, "cfrag"], cross_user=False) == ("cfrag",)
    assert "twice" not in registry.names()


def test_a_module_of_the_folder_that_one_works_in_needs_no_dot(folder, monkeypatch):
    for file, text in {"two_turns": STRATEGY, "no_width": FAMILY, "by_age": RETRIEVER, "rag": "1 / 0"}.items():
        (folder.parent / f"{file}.py").write_text(text)
    assert registry.get("two_turns") is registry.get("two_turns") and "two_turns" not in registry.names()
    assert type(heads.get("no_width:width=3")).__name__ == "Mine" and callable(retrieval.retriever("by_age"))
    assert registry.get("rag").name == "rag"  # the package's own goes first


@pytest.mark.parametrize("name", ["mine.plain", "mine/plain.py", "generic_plus_offset:inner=mine.plain"])
def test_a_family_of_ones_own_takes_settings_too(name, folder):
    (folder / "plain.py").write_text(FAMILY)
    family = heads.get(name)
    assert isinstance(family, heads.Family) and hash(family) == hash(heads.get(name))
    if ":" not in name:
        assert heads.get(f"{name}:width=3") == heads.get(name, width=3) != family


@pytest.mark.parametrize("name", ["mine.oldest", "mine/oldest.py"])
def test_a_retriever_of_ones_own(name, folder):
    (folder / "oldest.py").write_text(RETRIEVER)
    user = User(id="u", profile=tuple(Record(id=i, fields={"text": "t", "title": "t"}) for i in ("1", "2", "3")))
    found = retrieval.retrieve(name, tasks.LAMP["LaMP_4"], QUERY, user, 2)
    assert [record.id for record in found] == ["1", "2"]
    assert settings.Settings(retriever=name).retriever == name


@pytest.mark.parametrize("get", [registry.get, heads.get, retrieval.retriever])
def test_what_is_none_is_one_sentence(get, folder):
    (folder / "empty.py").write_text("")
    (folder / "broken.py").write_text("import nowhere")
    (folder / "ends.py").write_text("import sys\nsys.exit(0)")
    (folder / "three.py").write_text("STRATEGY = FAMILY = rank = 3")
    said = {
        "nothing": r"unknown .* 'nothing', expected one of \w+, .*, a module of one's own \(my_module, mypackage.my",
        "mine.nothing": "'mine.nothing' cannot be imported: ModuleNotFoundError: No module named 'mine.nothing'$",
        "nowhere.py": "'nowhere.py': nowhere.py does not exist$",
        "mine.broken": r"'mine.broken' cannot be imported: ModuleNotFoundError: No .* 'nowhere' \(.*broken.py:1\)$",
        "mine/broken.py": r"'mine/broken.py' cannot be imported: ModuleNotFoundError: .* \(.*broken.py:1\)$",
        "mine.ends": r"'mine.ends' cannot be imported: ImportError: it calls sys.exit, .* \(.*ends.py:2\)$",
        "mine/ends.py": "'mine/ends.py' cannot be imported: ImportError: it calls sys.exit, which would end",
        "mine.empty": "'mine.empty': the file defines no (STRATEGY|FAMILY|rank)$",
        "mine/three.py": "'mine/three.py': (STRATEGY|FAMILY|rank) is 3, expected a",
    }
    for name, sentence in said.items():
        with pytest.raises(DataError, match=sentence):
            get(name)


def test_a_class_for_an_instance_and_an_instance_for_a_class(folder):
    (folder / "kind.py").write_text(STRATEGY.replace("Twice()", "Twice"))
    with pytest.raises(DataError, match=r"'mine.kind': STRATEGY is a class, expected STRATEGY = Twice\(\)$"):
        registry.get("mine.kind")
    (folder / "made.py").write_text(FAMILY.replace("FAMILY = Mine", "FAMILY = Mine()"))
    with pytest.raises(DataError, match="'mine.made': FAMILY is an instance, expected FAMILY = Mine$"):
        heads.get("mine.made")


def test_a_family_that_lacks_a_method_is_told_which(folder):
    text = "class Mine:\n    def init_shared(self, key, dims):\n        return {}\n\n\nFAMILY = Mine\n"
    (folder / "lacks.py").write_text(text)
    with pytest.raises(DataError, match="'mine.lacks': FAMILY lacks init_user, score, generic, expected a frozen"):
        heads.get("mine.lacks")


def test_two_strategies_of_one_name_are_refused(folder):
    for name in ("rag", "twice"):
        (folder / f"{name}.py").write_text(STRATEGY)
    (folder.parent / "twice.py").write_text(STRATEGY)
    with pytest.raises(DataError, match="'mine.rag': another one is called 'rag', rename the file"):
        registry.get("mine.rag")
    registry.get("mine.twice")
    with pytest.raises(DataError, match="'twice.py': another one is called 'twice', rename the file"):
        registry.get("twice.py")


@pytest.fixture
def ctx():
    return contract.Context(task=tasks.LAMP["LaMP_4"], llm=planner.Planner("scripted", store.Store(":memory:")))


def written(body):
    """The file of a strategy with this in it."""
    text = "from hydrajax.llm import request\nfrom hydrajax.prompting.contract import Strategy\n\n\n"
    return f"{text}class Mine(Strategy):\n    {body}\n\n\nSTRATEGY = Mine()\n"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("def prepare(self, *args): 1 / 0", r"prepare raises ZeroDivisionError: .*faulty.py:6\)"),
        ("def prepare(self, *args): open('none')", r"prepare raises FileNotFoundError: .*faulty.py:6\)"),
        ("def prepare(self, asked): return {}", r"prepare is called as prepare\(asked, ctx\), but: too many"),
        ("def prepare(self, *args): return None", "prepare gives None, expected a dictionary of query ids to texts"),
        ("def prepare(self, *args): return {'q': 3}", "prepare gives 3 for 'q', expected a dictionary"),
        ("def learn(self, *args): return {'u': 'calm'}", "learn gives 'calm' for 'u', expected .*UserModels"),
        ("def choose(self, *args): return {'q': None}", "choose gives None for 'q', expected"),
        ("def choose(self, *args): return {'q': ['r']}", "choose gives .'r'. for 'q', expected"),
        ("def messages(self, *args, note): return ()", r"messages gives \(\) for query 'q', expected a tuple of"),
        ("def messages(self, *args, note): return 'Hello.'", "messages gives 'Hello.' for query 'q', expected"),
        ("def messages(self, *args, note): return None", "messages gives None for query 'q', expected"),
        ("def messages(self, *args): return ()", r"messages is .*, note=...\), but: got an unexpected"),
        ("retriever = 'bm52'", "unknown retriever 'bm52', expected one of bm25"),
        ("retriever = 4", "retriever is 4, expected the name of a retriever, or None"),
        ("alone = 'yes'", "alone is 'yes', expected True or False"),
        ("template = None", "template is None, expected a text"),
        ("template = 'none.txt'", "unknown template 'none.txt', expected one of choose.txt, "),
        ("learn = None", "learn is None, expected a method"),
        ("retreiver = 'bm25'", "a strategy has no retreiver, and nothing reads it: expected retriever"),
        ("compare: bool = True", "a strategy has no compare, and nothing reads it: expected compares"),
        ("def mesages(self, *args, note): return ()", "a strategy has no mesages, .*: expected messages"),
        ("def __init__(self): self.persnal = False", "a strategy has no persnal, .*: expected personal"),
        (
            "alone, retriever, compare = 1, 'bm52', True",
            "alone is 1, expected True or False; unknown retriever 'bm52', .*; a strategy has no compare, ",
        ),
        ("def prepare(self, *args): return {'other': 'x'}", "prepare gives something for 'other', which it was not"),
    ],
)
def test_what_a_strategy_does_wrong_is_one_sentence(body, says, folder, ctx):
    (folder / "faulty.py").write_text(written(body))
    with pytest.raises(DataError, match=rf"^prompt strategy 'mine/faulty\.py': {says}[^\n]*$") as refused:
        strategy = registry.get("mine/faulty.py")
        asked = [contract.Asked(query=QUERY, profile=())]
        strategy.learn([User(id="u")], ctx)
        strategy.choose(asked, 1, ctx)
        strategy.prepare(asked, ctx)
        strategy.messages(QUERY, (), None, ctx, note="")
    if "raises" in says:
        assert type(refused.value.__cause__).__name__ in says


@pytest.mark.parametrize(
    "body",
    [
        "templates = ('a', 'b')",  # no text, as `template` is
        "def compare(self): pass",  # a method, `compares` is none
        "learned = {}",
        "persona = True; prepare = lambda self, asked, ctx: {'q': str(self.persona)}",  # it is read
        "def messages(self, *args, note): return self.message(*args)\n    def message(self, *args): pass",
        "def prepare(self, asked, ctx): return {'q': _noted(self)}\n    prepared = 3\ndef _noted(s): return s.prepared",
        "retriever = 'bm25'; retrieve = 'x'",
        "_retreiver = 'bm25'",
    ],
)
def test_attributes_of_ones_own_may_be_called_much_like_those_of_a_strategy(body, folder):
    (folder / "right.py").write_text(written(body))
    assert registry.get("mine.right").name == "right"


def test_that_the_llm_does_not_answer_is_no_fault_of_a_strategy(folder, ctx):
    (folder / "asks.py").write_text(written("def prepare(self, *args): raise request.Stopped('the budget is spent')"))
    with pytest.raises(request.Stopped, match="^the budget is spent$"):
        registry.get("mine.asks").prepare([], ctx)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("(q):\n    return [0]", "rank raises TypeError: "),
        ("(*args, **more):\n    1 / 0", r"rank raises ZeroDivisionError: division by zero \(.*faulty.py:2\)"),
        ("(*args, **more):\n    return None", "rank gives None for query 'q', expected a list of the numbers of all"),
        ("(*args, **more):\n    return [0, 0]", r"rank gives \[0, 0\] for query 'q', expected"),
        ("(*args, **more):\n    return [1]", r"rank gives \[1\] for query 'q', expected"),
        ("(*args, **more):\n    return ['a', 'b']", r"rank gives \['a', 'b'\] for query 'q', expected"),
    ],
)
def test_what_a_retriever_does_wrong_is_one_sentence(body, says, folder):
    (folder / "faulty.py").write_text(f"def rank{body}\n")
    user = User(id="u", profile=tuple(Record(id=i, fields={"text": "t", "title": "t"}) for i in ("1", "2")))
    with pytest.raises(DataError, match=f"^retriever 'mine.faulty': {says}[^\n]*$"):
        retrieval.retrieve("mine.faulty", tasks.LAMP["LaMP_4"], QUERY, user, 1)


@pytest.mark.parametrize("kind", [registry, families, retrieval])
def test_every_one_has_a_line_for_the_help(kind):
    lines = kind.summaries()
    assert tuple(lines) == kind.names()
    assert all(len(line) > 8 and line[-1] in ".:" for line in lines.values())


def test_what_can_be_listed_and_configured_loads_no_large_library():
    parts = ("prompting.contract", "prompting.registry", "prompting.library", "retrieval", "metrics", "nn.families")
    large = {"anthropic", "jax", "transformers", "sklearn", "scipy", "sacrebleu", "rouge_score", "grain", "flax"}
    code = "import sys\n" + "".join(f"import hydrajax.{part}\n" for part in parts)
    code += "for part in (hydrajax.prompting.registry, hydrajax.nn.families, hydrajax.retrieval): part.summaries()\n"
    code += f"print(sorted({large} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
