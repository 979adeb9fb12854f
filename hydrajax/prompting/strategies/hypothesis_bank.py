"""Hypotheses that tell the user's records from other people's (HypoGeniC, arXiv 2404.04326).

The hypotheses of `hypotheses`, inferred from the older records, are tried on pairs: one of the user's records, and a
record of another user about something else. The LLM is given one hypothesis and has to say which of the two is the
user's. All are tried on the records that they were inferred from, and then the best of them on the newer ones. Where
most hypotheses are wrong, new ones are made of the pairs that failed (`hypogenic`). The best ones stand
before the query, as those of `hypotheses` do.

A user with fewer than four records gets what `hypotheses` makes of all of them, and so does everybody where there are
no other users to compare with. Calls go out in batches, those of all users together: one of trials for each pair, and
one of proposals and one of trials where somebody has enough failed pairs.
"""

import collections
import dataclasses
import re
from collections.abc import Mapping, Sequence

from hydrajax.data import draws
from hydrajax.prompting import hypogenic, peers, shorten, templates
from hydrajax.prompting.contract import Context, UserModel
from hydrajax.prompting.strategies import hypotheses
from hydrajax.types import Record, User

# A profile of 7 records leaves 3 pairs, one of 20 leaves 10. The bank begins with all that a first answer may hold, 12
# lines. The paper's 10 failed examples (of 200) would never come together: 2 pairs are 4 texts, which say something
# already. An answer has a line of each of 4 kinds. Besides the first answer this is at most 48 + 12 + 9 calls for 4
# records that are inferred from and 3 pairs, and 120 + 40 + 45 for 10 of both, most of them for one letter.
SETTINGS = hypogenic.BankSettings(size=12, tried=4, wrong=2, proposed=len(hypotheses.KINDS))
LEAST_RECORDS = 4  # two to infer from, two to try on
MOST_PAIRS = 10  # more records say little more, and every pair costs four calls
SHOWN = 6  # lines of the user model
PROMPTS = (*hypotheses.PROMPTS, "which_person.txt", "more_hypotheses.txt")
LETTER_TOKENS = 4
_LETTER = re.compile(r"\W*([AB])\W*")


