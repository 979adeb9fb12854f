"""Queries put to the LLM through prompt strategies: which records are shown, and what it says to them."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from hydrajax.data import draws, pseudo
from hydrajax.llm import request
from hydrajax.methods import answers as answers_lib
from hydrajax.methods import ledger, llm_stages, user_models
from hydrajax.methods.answers import Answer, Pool, Prompt
from hydrajax.methods.lab import Lab
from hydrajax.prompting import contract
from hydrajax.types import Candidate, Message, Query, Record, profile_for

PARAPHRASE = "Say the following in other, plain words, without any explanation before or after it: "


def pseudo_queries(lab: Lab, user_ids: Sequence[str], population: Sequence[str] | None = None) -> list[Query]:
    """Records of the users' profiles as queries with known answers.

    Where records hold no input (LaMP_7) the LLM paraphrases what the user wrote, as the benchmark was made; a record
    whose paraphrase comes back empty is not asked.

    Args:
      user_ids: whose records.
      population: among whom the other author of LaMP_1's questions is found: the training users, so that no new user's
        profile shows in what others learn from. By default everybody.
    """
    task = lab.ctx.task
    others = [lab.users[user_id] for user_id in (lab.users if population is None else population)]
    queries = [
        query
        for user_id in user_ids
        for query in pseudo.pseudo_queries(
            task, lab.users[user_id], lab.settings.pseudo_queries, seed=lab.seed, population=others
        )
    ]
    if task.pseudo_query != "paraphrase":
        return queries
    requests = [
        lab.ctx.request(
            (Message(role="user", text=PARAPHRASE + task.query_text(query)),),
            temperature=lab.greedy,
            user_id=query.user_id,
        )
        for query in queries
    ]
    with ledger.charging(lab.ledger, llm_stages.PARAPHRASES, lab.ctx) as ctx:
        answers = ctx.llm.sample(requests, stage=llm_stages.PARAPHRASES)
    texts = [task.normalise(answer.text) for answer in answers]
    return [pseudo.with_inputs(query, text) for query, text in zip(queries, texts, strict=True) if text]


def prompts(lab: Lab, strategy: str, queries: Sequence[Query], k: int) -> list[Prompt]:
    """The queries with the k records that a strategy shows, none where it shows none."""
    of = lab.strategy(strategy)
    bare = [Prompt(query=query) for query in queries]
    if of.retriever is None or k == 0:
        return bare
    chosen = of.choose(_asked(lab, bare, user_models.known(lab, strategy, queries)), k, lab.ctx)
    retriever = lab.settings.retriever if of.retriever == "bm25" else of.retriever
    return [
        Prompt(
            query=query, records=tuple(chosen[query.id] if query.id in chosen else lab.retrieve(query, k, retriever))
        )
        for query in queries
    ]


def sample(
    lab: Lab,
    strategy: str,
    asked: Sequence[Prompt],
    *,
    samples: int,
    stage: str,
    source: str | None = None,
    greedy: bool = True,
) -> list[Pool]:
    """The greedy answer and `samples` sampled ones to each prompt, equal answers merged and their votes counted.

    An LLM that takes no temperature gives independent samples, the first of which stands in for the greedy one; the
    others see the records in other orders, and one of three or more left out.

    Args:
      asked: queries with the records to show.
      samples: how many beside the greedy answer.
      stage: names the calls in progress and plans.
      source: what the candidates are called; by default as the strategy.
      greedy: without, the samples alone.

    Returns:
      a pool for each prompt, the greedy answer first (see `merge` for where it is missing).
    """
    of, queries = lab.strategy(strategy), [prompt.query for prompt in asked]
    of_users = dataclasses.replace(lab.ctx, whole=lab.users)
    known = user_models.known(lab, strategy, queries)
    with ledger.charging(lab.ledger, llm_stages.notes(stage), lab.ctx) as ctx:
        notes = of.prepare(_asked(lab, asked, known), ctx)
    hot = lab.settings.temperature if lab.greedy is not None else None
    first_hot = 0 if lab.greedy is not None else 1
    requests: list[request.Request] = []
    for prompt in asked:
        query, records = prompt.query, prompt.records
        model, note = known.get(query.id), notes.get(query.id, "")
        messages = of.messages(query, records, model, of_users, note=note)
        if greedy:
            requests.append(lab.ctx.request(messages, temperature=lab.greedy, user_id=query.user_id))
        for i in range(samples):
            if lab.greedy is None and len(records) > 1:
                messages = of.messages(query, _varied(lab, prompt, i), model, of_users, note=note)
            styled = _styled(lab.settings.styles, messages, i)
            requests.append(lab.ctx.request(styled, temperature=hot, sample=first_hot + i, user_id=query.user_id))
    with ledger.charging(lab.ledger, stage, lab.ctx) as ctx:
        answers = ctx.llm.sample(requests, stage=stage)
    pools, each = [], samples + greedy
    for i, prompt in enumerate(asked):
        drawn = answers[i * each : (i + 1) * each]
        candidates = [
            Candidate(
                text=answer.text, source=source or strategy, stop_reason=answer.stop_reason, greedy=greedy and n == 0
            )
            for n, answer in enumerate(drawn)
        ]
        merged = merge(candidates, lab.ctx.task.normalise)
        pools.append(Pool(query=prompt.query, records=prompt.records, candidates=tuple(merged)))
    return pools


def answer(lab: Lab, strategy: str, asked: Sequence[Prompt], *, stage: str) -> list[Answer]:
    """The greedy answer to each prompt; arguments as of `sample`."""
    return [answers_lib.choose(pool, 0) for pool in sample(lab, strategy, asked, samples=0, stage=stage)]


def merge(candidates: Sequence[Candidate], normalise: Callable[[str], str]) -> list[Candidate]:
    """Candidates that read the same become one with the sum of their votes; the first one's place and text stay.

    An empty answer is a failure of the LLM, and a refusal is no answer: they are left out unless nothing else is there.
    """
    by_text: dict[tuple[str, str], Candidate] = {}
    for candidate in candidates:
        if candidate.stop_reason == "refusal":
            continue
        key = (candidate.source, normalise(candidate.text))
        if key in by_text:
            by_text[key] = dataclasses.replace(by_text[key], votes=by_text[key].votes + candidate.votes)
        else:
            by_text[key] = candidate
    kept = [candidate for (_, text), candidate in by_text.items() if text]
    return kept or list(candidates[:1])


def _asked(lab: Lab, asked: Sequence[Prompt], known: Mapping[str, contract.UserModel]) -> list[contract.Asked]:
    return [
        contract.Asked(
            query=prompt.query,
            profile=profile_for(prompt.query, lab.users[prompt.query.user_id]),
            records=prompt.records,
            user_model=known.get(prompt.query.id),
        )
        for prompt in asked
    ]


def _varied(lab: Lab, prompt: Prompt, sample: int) -> tuple[Record, ...]:
    """The records in another order, one of three or more left out, drawn by seed, query and sample alone.

    A model without temperature says much the same to the same prompt.
    """
    seed = draws.number(lab.seed, prompt.query.draw_name, sample)
    order = draws.shuffled(prompt.records, seed=seed, name=lambda record: record.id)
    return tuple(order[: len(order) - (len(order) > 2)])


def _styled(styles: Sequence[str], messages: tuple[Message, ...], sample: int) -> tuple[Message, ...]:
    """The conversation with the sample's style instruction under the question, where there are any."""
    if not styles:
        return messages
    text = f"{messages[-1].text}\n{styles[sample % len(styles)]}"
    return (*messages[:-1], dataclasses.replace(messages[-1], text=text))
