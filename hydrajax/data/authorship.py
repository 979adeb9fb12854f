"""Authorship: texts by several authors, as users whose style an article is to be written in.

Protocol of DITTO (Shaikh et al. 2024, arXiv 2406.00888): of each author 7 texts are shown, 2 to 3 validate, 2 to 3
test, and the prompt is "write an article that starts with: {first sentence}". Further texts of the same authors, which
no strategy is shown, train a judge.

With several sources, the first one gives the texts that are shown, the others those that are judged; with a single one
both come from it, and near-duplicates being dropped is all that keeps them apart. The judge learns from what is left
of all of them.
"""

import collections
import dataclasses
import importlib.resources
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence

from hydrajax.data import draws, tasks
from hydrajax.data.texts_by_author import Text
from hydrajax.types import DataError, Query, Record, User

NEAR_DUPLICATE = 0.6  # share of a text's 8-grams
LEAST_WORDS = 30  # of a text without its first sentence, to be shown or judged
LEAST_UNSEEN = 3  # texts of an author that are left for a judge that is trained

TASK = tasks.Task(
    name="authorship",
    kind="generation",
    template="Write an article that starts with: {first_sentence}",
    inputs={"first_sentence": "first_sentence"},
    answer="text",
    corpus=("text",),
    record_line='"{text}" ',
    record_close="are articles by one author. In the style of this author: ",
    marker="Write an article that starts with:",
    max_answer_tokens=250,
)

_WORDS = tomllib.loads((importlib.resources.files("hydrajax.data") / "sentence_ends.toml").read_text(encoding="utf-8"))
_END = re.compile(r"""[.!?]+["'”’)\]]*(?=\s+(\S+))""")
_WORD = re.compile(r"\w+")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Authorship:
    """Authors and what is asked of them.

    Attributes:
      users: authors; their records are the texts that are shown, first sentence -> text.
      validation, test: queries whose golds are real texts without their first sentence.
      unseen: texts that no strategy is shown, by author, without their first sentences.
      near_duplicates: texts that were dropped because the same author has one like it.
      notes: what a reader of the results should know, one sentence each.
    """

    users: Mapping[str, User]
    validation: tuple[Query, ...]
    test: tuple[Query, ...]
    unseen: Mapping[str, tuple[str, ...]]
    near_duplicates: int
    notes: tuple[str, ...] = ()


def draw(
    texts: Iterable[Text],
    *,
    authors: int,
    shown: int = 7,
    validation: int = 2,
    test: int = 2,
    shown_words: int | None = None,
    least_unseen: int = LEAST_UNSEEN,
    seed: int = 0,
) -> Authorship:
    """Draws authors, and of each the texts that are shown, validate, test and train the judge.

    A smaller number of anything is the beginning of a larger one.

    Args:
      texts: of all authors, in the order of their sources.
      authors: how many; only those with enough texts are drawn.
      shown, validation, test: texts of each author; no text has two parts.
      shown_words: of a shown text at most its beginning; None for all of it.
      least_unseen: texts of each author that are left for the judge; 0 for a judge that is not trained.
      seed: of the draws.

    Raises:
      DataError: fewer authors than asked for have enough texts.
    """
    by_author: dict[str, list[Text]] = {}
    for text in texts:
        by_author.setdefault(text.author, []).append(text)
    sources = tuple(dict.fromkeys(text.source for of_author in by_author.values() for text in of_author))
    users: dict[str, User] = {}
    queries: dict[str, list[Query]] = {"test": [], "validation": []}
    unseen: dict[str, tuple[str, ...]] = {}
    dropped = 0
    for author in draws.shuffled(by_author, seed=seed, name=str):
        if len(users) == authors:
            break
        kept = without_near_duplicates(by_author[author])
        usable = [text for text in kept if len(_rest(text).split()) >= LEAST_WORDS]
        order = draws.shuffled(usable, seed=draws.number(seed, author), name=_id)
        shown_texts = [text for text in order if len(sources) == 1 or text.source == sources[0]][:shown]
        judged = [text for text in order if len(sources) == 1 or text.source != sources[0]]
        judged = [text for text in judged if text not in shown_texts]
        parts = {"test": judged[0::2][:test], "validation": judged[1::2][:validation]}
        used = {_id(text) for text in (*shown_texts, *parts["test"], *parts["validation"])}
        left = [text for text in order if _id(text) not in used]
        if len(used) < shown + validation + test or len(left) < least_unseen:
            continue
        dropped += len(by_author[author]) - len(kept)
        users[author] = User(
            id=author,
            profile=tuple(_record(text, shown_words) for text in shown_texts),
            attributes=by_author[author][0].attributes,
        )
        for part, of_part in parts.items():
            queries[part] += map(_query, of_part)
        unseen[author] = tuple(_rest(text) for text in left)
    if len(users) < authors:
        apart = "" if len(sources) == 1 else f", shown ones in {sources[0]} and the others elsewhere"
        needed = [f"{shown} to show", f"{validation} to validate", f"{test} to test"]
        needed += [f"{least_unseen} for the judge"] if least_unseen else []
        raise DataError(
            f"{len(users)} of {len(by_author)} authors have enough texts, expected {authors} with "
            f"{', '.join(needed[:-1])} and {needed[-1]}{apart}; near-duplicates and texts of fewer than {LEAST_WORDS} "
            "words after the first sentence do not count"
        )
    return Authorship(
        users=users,
        validation=tuple(queries["validation"]),
        test=tuple(queries["test"]),
        unseen=unseen,
        near_duplicates=dropped,
        notes=_notes(sources, dropped),
    )


