import numpy as np

from hydrajax.methods import trials


def test_each_of_the_top_records_is_shown_alone_and_never_the_own_one(world, bench):
    place = world()
    here = bench(place)
    queries = here.pseudo_queries(list(place.users))
    tried = trials.record_trials(here, queries)
    assert len(tried) == 3 * len(queries) == len(here.ctx.llm.requests("record trials"))
    for trial, asked in zip(tried, here.ctx.llm.requests("record trials"), strict=True):
        assert trial.tried.id != trial.query.record_id
        shown = (*place.task.demonstration_turns(trial.tried), asked.messages[-1])
        assert asked.messages == shown
        assert asked.messages[-1].text == place.task.question(trial.query.inputs)
        assert asked.temperature == 0.0
    assert here.ledger["record trials", "n0"]["calls"] == 2 * 3


def test_a_record_helped_where_its_answer_is_above_the_mean_of_its_own_query(world, bench, answering):
    # Everything said for n0 is right in most words, everything for n1 hardly in any: a mean over both would call all
    # of n0's records helpful and none of n1's.
    place = world()

    def answer(asked):
        question = asked.messages[-1].text
        level = 3 if "askn0" in question else 1
        shown = asked.messages[0].text
        gold = next(r.fields["title"] for u in place.users.values() for r in u.profile if r.fields["text"] in question)
        better = "r0z" in shown or "r2z" in shown
        return " ".join(gold.split()[: level + better])

    here = bench(place, transport=answering(answer))
    queries = here.pseudo_queries(["n0", "n1"])
    tried = trials.record_trials(here, queries)
    by_query = {q.id: [t for t in tried if t.query.id == q.id] for q in queries}
    means = {q: np.mean([t.quality for t in own]) for q, own in by_query.items()}
    assert min(m for q, m in means.items() if "n0" in q) > max(m for q, m in means.items() if "n1" in q) + 0.1
    for own in by_query.values():
        assert {t.label for t in own} == {0.0, 1.0}
        mean = np.mean([t.quality for t in own])
        assert [t.label for t in own] == [float(t.quality > mean) for t in own]


def test_labels_of_a_query_do_not_depend_on_what_else_is_tried(world, bench):
    place = world()
    here = bench(place)
    queries = here.pseudo_queries(list(place.users))
    together = trials.record_trials(here, queries)
    alone = [trial for query in queries for trial in trials.record_trials(here, [query])]
    assert together == alone
    assert {trial.label for trial in together} == {0.0, 1.0}


def test_records_of_equal_quality_help_none_of_them(world, bench, answering):
    place = world()
    here = bench(place, transport=answering(lambda r: "always the same"))
    tried = trials.record_trials(here, here.pseudo_queries(["n0"]))
    assert {trial.label for trial in tried} == {0.0}


def test_of_labels_only_the_right_one_helps(world, bench, answering):
    place = world("LaMP_2M")
    query = place.people.validation_queries[0]
    for said, label in ((query.gold, 1.0), (f"not {query.gold}", 0.0), ("", 0.0)):
        here = bench(place, transport=answering(lambda r, said=said: said))
        assert {trial.label for trial in trials.record_trials(here, [query])} == {label}


def test_a_rating_that_is_near_is_not_right(world, bench, answering):
    place = world("LaMP_3")
    query = place.people.validation_queries[0]
    near = str(int(query.gold) - 1 or 2)
    here = bench(place, transport=answering(lambda r: near))
    (trial, *_) = trials.record_trials(here, [query])
    assert trial.label == 0.0 and trial.quality == 0.75


def test_candidates_are_judged_inside_their_pool(world, bench):
    place = world()
    here = bench(place)
    queries = here.pseudo_queries(list(place.users))
    pools = here.pools("zero_shot", {}, queries, samples=3, source="s", stage="s")
    tried = trials.candidate_trials(here, queries, pools)
    assert [(t.query.id, t.tried) for t in tried] == [(q.id, c) for q in queries for c in pools[q.id]]
    for trial in tried:
        pool = [here.quality(trial.query, candidate.text) for candidate in pools[trial.query.id]]
        assert trial.quality == here.quality(trial.query, trial.tried.text)
        assert trial.label == float(trial.quality > np.mean(pool) + 1e-9)


def test_a_user_without_records_tries_none(world, bench):
    place = world(cold=("n0",))
    here = bench(place)
    assert trials.record_trials(here, place.people.new_queries[:1]) == []
    assert here.ctx.llm.seen == []
