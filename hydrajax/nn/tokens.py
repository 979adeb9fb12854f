"""Texts and pairs of texts as token ids, encoded and shortened as the base's own tokenizer does.

Special tokens and type ids are the tokenizer's own: they are read off one example, never written as text.
"""

import dataclasses
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import flax.struct
import numpy as np

from hydrajax import files
from hydrajax.types import DataError

# What a tokenizer is read from; vocab.txt and merges.txt besides.
JSON_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
)  # fmt: skip

TOLD = 300  # characters of a message of transformers

Text = str | tuple[str, str]

# What special tokens are read off: the first that the tokenizer makes a token of.
PROBES = ("a", "A", "1", ".", "\u4e00")
# Padded lengths: every length is compiled once, and a text's length alone decides which one it gets, so that the texts
# that a text is computed with change no more than the last digits of its features (4e-7 of values of order 1).
MIN_ROOM = 8  # tokens; a row with less is full
LENGTHS = (16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048, 4096)


@flax.struct.dataclass
class Tokens:
    """Texts as arrays of one length: a text a row, or several side by side without padding between them.

    Attributes:
      ids, types: int32 [..., T].
      mask: bool [..., T], true = a real token.
      positions: int32 [B, T], counted from 0 in every text; None: a text a row.
      segments: int32 [B, T], the text's number in its row, from 1; 0 = padding. No token attends to another text's.
        None: a text a row.
      texts: int, most texts in a row: S.
    """

    ids: Any
    types: Any
    mask: Any
    positions: Any = None
    segments: Any = None
    texts: int = flax.struct.field(pytree_node=False, default=1)


@dataclasses.dataclass(frozen=True)
class Encoding:
    """One text or pair: its ids and type ids, and how many tokens were cut from the first and from the second text."""

    ids: tuple[int, ...]
    types: tuple[int, ...]
    cut: tuple[int, int] = (0, 0)


def load_tokenizer(folder: pathlib.Path) -> Any:
    """The fast tokenizer of a Hugging Face folder, without the network and without a notice about PyTorch.

    Raises:
      DataError: the folder has no tokenizer that can be read, or one without the special tokens that it needs.
    """
    # Without a vocabulary transformers makes an empty tokenizer, for which every word is unknown.
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.txt", "vocab.json")):
        raise DataError(f"{folder}: has no tokenizer, expected tokenizer.json, vocab.txt or vocab.json")
    raw = {name: files.read_json(folder / name) for name in JSON_FILES if (folder / name).is_file()}
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # read while transformers is imported
    import transformers

    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # tokenizers raises this very class
        reason = " ".join(str(error).split())[:TOLD] or type(error).__name__
        if type(error).__name__.startswith("StrictDataclass"):  # transformers reads the configuration as well
            reason = f"config.json: {reason}"
        elif isinstance(error, (LookupError, AttributeError, TypeError)):  # what its own code stumbled over
            reason = f"{', '.join(raw) or 'its vocabulary'}: not of a tokenizer of this kind ({reason})"
        raise DataError(f"{folder}: the tokenizer could not be read: {reason}") from error
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise DataError(f"{folder}: {type(tokenizer).__name__} is a slow tokenizer, expected a tokenizer.json")
    backend.no_truncation()
    backend.no_padding()
    # Special tokens that no file has are numbered by transformers, beyond what the encoder was trained with.
    added = [*raw.get("tokenizer.json", {}).get("added_tokens", [])]
    added += raw.get("tokenizer_config.json", {}).get("added_tokens_decoder", {}).values()
    known = {row.get("content") for row in added} | set(raw.get("added_tokens.json", {}))
    known |= set(backend.get_vocab(with_added_tokens=False))
    needed = {tokenizer.cls_token, tokenizer.sep_token, tokenizer.unk_token} - {None}
    if lacking := sorted(needed - known):
        raise DataError(f"{folder}: the vocabulary has no {' and no '.join(lacking)}, which the tokenizer needs")
    return backend