class HypothesisBank(hypotheses.Hypotheses):
    """Puts those hypotheses about the user before the query that tell the user from others."""

    compares = True

    def learn(self, users: Sequence[User], ctx: Context) -> dict[str, UserModel]:
        parts = {user.id: _split(user, ctx) for user in users if user.profile}
        first = super().learn([part.inferred_from for part in parts.values()], ctx)
        pairs = {user_id: part.pairs for user_id, part in parts.items() if part.pairs and first[user_id].text}
        trials = _Trials(ctx, self)
        banks = hypogenic.refine(
            {user_id: first[user_id].text.splitlines() for user_id in pairs},
            pairs,
            trials.tried,
            trials.more,
            SETTINGS,
            {user_id: parts[user_id].made_of for user_id in pairs},
        )
        return first | {
            user_id: dataclasses.replace(
                first[user_id],
                text="\n".join(hypothesis.text for hypothesis in best(bank)),
                records=(*first[user_id].records, *(pair.record_id for pair in pairs[user_id])),
                prompt=templates.version(*PROMPTS),
                fault=", ".join(filter(None, (first[user_id].fault, trials.fault(user_id)))),
            )
            for user_id, bank in banks.items()
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
class Parts:
    """A user's records, divided.

    Attributes:
      inferred_from: the user with the records that hypotheses are inferred from.
      made_of: pairs of those, which they are tried on first.
      pairs: of the other records, which they are tried on then.
    """

    inferred_from: User
    made_of: tuple[Pair, ...] = ()
    pairs: tuple[Pair, ...] = ()


def best(bank: Sequence[hypogenic.Hypothesis]) -> tuple[hypogenic.Hypothesis, ...]:
    """Those that are shown, the most dependable first, of equals that of the highest reward."""
    return tuple(sorted(bank, key=lambda hypothesis: -hypogenic.expected_accuracy(hypothesis))[:SHOWN])


class _Trials:
    """Puts to the LLM what `hypogenic.refine` asks, and counts the answers that could not be read."""

    def __init__(self, ctx: Context, strategy: HypothesisBank):
        self._ctx, self._strategy = ctx, strategy
        self._letters: collections.Counter[str] = collections.Counter()
        self._lists: collections.Counter[str] = collections.Counter()

    def tried(self, asked: Mapping[str, tuple[list[str], list[Pair]]]) -> dict[str, list[list[bool]]]:
        """See `hypogenic.Predict`."""
        questions = {
            (user_id, row, column): (user_id, _which(hypothesis, pair))
            for user_id, (texts, pairs) in asked.items()
            for row, pair in enumerate(pairs)
            for column, hypothesis in enumerate(texts)
        }
        answers = self._ctx.ask(questions, max_tokens=LETTER_TOKENS, stage="hypotheses tried")
        verdicts = {user_id: [[False] * len(texts) for _ in pairs] for user_id, (texts, pairs) in asked.items()}
        for (user_id, row, column), answer in answers.items():
            letter = _LETTER.fullmatch(answer)
            self._letters[user_id] += letter is None
            right = "A" if asked[user_id][1][row].first else "B"
            verdicts[user_id][row][column] = letter is not None and letter.group(1) == right
        return verdicts

    def more(self, failed: Mapping[str, list[Pair]]) -> dict[str, list[str]]:
        """See `hypogenic.Propose`."""
        questions = {user_id: (user_id, _more(pairs)) for user_id, pairs in failed.items()}
        answers = self._ctx.ask(questions, max_tokens=self._ctx.settings.max_hypotheses_tokens, stage="more hypotheses")
        lines = {user_id: self._strategy.read(answer).lines for user_id, answer in answers.items()}
        self._lists.update(user_id for user_id, listed in lines.items() if not listed)
        return {user_id: _one_of_each_kind(listed) for user_id, listed in lines.items()}

    def fault(self, user_id: str) -> str:
        """What was wrong with the answers about a user; empty where nothing was."""
        counts = {"unreadable trials": self._letters[user_id], "unreadable proposals": self._lists[user_id]}
        return ", ".join(f"{count} {what}" for what, count in counts.items() if count)


def _one_of_each_kind(lines: Sequence[str]) -> list[str]:
    """The first of each; of an answer with more the bank would take those of the first kinds alone."""
    firsts: dict[str, str] = {}
    for line in lines:
        firsts.setdefault(line.partition(":")[0], line)
    return list(firsts.values())


def _split(user: User, ctx: Context) -> Parts:
    """Where there are no pairs to try hypotheses on, they are inferred from all records."""
    held = min(len(user.profile) // 2, MOST_PAIRS)
    if len(user.profile) < LEAST_RECORDS:
        return Parts(inferred_from=user)
    older, newer = user.profile[:-held], user.profile[-held:]
    pairs = _pairs(newer, user, ctx)
    if not pairs:
        return Parts(inferred_from=user)
    read = older[-ctx.settings.summary_records :]
    return Parts(inferred_from=dataclasses.replace(user, profile=older), made_of=_pairs(read, user, ctx), pairs=pairs)


def _pairs(records: Sequence[Record], user: User, ctx: Context) -> tuple[Pair, ...]:
    # A proposal quotes as many pairs as failed, and these share the budget of a prompt.
    share = max(1, ctx.settings.max_prompt_tokens // SETTINGS.wrong)
    within = dataclasses.replace(ctx, settings=dataclasses.replace(ctx.settings, max_prompt_tokens=share))
    drawn = [(record, _other(record, user, ctx)) for record in records]
    return tuple(_pair(record, other, user, within) for record, other in drawn if other is not None)


def _pair(record: Record, other: Record, user: User, ctx: Context) -> Pair:
    own, strange = shorten.quoted((record, other), ctx)
    first = draws.number(ctx.seed, user.id, record.id, "order") % 2 == 0
    return Pair(record_id=record.id, own=own, other=strange, first=first)


def _other(record: Record, user: User, ctx: Context) -> Record | None:
    """A record of another user, drawn by seed, user and record, about nothing that the user has a record of.

    Not in the other half of the profile either, whose records are asked as pseudo-queries.
    """
    population = ctx.population or {}
    known = {peers.about(record_of_user, ctx) for record_of_user in ctx.whole.get(user.id, user).profile}
    ids = sorted(other_id for other_id in population if other_id != user.id)
    number = draws.number(ctx.seed, user.id, record.id, "other")
    for place in range(len(ids)):
        profile = population[ids[(number + place) % len(ids)]].profile
        usable = [
            other for other in profile if ctx.task.record_answer(other).strip() and peers.about(other, ctx) not in known
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
