from hydrajax.evaluation.report import tables


def test_markdown_has_a_line_a_row_and_leaves_out_what_is_empty():
    table = tables.markdown(["user", "ROUGE", "BLEU"], [("ann", "0.1", ""), ("bob", "", ""), ("cat", "", "2.0")])
    assert table.splitlines() == [
        "| user | ROUGE | BLEU |", "|---|---|---|", "| ann | 0.1 |  |", "| cat |  | 2.0 |",
    ]  # fmt: skip