def check(tokenizer: Any, folder: pathlib.Path, *, words: int, types: int) -> None:
    """Refuses a tokenizer that is not the encoder's.

    Args:
      tokenizer: of `load_tokenizer`.
      folder: named in the message.
      words: rows of the encoder's table of words; it may have some more than there are tokens, up to a round number.
      types: type ids that the encoder knows; 0: it does not look at them.

    Raises:
      DataError: in one sentence.
    """
    known = tokenizer.get_vocab_size(with_added_tokens=True)
    highest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=0)
    if highest >= words or words - known > max(1024, words // 10):
        raise DataError(
            f"{folder}: the tokenizer knows {known} tokens (up to number {highest}), the encoder's table has {words} "
            "rows: they do not belong together"
        )
    try:
        frames = [_frame(tokenizer, size) for size in (1, 2)]
    except DataError as error:
        raise DataError(f"{folder}: {error}") from error
    asked = max(kind for specials, kinds in frames for kind in [*kinds, *(kind for _, _, kind in specials)])
    if types and asked >= types:
        raise DataError(f"{folder}: the tokenizer gives type id {asked}, the encoder knows {types}")


def tokenize(tokenizer: Any, texts: Iterable[Text], *, max_tokens: int, truncate: str) -> list[Encoding]:
    """Every text or pair of texts, special tokens included, at most `max_tokens` long.

    Of a pair that is too long the side named by `truncate` is cut first, but a quarter of the room always stays its
    own: a record or a candidate that was cut away altogether could not be told from another.

    Args:
      tokenizer: of `load_tokenizer`.
      texts: texts, or pairs of texts.
      max_tokens: longest encoding.
      truncate: the side of a pair that is cut first.

    Raises:
      DataError: `max_tokens` leaves no room, `truncate` is not a side, or the texts are none.
    """
    if truncate not in ("first", "second"):
        raise DataError(f"truncate is {truncate!r}, expected 'first' or 'second'")
    frames = {size: _frame(tokenizer, size) for size in (1, 2)}
    needed = len(frames[2][0]) + 4
    if max_tokens < needed:
        raise DataError(f"max_tokens is {max_tokens}, expected at least {needed}")
    texts = listed(texts)
    parts = {part: None for text in texts for part in _parts(text)}
    # A tweet may hold half a surrogate pair, which no tokenizer takes.
    clean = [part.encode("utf-8", "replace").decode() for part in parts]
    encoded = tokenizer.encode_batch(clean, add_special_tokens=False)
    ids = {part: encoding.ids for part, encoding in zip(parts, encoded, strict=True)}
    return [_join([ids[part] for part in _parts(text)], frames, max_tokens, truncate) for text in texts]


def listed(texts: Iterable[Text]) -> list[Text]:
    """Texts as a list, also of an iterator, which can be gone through only once.

    Raises:
      DataError: they are one text or none, or one of them is no text.
    """
    if isinstance(texts, str) or not isinstance(texts, Iterable):
        given = "one text" if isinstance(texts, str) else f"{texts!r:.80}"
        raise DataError(f"texts are {given}, expected a list of texts or of pairs")
    listed = list(texts)
    for text in listed:
        check_text(text)
    return listed


def check_text(text: Any) -> None:
    """Refuses what is neither a text nor a pair of texts.

    Raises:
      DataError: in one sentence.
    """
    pair = isinstance(text, tuple) and len(text) == 2 and all(isinstance(part, str) for part in text)
    if not pair and not isinstance(text, str):
        raise DataError(f"a text is {text!r:.80}, expected a text or a tuple of two")


def check_encodings(encodings: Sequence[Encoding], *, words: int, types: int, positions: int) -> None:
    """Refuses what an encoder cannot compute: traced code looks up a number that is out of range all the same.

    Args:
      encodings: of texts.
      words: rows of the encoder's table of words.
      types: type ids that it knows; 0: it does not look at them.
      positions: longest text.

    Raises:
      DataError: naming the first fault.
    """
    for number, encoding in enumerate(encodings):
        length = len(encoding.ids)
        if not 1 <= length <= positions:
            raise DataError(f"encoding {number} has {length} tokens, expected 1 to the {positions} positions")
        if len(encoding.types) != length:
            raise DataError(f"encoding {number} has {len(encoding.types)} type ids, expected {length}")
        for name, values, count in (("id", encoding.ids, words), ("type id", encoding.types, types)):
            if count and (min(values) < 0 or max(values) >= count):
                odd = min(values) if min(values) < 0 else max(values)
                raise DataError(f"encoding {number} has the {name} {odd}, expected 0 to {count - 1}")


def bucket(length: int) -> int:
    """The padded length of an encoding: the smallest of `LENGTHS` that holds it."""
    for padded in LENGTHS:
        if length <= padded:
            return padded
    raise DataError(f"an encoding has {length} tokens, expected at most {LENGTHS[-1]}")


def pack(encodings: Sequence[Encoding], length: int, rows: int | None = None) -> Tokens:
    """Encodings as arrays [rows, length]; rows beyond the encodings hold no token.

    Raises:
      DataError: an encoding is longer than a row, or there are more of them than rows.
    """
    made = side_by_side([[encoding] for encoding in encodings], length, 1, rows)
    return dataclasses.replace(made, positions=None, segments=None)


def fill_rows(lengths: Sequence[int], length: int, texts: int) -> list[list[int]]:
    """Which texts share a row: the longest first, each into the first row with room for it.

    Args:
      lengths: of the texts.
      length: of a row.
      texts: most texts in a row.

    Raises:
      DataError: a text is longer than a row.
    """
    rows: list[list[int]] = []
    room: list[int] = []
    open_rows: list[int] = []
    least = max(MIN_ROOM, min(lengths, default=0))
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if lengths[i] > length:
            raise DataError(f"an encoding has {lengths[i]} tokens, expected at most the {length} of a row")
        row = next((row for row in open_rows if room[row] >= lengths[i]), len(rows))
        if row == len(rows):
            rows.append([])
            room.append(length)
            open_rows.append(row)
        rows[row].append(i)
        room[row] -= lengths[i]
        if len(rows[row]) == texts or room[row] < least:
            open_rows.remove(row)
    return rows


def side_by_side(encodings: Sequence[Sequence[Encoding]], length: int, texts: int, rows: int | None = None) -> Tokens:
    """Rows of encodings as arrays [rows, length]; rows beyond them hold no token.

    A text may not be longer than the encoder has positions, which `encode.compute` and `encode.features` look at.

    Args:
      encodings: of each row; `fill_rows` says which texts share one.
      length: of a row.
      texts: most texts in a row.
      rows: how many.

    Raises:
      DataError: a row's encodings are longer than a row or more than `texts`, or there are more of them than rows.
    """
    if rows is not None and len(encodings) > rows:
        raise DataError(f"encodings fill {len(encodings)} rows, expected at most {rows}")
    rows = len(encodings) if rows is None else rows
    made = {name: np.zeros((rows, length), np.int32) for name in ("ids", "types", "positions", "segments")}
    for row, members in enumerate(encodings):
        if len(members) > texts:
            raise DataError(f"row {row} has {len(members)} texts, expected at most {texts}")
        if (needed := sum(len(encoding.ids) for encoding in members)) > length:
            raise DataError(f"row {row} has {needed} tokens, expected at most its length {length}")
        start = 0
        for number, encoding in enumerate(members):
            end = start + len(encoding.ids)
            values: tuple[Any, ...] = (encoding.ids, encoding.types, range(end - start), number + 1)
            for name, value in zip(made, values, strict=True):
                made[name][row, start:end] = value
            start = end
    return Tokens(**made, mask=made["segments"] > 0, texts=texts)


def _parts(text: Text) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) else text


