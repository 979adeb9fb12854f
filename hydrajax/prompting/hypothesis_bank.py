"""`hypothesis_bank`: hypotheses that tell the user's records from other people's (HypoGeniC, arXiv 2404.04326).

The hypotheses of `hypotheses`, inferred from the older records, are tried on pairs: one of the newer records, and a
record of another user about something else. The LLM is given one hypothesis and has to say which of the two is the
user's. Where most hypotheses are wrong, new ones are made of the pairs that failed (`_hypogenic`). The best ones stand
before the query, as those of `hypotheses` do.

A user with fewer than four records gets what `hypotheses` makes of all of them, and so does everybody where there are
no other users to compare with. Calls go out in rounds, those of all users together: one round a pair, and two for each
time that new hypotheses are made, 20 at most. A round is a batch of trials, of proposals, or one of each.
"""

import collections
import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from hydrajax.data import draws
from hydrajax.prompting import _hypogenic, _peers, hypotheses, shorten, templates
from hydrajax.prompting.contract import Context, UserModel
from hydrajax.types import Record, User

# A profile of 7 records leaves 3 pairs, one of 20 leaves 10. The bank begins with all that a first answer may hold, 12
# lines; 3 pairs tried with 4 each are just enough to try all of them once. The paper's 10 failed examples (of 200)
# would never come together: 2 pairs are 4 texts, which say something already. An answer has a line of each of 4 kinds.
# Besides the first answer this is at most 12 + 9 calls for 3 pairs and 40 + 45 for 10, most of them for one letter.
SETTINGS = _hypogenic.BankSettings(size=12, tried=4, wrong=2, proposed=len(hypotheses.KINDS))
LEAST_RECORDS = 4  # two to infer from, two to try on
MOST_PAIRS = 10  # more records say little more, and every pair costs four calls
SHOWN = 6  # lines of the user model
PROMPTS = (*hypotheses.PROMPTS, "which_person.txt", "more_hypotheses.txt")
LETTER_TOKENS = 4
_LETTER = re.compile(r"\W*([AB])\W*")