def _notes(sources: Sequence[str], dropped: int) -> tuple[str, ...]:
    if len(sources) == 1:
        apart = f"shown and judged texts come from one source, {sources[0]}: what its texts share may help to write"
    else:
        apart = f"shown texts come from {sources[0]}, judged ones from {', '.join(sources[1:])}"
    return (apart, f"{dropped} texts were dropped as near-duplicates of others by the same author")


def without_near_duplicates(texts: Sequence[Text]) -> list[Text]:
    """The texts of one author without those that share over 60 % of their word 8-grams with an earlier, kept one."""
    kept: list[Text] = []
    holders: dict[tuple[str, ...], list[int]] = {}
    for text in texts:
        grams = ngrams(text.text, 8) or {words(text.text)}
        shared = collections.Counter(place for gram in grams for place in holders.get(gram, ()))
        if shared and max(shared.values()) > NEAR_DUPLICATE * len(grams):
            continue
        for gram in grams:
            holders.setdefault(gram, []).append(len(kept))
        kept.append(text)
    return kept


def words(text: str) -> tuple[str, ...]:
    """The words as texts are compared: no capitals, no marks."""
    return tuple(_WORD.findall(text.casefold()))


def ngrams(text: str, n: int) -> set[tuple[str, ...]]:
    """Sequences of n words; none of a shorter text."""
    sequence = words(text)
    return {sequence[i : i + n] for i in range(len(sequence) - n + 1)}


def copied(text: str, shown: Iterable[str], n: int) -> float | None:
    """The share of a text's word n-grams that occur in one of the shown texts; None of a text with fewer words."""
    grams = ngrams(text, n)
    if not grams:
        return None
    return len(grams & set().union(*(ngrams(other, n) for other in shown))) / len(grams)


def first_sentence(text: str) -> str:
    """The first sentence, or the first line where that ends earlier; the whole text where it is one sentence.

    A line that goes on in lower case is wrapped, and does not end. A full stop ends no sentence after a title, a month
    or inside an abbreviation; after initials (U.S.) and after what firms are called (Inc.) only where the next word is
    one that sentences often begin with. Elsewhere the next word has a capital, but in texts without any.
    """
    small = text.islower()
    unwrapped = text.strip() if small else re.sub(r"[ \t]*\n(?=[a-z])", " ", text.strip())
    line = unwrapped.split("\n", 1)[0].strip()
    for end in _END.finditer(line):
        if _ends(line[: end.start()], line[end.start() : end.end()], end.group(1), small):
            return line[: end.end()]
    return line


def _ends(before: str, mark: str, following: str, small: bool) -> bool:
    goes_on = following[:1].islower() and not small
    if mark[0] != "." or mark.startswith(".."):
        return not goes_on
    last = before.split()[-1].lstrip("\"'“‘([").lower() if before.split() else ""
    if goes_on or last in _WORDS["titles"]:
        return False
    if last in _WORDS["suffixes"] or re.fullmatch(r"(\w\.)*\w", last) and not last.isdigit():
        return following.strip("\"'“‘").lower() in _WORDS["beginnings"]
    return True


def without_first_sentence(text: str, first: str | None = None) -> str:
    """The text without a sentence, wherever it stands in it: words are compared, not capitals, marks or blanks.

    Args:
      text: a real text or a generated one, which may repeat the sentence or not.
      first: the sentence; None for the text's own first one.
    """
    sentence = words(first_sentence(text) if first is None else first)
    if not sentence:
        return text.strip()
    pattern = r"\W+".join(map(re.escape, sentence))
    return re.sub(rf"(?<!\w)[\"'“‘(\[]*{pattern}(?!\w)[^\w\s]*\s*", "", text, flags=re.IGNORECASE).strip()


def _id(text: Text) -> str:
    return f"{text.source}/{text.file}"


def _rest(text: Text) -> str:
    return without_first_sentence(text.text)


def _record(text: Text, shown_words: int | None) -> Record:
    body = text.text.strip()
    if shown_words is not None:
        body = " ".join(body.split()[:shown_words])
    return Record(id=_id(text), fields={"first_sentence": first_sentence(text.text), "text": body})


def _query(text: Text) -> Query:
    return Query(
        id=f"{text.author}/{_id(text)}",
        user_id=text.author,
        inputs={"first_sentence": first_sentence(text.text)},
        gold=_rest(text),
    )