# The special tokens before, between and after the texts, as (place, id, type id), and each text's own type id.
_Frame = tuple[list[tuple[int, int, int]], list[int]]


def _frame(tokenizer: Any, size: int) -> _Frame:
    probes = (tokenizer.encode(*[text] * size) for text in PROBES)
    probe = next((probe for probe in probes if set(probe.sequence_ids) >= set(range(size))), None)
    if probe is None:
        tried = ", ".join(map(repr, PROBES))
        raise DataError(f"the tokenizer makes no token of {tried}, expected a token of one of them")
    specials, types, place = [], [0] * size, 0
    for token, kind, side in zip(probe.ids, probe.type_ids, probe.sequence_ids, strict=True):
        if side is None:
            specials.append((place, token, kind))
        else:
            place, types[side] = side + 1, kind
    return specials, types


def _join(parts: list[list[int]], frames: dict[int, _Frame], max_tokens: int, truncate: str) -> Encoding:
    specials, kinds = frames[len(parts)]
    room = max_tokens - len(specials)
    lengths = [len(part) for part in parts]
    if len(parts) == 2:
        cut, other = (0, 1) if truncate == "first" else (1, 0)
        lengths[cut] = min(lengths[cut], max(room - lengths[other], room // 4))
        lengths[other] = min(lengths[other], room - lengths[cut])
    else:
        lengths[0] = min(lengths[0], room)
    ids: list[int] = []
    types: list[int] = []
    for place in range(len(parts) + 1):
        for where, token, kind in specials:
            if where == place:
                ids.append(token)
                types.append(kind)
        if place < len(parts):
            ids.extend(parts[place][: lengths[place]])
            types.extend([kinds[place]] * lengths[place])
    lost = [len(part) - kept for part, kept in zip(parts, lengths, strict=True)]
    return Encoding(tuple(ids), tuple(types), (lost[0], lost[1] if len(lost) == 2 else 0))
