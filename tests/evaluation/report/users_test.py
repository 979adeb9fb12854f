"""What the report says of user models: whose a person has changed, and no more of a text than can be read."""

from hydrajax.evaluation.report import users as report_users


def line(user, *, strategy="pag", part="whole", text="calm", edited=False, deleted=False):
    model = {"text": text, "records": ["r0"], "llm": "m", "prompt": "", "fault": "", "edited": edited}
    rest = {"deleted": model} if deleted else {}
    return {"strategy": strategy, "user_id": user, "part": part, "model": None if deleted else model, **rest}


def test_models_changed_by_hand_are_named_also_those_of_users_that_are_not_shown():
    lines = [line(f"u{i}") for i in range(5)]
    lines += [line("u5", edited=True), line("u6", deleted=True), line("u7", part="first", edited=True)]
    page = report_users.section(lines, {})
    assert "pag, edited: u5, u7 (first half)<" in page and "pag, deleted: u6<" in page
    assert "3 of 6 users" in page and ">u5<" not in page


def test_where_nobody_has_changed_anything_nothing_is_said():
    nothing_learned = line("u1") | {"model": None}
    assert report_users.by_hand([line("u0"), nothing_learned]) is None
    assert report_users.section([nothing_learned], {}) is None


def test_of_many_users_some_are_named():
    told = report_users.by_hand([line(f"u{i}", edited=True) for i in range(report_users.NAMED + 7)])
    assert told.count("u1,") == 1 and "and 7 more" in told


def test_where_everything_was_deleted_that_is_said():
    assert "pag, deleted: u0" in report_users.section([line("u0", deleted=True)], {})


def test_a_long_text_is_cut():
    page = report_users.section([line("u0", text="x" * 10_000)], {})
    assert page.count("x") < report_users.MOST_CHARACTERS + 50 and " ...<" in page
