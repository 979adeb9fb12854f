"""What an LLM infers of a user from a few texts, put into the prompt (HyPerAlign, arXiv 2505.00038).

The hypotheses are of four kinds: communication strategies, personality, writing style, and attributes. One call a user;
where the answer cannot be read one more, which repairs it; where that cannot be read either, the first sentences of
the first answer stand in as hypotheses of no kind, and where there are none in English the prompt is that of `rag`.
Attributes of the user that the data give stand before the hypotheses. Whatever is not as it should be is told in
`UserModel.fault`.
"""

import dataclasses
import re
import unicodedata
from collections.abc import Sequence

from hydrajax.prompting import shorten, templates, turns
from hydrajax.prompting.contract import Context, Strategy, UserModel
from hydrajax.types import Message, Query, Record, User

KINDS = ("communication", "personality", "style", "attribute")
MOST_OF_A_KIND = 3
ALIKE = 0.6
SHORTEST = 4  # words of a sentence that says anything
PROMPTS = ("hypotheses.txt", "hypotheses_repair.txt", "with_hypotheses.txt")
_FUNCTION_WORDS = frozenset(
    {
        *("a", "about", "an", "and", "are", "as", "at", "be", "by", "for", "from", "has", "have", "he", "her", "his"),
        *("in", "is", "it", "more", "not", "of", "often", "on", "or", "she", "that", "the", "their", "they", "this"),
        *("to", "uses", "very", "was", "who", "with", "writes"),
    }
)
_LINE = re.compile(r"^[\s\-*#\d.)]*\**(" + "|".join(KINDS) + r")(?:s|ies)?\**\s*:\**\s*(.+)$", re.IGNORECASE)


class Hypotheses(Strategy):
    """Puts hypotheses about the user before the query."""

    retriever = "bm25"
    alone = True
    template = "with_hypotheses.txt"

    def learn(self, users: Sequence[User], ctx: Context) -> dict[str, UserModel]:
        limit = ctx.settings.max_hypotheses_tokens
        users = [user for user in users if user.profile]
        questions = {user.id: (user.id, _question(user, ctx)) for user in users}
        answers = ctx.ask(questions, max_tokens=limit, stage="hypotheses")
        parsed = {user_id: self.read(text) for user_id, text in answers.items()}
        unread = {
            user_id: (user_id, templates.fill("hypotheses_repair.txt", {"answer": templates.tagged("notes", [answer])}))
            for user_id, answer in answers.items()
            if answer and not parsed[user_id].lines
        }
        for user_id, text in ctx.ask(unread, max_tokens=limit, stage="hypotheses, repaired").items():
            repaired = self.read(text)
            parsed[user_id] = (
                Parsed(lines=repaired.lines, fault=repaired.fault or "repaired")
                if repaired.lines
                else prose(answers[user_id])
            )
        return {
            user.id: ctx.user_model(
                "\n".join(parsed[user.id].lines),
                user.profile[-ctx.settings.summary_records :],
                PROMPTS,
                parsed[user.id].fault,
            )
            for user in users
        }

    def read(self, answer: str) -> "Parsed":
        """See `parse`."""
        return parse(answer)

    def messages(
        self,
        query: Query,
        records: Sequence[Record],
        user_model: UserModel | None,
        ctx: Context,
        *,
        note: str = "",
    ) -> tuple[Message, ...]:
        """The conversation to send, with the user's attributes and what was inferred; see `Strategy.messages`."""
        user = ctx.whole.get(query.user_id)
        if user is None or not user.attributes:
            return super().messages(query, records, user_model, ctx, note=note)
        *before, last = turns.conversation(query, records, ctx)
        given = [f"{name}: {text}" for name, text in user.attributes.items()]
        slots = {"attributes": templates.tagged("attribute", given), "question": last.text}
        known = note or (user_model.text if user_model else "")
        template = "with_attributes_and_hypotheses.txt" if known else "with_attributes.txt"
        return (*before, Message(role=last.role, text=templates.fill(template, {**slots, **self.slots(known)})))

    def slots(self, known: str) -> dict[str, str]:
        return {"hypotheses": templates.tagged("hypothesis", known.splitlines())}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parsed:
    """What could be read of an answer.

    Attributes:
      lines: `kind: hypothesis`, in the order of `KINDS`; near-duplicates are merged.
      fault: what is wrong with it; empty where nothing is.
    """

    lines: tuple[str, ...] = ()
    fault: str = ""


def parse(answer: str) -> Parsed:
    """The hypotheses of an answer.

    A line counts that begins with one of the kinds; other lines are not looked at. Of more than three of a kind the
    first three stay. An answer in another language than English is none: the prompts are English.
    """
    by_kind: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for line in answer.splitlines():
        match = _LINE.match(line)
        if match and re.search(r"\w", match.group(2)):
            by_kind[match.group(1).lower()].append(templates.inert(match.group(2)).strip("* "))
    lines = [f"{kind}: {text}" for kind in KINDS for text in merged(by_kind[kind])[:MOST_OF_A_KIND]]
    if fault := _fault([line.partition(":")[2] for line in lines]):
        return Parsed(fault=fault)
    many = any(len(merged(texts)) > MOST_OF_A_KIND for texts in by_kind.values())
    return Parsed(lines=tuple(lines), fault="too many" if many else "")


def prose(answer: str) -> Parsed:
    """The first sentences of an answer that is no list, as hypotheses of no kind; near-duplicates are merged."""
    ended = re.findall(r"[^.!?\n]+[.!?]", answer)
    sentences = [templates.inert(sentence) for sentence in ended if len(sentence.split()) >= SHORTEST]
    if fault := _fault(sentences):
        return Parsed(fault=fault)
    return Parsed(lines=tuple(f"unsorted: {text}" for text in merged(sentences)[:MOST_OF_A_KIND]), fault="prose")


def merged(hypotheses: Sequence[str], alike: float = ALIKE) -> list[str]:
    """Those without near-duplicates of earlier ones.

    Two are near-duplicates if |a and b| / |a or b| >= `alike` of their sets of words; of such the longer one stays, in
    the place of the first.
    """
    kept: list[str] = []
    for text in hypotheses:
        same = next((i for i, other in enumerate(kept) if _likeness(text, other) >= alike), None)
        if same is None:
            kept.append(text)
        elif len(text) > len(kept[same]):
            kept[same] = text
    return kept


def _question(user: User, ctx: Context) -> str:
    listed = templates.tagged("record", shorten.quoted(user.profile[-ctx.settings.summary_records :], ctx))
    return templates.fill("hypotheses.txt", {"records": listed})


def _likeness(a: str, b: str) -> float:
    first, second = (set(re.findall(r"\w+", text.lower())) for text in (a, b))
    return len(first & second) / max(1, len(first | second))


def _fault(texts: Sequence[str]) -> str:
    """What is wrong with texts that are to be hypotheses; empty where nothing is."""
    return "no hypotheses" if not texts else "" if _english(" ".join(texts)) else "another language"


def _english(text: str) -> bool:
    """Whether a text has as many function words as English has at least; too short ones only need Latin letters."""
    letters = [letter for letter in text if letter.isalpha()]
    words = re.findall(r"\w+", text.lower())
    latin = 2 * sum("LATIN" in unicodedata.name(letter, "") for letter in letters) > len(letters)
    return latin and (len(words) < 20 or sum(word in _FUNCTION_WORDS for word in words) >= 0.1 * len(words))


STRATEGY = Hypotheses()
