"""What is asked under each condition, with an LLM that repeats what it is told."""

import dataclasses
import types

import pytest

from hydrajax.data import simulated, tasks, tempting
from hydrajax.methods import deliberative
from hydrajax.prompting import registry
from hydrajax.types import DataError, Record, User

PROMPTS = tempting.first(1)
TASK = deliberative.request_task(simulated.TASK)


def people(users=4, records=3):
    return {
        f"u{i}": User(
            id=f"u{i}",
            profile=tuple(
                Record(id=f"r{j}", fields={"topic": f"topic{i}", "text": f"own{i}x{j}z"}) for j in range(records)
            ),
        )
        for i in range(users)
    }


@pytest.fixture
def make(bench, answering, settings):
    """A `Lab` whose LLM sums records up as `summary: ` and their words; else it repeats the prompt's last line."""

    def made(users, **rest):
        def answer(request):
            text = request.messages[-1].text
            if "Describe in two or three sentences" in text:
                own = [word.strip('"') for word in text.split() if word.startswith('"own')]
                return "summary: " + " ".join(own)
            return text.splitlines()[-1]

        place = types.SimpleNamespace(task=TASK, users=users)
        return bench(place, settings(), transport=answering(answer), **rest)

    return made


def test_every_user_makes_every_request_under_every_condition(make):
    here = make(people())
    found = deliberative.ask_all(here, PROMPTS, ["pag", "zero_shot"])
    conditions = ["plain", "pag", deliberative.mixed_name("pag"), "zero_shot"]
    assert [(r.condition, r.user, r.prompt) for r in found.replies] == [
        (condition, user, prompt.id) for condition in conditions for user in here.users for prompt in PROMPTS
    ]
    text = {prompt.id: prompt.text for prompt in PROMPTS}
    assert all(reply.text == text[reply.prompt] for reply in found.replies)
    assert found.known == {"plain": 0, "pag": 4, deliberative.mixed_name("pag"): 4, "zero_shot": 0}


def test_plain_is_the_request_alone_and_one_call_a_prompt(make):
    here = make(people())
    deliberative.ask_all(here, PROMPTS, [])
    asked = here.ctx.llm.requests("plain")
    assert {tuple(m.text for m in r.messages) for r in asked} == {(prompt.text,) for prompt in PROMPTS}
    assert here.ctx.llm.usage.calls == len(PROMPTS)


def test_zero_shot_tells_nothing_and_costs_no_call_beside_plain(make):
    here = make(people())
    found = deliberative.ask_all(here, PROMPTS, ["zero_shot"])
    assert here.ctx.llm.usage.calls == len(PROMPTS)
    texts = {c: [r.text for r in found.replies if r.condition == c] for c in ("plain", "zero_shot")}
    assert texts["plain"] == texts["zero_shot"]


def test_a_strategy_puts_what_it_knows_of_the_user_and_of_nobody_else_before_the_request(make):
    here = make(people())
    deliberative.ask_all(here, PROMPTS, ["pag"])
    asked = here.ctx.llm.requests("pag")
    assert len(asked) == len(here.users) * len(PROMPTS)
    for request in asked:
        (message,) = request.messages  # no records
        summary, *_, question = message.text.splitlines()
        known = [i for i in range(4) if f"own{i}x" in summary]
        assert known == [int(request.group.removeprefix("u"))]
        assert question in {prompt.text for prompt in PROMPTS}


def test_a_mixed_user_has_as_many_records_none_of_them_the_users_own(make):
    users = people(users=5, records=4) | {"cold": User(id="cold")}
    mixed = deliberative.mix(users, seed=0)
    assert mixed.keys() == users.keys()
    assert not {user.id for user in mixed.values()} & set(users)
    for user_id, stand_in in mixed.items():
        assert len(stand_in.profile) == len(users[user_id].profile) == len({r.id for r in stand_in.profile})
        own = {record.fields["text"] for record in users[user_id].profile}
        assert not own & {record.fields["text"] for record in stand_in.profile}
    assert any(len({r.fields["topic"] for r in stand_in.profile}) > 1 for stand_in in mixed.values())
    assert deliberative.mix(users, seed=0) == mixed != deliberative.mix(users, seed=1)


def test_mixed_users_are_asked_for_with_their_own_user_models(make):
    here = make(people())
    deliberative.ask_all(here, PROMPTS, ["pag"])
    for request in here.ctx.llm.requests(deliberative.mixed_name("pag")):
        for_user = request.group.partition(",")[0].removeprefix("u")
        assert "own" in request.messages[0].text and f"own{for_user}x" not in request.messages[0].text


def test_without_mixed_users_a_single_user_will_do(make):
    here = make(people(users=1))
    found = deliberative.ask_all(here, PROMPTS, ["pag"], mixed=False)
    assert {reply.condition for reply in found.replies} == {"plain", "pag"}
    with pytest.raises(DataError, match="user 'u0' has 3 records and all others 0"):
        deliberative.ask_all(here, PROMPTS, ["pag"])


def test_a_user_of_whom_nothing_is_known_is_asked_for_plainly(make):
    here = make(people() | {"cold": User(id="cold")})
    found = deliberative.ask_all(here, PROMPTS, ["pag"])
    assert found.known["pag"] == 4
    cold = [r for r in here.ctx.llm.requests("pag") if r.group == "cold"]
    assert [r.messages[0].text for r in cold] == [prompt.text for prompt in PROMPTS]


def test_answers_that_the_server_refused_are_kept_as_such(bench, answering, settings):
    class Refuses(answering):
        async def complete(self, request):
            return dataclasses.replace(await super().complete(request), text="", stop_reason="refusal")

    place = types.SimpleNamespace(task=TASK, users=people())
    here = bench(place, settings(), transport=Refuses(lambda request: None))
    found = deliberative.ask_all(here, PROMPTS, ["zero_shot"])
    assert {(reply.text, reply.stop_reason) for reply in found.replies} == {("", "refusal")}


def test_a_second_time_nothing_is_called(make, tmp_path):
    path = tmp_path / "answers.sqlite"
    first, second = (make(people(), path=path) for _ in range(2))
    found = deliberative.ask_all(first, PROMPTS, ["pag"])
    assert deliberative.ask_all(second, PROMPTS, ["pag"]) == found
    assert first.ctx.llm.usage.calls > 0 == second.ctx.llm.usage.calls


@pytest.mark.parametrize("name", ["rag", "icl_random"])
def test_a_strategy_that_shows_nothing_but_records_is_refused(name):
    with pytest.raises(DataError, match=f"strategy '{name}' says nothing of a user without records; valid are .*pag"):
        deliberative.check([name])


def test_a_strategy_that_looks_at_other_users_is_refused(monkeypatch):
    monkeypatch.setattr(type(registry.get("pag")), "compares", True)
    with pytest.raises(DataError, match="strategy 'pag'"):
        deliberative.check(["pag"])


@pytest.mark.parametrize("records", [simulated.TASK, *tasks.LAMP.values()], ids=lambda task: task.name)
def test_the_request_stands_as_it_is_whatever_task_the_records_are_of(records):
    task = deliberative.request_task(records)
    assert task.question({"text": "How {labels} do I?"}) == "How {labels} do I?"
    assert task.normalise("one line\nanother") == "one line\nanother"
    assert (task.fields, task.record_line) == (records.fields, records.record_line)
