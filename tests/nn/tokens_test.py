import json
import pathlib

import numpy as np
import pytest

from hydrajax.nn import tokens
from hydrajax.types import DataError

FIXTURE = json.loads((pathlib.Path(__file__).parents[1] / "fixtures" / "minilm.json").read_text(encoding="utf-8"))


def tokenize(minilm, texts, max_tokens=256, truncate="second"):
    return tokens.tokenize(minilm.tokenizer, texts, max_tokens=max_tokens, truncate=truncate)


@pytest.mark.parametrize("name", ["sentences", "pairs"])
def test_ids_and_types_are_the_tokenizers_own(minilm, name):
    texts = FIXTURE["sentences"] if name == "sentences" else [tuple(pair) for pair in FIXTURE["pairs"]]
    for encoding, (ids, types) in zip(tokenize(minilm, texts), FIXTURE["ids"][name], strict=True):
        assert list(encoding.ids) == ids
        assert list(encoding.types) == types
        assert not encoding.shortened


def test_special_tokens_as_text_are_not_what_separates_a_pair(minilm):
    pair, text = tokenize(minilm, [("a", "b"), "a [SEP] b"])
    assert sum(pair.types) == 2
    assert sum(text.types) == 0


def length_of_sides(encoding):
    second = sum(encoding.types) - 1  # the closing [SEP] has the second's type
    return len(encoding.ids) - 3 - second, second


@pytest.mark.parametrize(
    ("first", "second", "truncate", "expected"),
    [
        (5, 5, "second", (5, 5)),
        (5, 40, "second", (5, 15)),
        (5, 40, "first", (5, 15)),  # only the second is too long
        (18, 18, "second", (15, 5)),  # a quarter of the room stays
        (18, 18, "first", (5, 15)),
        (40, 3, "second", (17, 3)),
        (40, 40, "second", (15, 5)),
        (40, 40, "first", (5, 15)),
        (18, 0, "second", (18, 0)),
    ],
)
def test_the_named_side_is_cut_first_but_never_away(minilm, first, second, truncate, expected):
    (encoding,) = tokenize(minilm, [("x " * first, "y " * second)], max_tokens=23, truncate=truncate)
    assert length_of_sides(encoding) == expected
    assert encoding.shortened == (sum(expected) < first + second)
    assert len(encoding.ids) <= 23


def test_cutting_keeps_the_beginning(minilm):
    (whole,) = tokenize(minilm, [("one two", "three four five six seven eight nine ten")])
    (cut,) = tokenize(minilm, [("one two", "three four five six seven eight nine ten")], max_tokens=9)
    assert cut.ids[:-1] == whole.ids[:8]
    assert cut.ids[-1] == whole.ids[-1]


def test_a_single_text_is_cut_at_its_end(minilm):
    (encoding,) = tokenize(minilm, ["x " * 50], max_tokens=10)
    assert len(encoding.ids) == 10
    assert encoding.shortened
    assert encoding.ids[-1] == tokenize(minilm, ["x"])[0].ids[-1]


def test_bad_settings_are_refused(minilm):
    with pytest.raises(DataError, match="truncate is 'third', expected 'first' or 'second'"):
        tokenize(minilm, ["x"], truncate="third")
    with pytest.raises(DataError, match="max_tokens is 4, expected at least 7"):
        tokenize(minilm, ["x"], max_tokens=4)


def test_a_bucket_holds_its_length():
    for n in (1, 16, 17, 100, 512):
        assert n <= tokens.bucket(n) <= max(16, 2 * n)
    with pytest.raises(DataError, match="5000 tokens"):
        tokens.bucket(5000)


def test_packing_masks_what_is_not_there():
    packed = tokens.pack([tokens.Encoding((7, 8), (0, 1))], 4, rows=2)
    np.testing.assert_array_equal(packed.ids, [[7, 8, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(packed.types, [[0, 1, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(packed.mask, [[True, True, False, False], [False] * 4])


def test_a_folder_without_a_tokenizer_is_one_sentence(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(DataError, match=r"has no tokenizer, expected tokenizer\.json"):
        tokens.load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match="the tokenizer could not be read"):
        tokens.load_tokenizer(tmp_path)
