import pytest

from hydrajax.cli import main
from hydrajax.prompting import contract, library


@pytest.fixture
def folder(tmp_path):
    kept = library.Library(tmp_path / "run" / "user_models.jsonl")
    model = contract.UserModel(text="[bold]calm[/bold]\nterse", records=("r0", "r1"), llm="m", prompt="abc")
    for user in ("u", "v"):
        for part in ("whole", "first"):
            kept.add({library.Key("hypotheses", user, part): library.Entry(model=model, calls=1)})
    return tmp_path / "run"


def call(*words):
    main.main(["user-models", *map(str, words)])


def text_of(folder, user="u", part="whole"):
    found = library.Library(folder / "user_models.jsonl")[library.Key("hypotheses", user, part)].model
    return None if found is None else found.text


def test_list_shows_all_and_show_one(folder, capsys):
    call("list", folder)
    assert capsys.readouterr().out.count("hypotheses") == 4
    call("list", folder, "--user", "v")
    assert capsys.readouterr().out.count("hypotheses") == 2
    call("show", folder, "--user", "u")
    out = capsys.readouterr().out
    assert "[bold]calm[/bold]\nterse" in out and "2 records, m, prompt abc" in out


def test_edit_by_text_and_by_file(folder, tmp_path, capsys):
    call("edit", folder, "--user", "u", "--strategy", "hypotheses", "--text", "loud")
    assert text_of(folder) == "loud" and text_of(folder, part="first") != "loud" != text_of(folder, "v")
    (tmp_path / "new.txt").write_text("from a file\n")
    call("edit", folder, "--user", "u", "--strategy", "hypotheses", "--part", "first", "--file", tmp_path / "new.txt")
    assert text_of(folder, part="first") == "from a file"
    call("show", folder, "--user", "u")
    assert capsys.readouterr().out.count("edited") == 2


def test_a_long_text_is_kept_whole_and_not_said_again(folder, capsys):
    call("edit", folder, "--user", "u", "--strategy", "hypotheses", "--text", "word " * 2000)
    assert len(capsys.readouterr().out) < 200
    assert text_of(folder) == " ".join(["word"] * 2000)


def test_delete_takes_the_halves_along(folder, capsys):
    call("delete", folder, "--user", "u")
    assert "2 deleted" in capsys.readouterr().out
    assert text_of(folder) is text_of(folder, part="first") is None and text_of(folder, "v") is not None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["show"], "hydrajax: user-models show needs --user"),
        (["list", "--strategy", "nope"], "there are no user models of strategy 'nope'; there are those of hypotheses"),
        (["edit", "--user", "u", "--strategy", "hypotheses", "--text", "word " * 3001], "has about 3,001 tokens, expe"),
        (["show", "--user", "w"], "there is no user model of user 'w'"),
        (["delete", "--user", "w"], "there is no user model of user 'w'"),
        (["delete", "--user", "u", "--text", "x"], "delete takes no --text"),
        (["edit", "--user", "u", "--text", "x"], "hydrajax: user-models edit needs --strategy"),
        (["edit", "--user", "u", "--strategy", "hypotheses"], "needs either --text or --file"),
        (["edit", "--user", "u", "--strategy", "hypotheses", "--text", " "], "is empty"),
        (["edit", "--user", "u", "--strategy", "pag", "--text", "x"], "there is no user model of user 'u'"),
        (["edit", "--user", "u", "--strategy", "hypotheses", "--file", "nowhere.txt"], "nowhere.txt"),
    ],
)
def test_bad_input_is_one_sentence_and_changes_nothing(words, said, folder, capsys):
    before = (folder / "user_models.jsonl").read_bytes()
    with pytest.raises(SystemExit) as ended:
        call(words[0], folder, *words[1:])
    error = capsys.readouterr().err
    assert ended.value.code == 2 and said in error and error.count("\n") == 1
    assert (folder / "user_models.jsonl").read_bytes() == before


def test_a_folder_without_any_names_the_folds_that_have_some(tmp_path, folder, capsys):
    (tmp_path / "folds").mkdir()
    folder.rename(tmp_path / "folds" / "fold-0")
    with pytest.raises(SystemExit):
        call("list", tmp_path / "folds")
    assert "its folds have: fold-0" in capsys.readouterr().err