class HypothesisBank(hypotheses.Hypotheses):
    """Puts those hypotheses about the user before the query that tell the user from others."""

    name = "hypothesis_bank"
    compares = True

    def learn(self, users: Sequence[User], ctx: Context) -> dict[str, UserModel]:
        parts = {user.id: _Parts.of(user, ctx) for user in users if user.profile}
        first = super().learn([part.inferred for part in parts.values()], ctx)
        banks = {
            user_id: _hypogenic.refine(first[user_id].text.splitlines(), part.pairs, SETTINGS)
            for user_id, part in parts.items()
            if part.pairs and first[user_id].text
        }
        trials = _Trials(ctx, self)
        refined = _hypogenic.together(banks, trials.reply)
        return first | {
            user_id: dataclasses.replace(
                first[user_id],
                text="\n".join(hypothesis.text for hypothesis in best(bank)),
                records=(*first[user_id].records, *(pair.record_id for pair in parts[user_id].pairs)),
                prompt=templates.version(*PROMPTS),
                fault=", ".join(filter(None, (first[user_id].fault, trials.fault(user_id)))),
            )
            for user_id, bank in refined.items()
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pair:
    """A record of the user and one of another user, shortened, as they are quoted in prompts.

    Attributes:
      record_id: of the user's record.
      own, other: the texts.
      first: whether the user's stands first.
    """

    record_id: str
    own: str
    other: str
    first: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Parts:
    """What is inferred from, and what that is tried on; without pairs the whole user is inferred from."""

    inferred: User
    pairs: tuple[Pair, ...] = ()

    @classmethod
    def of(cls, user: User, ctx: Context) -> "_Parts":
        if len(user.profile) < LEAST_RECORDS:
            return cls(inferred=user)
        held = min(len(user.profile) // 2, MOST_PAIRS)
        drawn = [(record, _other(record, user, ctx)) for record in user.profile[-held:]]
        # A proposal quotes as many pairs as failed, and these share the budget of a prompt.
        share = max(1, ctx.settings.max_prompt_tokens // SETTINGS.wrong)
        own = dataclasses.replace(ctx, settings=dataclasses.replace(ctx.settings, max_prompt_tokens=share))
        pairs = tuple(_pair(record, other, user, own) for record, other in drawn if other is not None)
        rest = dataclasses.replace(user, profile=user.profile[:-held])
        return cls(inferred=rest, pairs=pairs) if pairs else cls(inferred=user)


def best(bank: Sequence[_hypogenic.Hypothesis]) -> tuple[_hypogenic.Hypothesis, ...]:
    """Those that are shown, the most dependable first, of equals that of the highest reward."""
    return tuple(sorted(bank, key=lambda hypothesis: -_hypogenic.expected_accuracy(hypothesis))[:SHOWN])


class _Trials:
    """Puts to the LLM what banks ask, and counts the answers that could not be read."""

    def __init__(self, ctx: Context, strategy: HypothesisBank):
        self._ctx, self._strategy = ctx, strategy
        self._letters: collections.Counter[str] = collections.Counter()
        self._lists: collections.Counter[str] = collections.Counter()

    def reply(self, asked: Mapping[str, _hypogenic.Step[Pair]]) -> dict[str, Any]:
        """See `_hypogenic.together`: all trials in one batch, all proposals in another."""
        trials = {user_id: step for user_id, step in asked.items() if isinstance(step, _hypogenic.Predict)}
        failed = {user_id: step for user_id, step in asked.items() if isinstance(step, _hypogenic.Propose)}
        return self._tried(trials) | self._proposed(failed)

    def fault(self, user_id: str) -> str:
        """What was wrong with the answers about a user; empty where nothing was."""
        counts = {"unreadable trials": self._letters[user_id], "unreadable proposals": self._lists[user_id]}
        return ", ".join(f"{count} {what}" for what, count in counts.items() if count)

    def _tried(self, asked: Mapping[str, _hypogenic.Predict[Pair]]) -> dict[str, list[list[bool]]]:
        questions = {
            (user_id, row, column): (user_id, _which(hypothesis, pair))
            for user_id, step in asked.items()
            for row, pair in enumerate(step.examples)
            for column, hypothesis in enumerate(step.hypotheses)
        }
        said = self._ctx.ask(questions, max_tokens=LETTER_TOKENS, stage="hypotheses tried")
        found = {user_id: [[False] * len(step.hypotheses) for _ in step.examples] for user_id, step in asked.items()}
        for (user_id, row, column), answer in said.items():
            letter = _LETTER.fullmatch(answer)
            self._letters[user_id] += letter is None
            right = "A" if asked[user_id].examples[row].first else "B"
            found[user_id][row][column] = letter is not None and letter.group(1) == right
        return found

    def _proposed(self, asked: Mapping[str, _hypogenic.Propose[Pair]]) -> dict[str, list[str]]:
        questions = {user_id: (user_id, _more(step.examples)) for user_id, step in asked.items()}
        limit = self._ctx.settings.max_hypotheses_tokens
        said = self._ctx.ask(questions, max_tokens=limit, stage="more hypotheses")
        found = {user_id: self._strategy.read(answer).lines for user_id, answer in said.items()}
        self._lists.update(user_id for user_id, lines in found.items() if not lines)
        return {user_id: _one_of_each_kind(lines) for user_id, lines in found.items()}


def _one_of_each_kind(lines: Sequence[str]) -> list[str]:
    """The first of each; of an answer with more the bank would take those of the first kinds alone."""
    firsts: dict[str, str] = {}
    for line in lines:
        firsts.setdefault(line.partition(":")[0], line)
    return list(firsts.values())


def _pair(record: Record, other: Record, user: User, ctx: Context) -> Pair:
    own, strange = (ctx.task.quoted(short) for short in shorten.shorten_records((record, other), ctx))
    first = draws.number(ctx.seed, user.id, record.id, "order") % 2 == 0
    return Pair(record_id=record.id, own=own, other=strange, first=first)


def _other(record: Record, user: User, ctx: Context) -> Record | None:
    """A record of another user, drawn by seed, user and record, about nothing that the user has a record of.

    Not in the other half of the profile either, whose records are asked as pseudo-queries.
    """
    population = ctx.population or {}
    known = {_peers.about(own, ctx) for own in ctx.whole.get(user.id, user).profile}
    ids = sorted(other_id for other_id in population if other_id != user.id)
    number = draws.number(ctx.seed, user.id, record.id, "other")
    for place in range(len(ids)):
        profile = population[ids[(number + place) % len(ids)]].profile
        usable = [
            other
            for other in profile
            if ctx.task.record_answer(other).strip() and _peers.about(other, ctx) not in known
        ]
        if usable:
            return draws.shuffled(usable, seed=number, name=lambda other: other.id)[0]
    return None


def _which(hypothesis: str, pair: Pair) -> str:
    a, b = (pair.own, pair.other) if pair.first else (pair.other, pair.own)
    slots = {
        "hypothesis": templates.tagged("hypothesis", [hypothesis]),
        "a": templates.tagged("text", [a]),
        "b": templates.tagged("text", [b]),
    }
    return templates.fill("which_person.txt", slots)


def _more(pairs: Sequence[Pair]) -> str:
    quoted = "\n\n".join(
        f"{templates.tagged('person', [p.own])}\n{templates.tagged('other', [p.other])}" for p in pairs
    )
    return templates.fill("more_hypotheses.txt", {"pairs": quoted})


STRATEGY = HypothesisBank()
