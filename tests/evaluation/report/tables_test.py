import pytest

from hydrajax.evaluation.report import tables


def test_markdown_has_a_line_a_row_and_leaves_out_what_is_empty():
    table = tables.markdown(["user", "ROUGE", "BLEU"], [("ann", "0.1", ""), ("bob", "", ""), ("cat", "", "2.0")])
    assert table.splitlines() == [
        "| user | ROUGE | BLEU |", "|---|---|---|", "| ann | 0.1 |  |", "| cat |  | 2.0 |",
    ]  # fmt: skip


def test_methods_stand_in_the_groups_of_the_roster_and_texts_stay_text():
    table = tables.grouped([("method", "name"), ("is", None)], {"<b>": ["x"], "hydra": ["<i>"]}, "hydra")
    assert table.index("HYDRA") < table.index(">hydra<") < table.index("Others") < table.index("&lt;b&gt;")
    assert table.count('<tr class="ours">') == 1 and "&lt;i&gt;" in table and "<i>" not in table
    with pytest.raises(ValueError, match="shorter"):
        tables.row([("method", None), ("is", None)], "hydra")
