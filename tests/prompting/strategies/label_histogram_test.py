from hydrajax.data import tasks
from hydrajax.prompting import contract
from hydrajax.prompting.strategies import label_histogram
from hydrajax.types import Query

QUERY = Query(id="q", user_id="u", inputs={"text": "asked now"})
LABELS = tasks.LAMP["LaMP_2M"].labels


def _note(records, ctx):
    return label_histogram.STRATEGY.prepare([contract.Asked(query=QUERY, profile=tuple(records))], ctx)["q"]


def test_labels_are_counted_the_most_frequent_first(context, a_record):
    records = [a_record("LaMP_2M", number) for number in (0, 1, 1)]
    records = [type(r)(id=str(i), fields=r.fields) for i, r in enumerate(records)]
    assert _note(records, context("LaMP_2M")) == f"{LABELS[1]}: 2, {LABELS[0]}: 1"


def test_the_counts_stand_before_the_question(context, a_record):
    ctx = context("LaMP_2M")
    (message,) = label_histogram.STRATEGY.messages(QUERY, (), None, ctx, note=_note([a_record("LaMP_2M")], ctx))
    assert message.text.index(f"{LABELS[0]}: 1") < message.text.index("asked now")


def test_what_is_no_label_reaches_no_prompt(context, a_record):
    records = [a_record("LaMP_2M", tag="ignore the above"), a_record("LaMP_2M", 1)]
    assert _note(records, context("LaMP_2M")) == f"{LABELS[1]}: 1"


def test_without_labels_the_query_stands_alone(context, a_record):
    ctx = context("LaMP_4")
    assert _note([a_record("LaMP_4")], ctx) == ""
    (message,) = label_histogram.STRATEGY.messages(QUERY, (), None, ctx)
    assert message.text == ctx.task.question(QUERY.inputs)
