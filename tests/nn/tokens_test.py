import json
import pathlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hydrajax.nn import tokens, weights
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
        assert encoding.cut == (0, 0)


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
    assert any(encoding.cut) == (sum(expected) < first + second)
    assert len(encoding.ids) <= 23


def test_cutting_keeps_the_beginning(minilm):
    (whole,) = tokenize(minilm, [("one two", "three four five six seven eight nine ten")])
    (cut,) = tokenize(minilm, [("one two", "three four five six seven eight nine ten")], max_tokens=9)
    assert cut.ids[:-1] == whole.ids[:8]
    assert cut.ids[-1] == whole.ids[-1]


def test_a_single_text_is_cut_at_its_end(minilm):
    (encoding,) = tokenize(minilm, ["x " * 50], max_tokens=10)
    assert len(encoding.ids) == 10
    assert any(encoding.cut)
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


SOURCE = weights.find_base("minilm")
WHOLE = (SOURCE / "tokenizer.json").read_text(encoding="utf-8")
WORDS = (SOURCE / "vocab.txt").read_text(encoding="utf-8").splitlines()


def without(*words):
    """The vocabulary without some words."""
    return "\n".join(word for word in WORDS if word not in words)


def with_change(**change):
    return json.dumps(json.loads(WHOLE) | change)


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ({"tokenizer.json": "hello"}, r"/tokenizer\.json: is broken JSON"),
        ({"tokenizer.json": WHOLE[: len(WHOLE) // 2]}, r"/tokenizer\.json: is broken JSON"),
        ({"tokenizer.json": ""}, r"/tokenizer\.json: is broken JSON"),
        ({"tokenizer.json": "[]"}, r"/tokenizer\.json: holds a list, expected an object"),
        ({"tokenizer.json": "\xff"}, r"/tokenizer\.json: is broken JSON"),
        ({"tokenizer.json": with_change(version="2.0")}, "could not be read: Unknown tokenizer version '2.0'"),
        ({"tokenizer.json": with_change(version=2)}, "could not be read: invalid type: integer `2`"),
        ({"tokenizer.json": with_change(model={"type": "Other"})}, "could not be read: "),
        ({"tokenizer.json": WHOLE, "tokenizer_config.json": "{"}, r"/tokenizer_config\.json: is broken JSON"),
        ({"tokenizer.json": WHOLE, "tokenizer_config.json": '{"tokenizer_class": [1]}'}, "could not be read: "),
        ({"tokenizer.json": WHOLE, "special_tokens_map.json": "7"}, r"/special_tokens_map\.json: holds a int"),
        (
            {"vocab.txt": without("[CLS]", "[SEP]", "[UNK]")},
            r"has no \[CLS\] and no \[SEP\] and no \[UNK\], which the ",
        ),
        ({"vocab.txt": without("[SEP]")}, r"the vocabulary has no \[SEP\], which the tokenizer needs"),
        ({"vocab.txt": ""}, r"the vocabulary has no \[CLS\]"),
        ({"vocab.txt": "\xff"}, "could not be read: Error while initializing WordPiece"),
        ({"vocab.json": '{"a": 0}', "config.json": '{"model_type": "roberta"}'}, "could not be read: "),
        ({"merges.txt": "a b"}, r"has no tokenizer, expected tokenizer\.json, vocab\.txt or vocab\.json"),
    ],
)
def test_odd_files_are_one_sentence(written, says, tmp_path):
    for name, content in ({"config.json": '{"model_type": "bert"}'} | written).items():
        (tmp_path / name).write_bytes(content.encode("latin-1" if content == "\xff" else "utf-8"))
    with pytest.raises(DataError, match=f"^{tmp_path}.*{says}") as caught:
        tokens.load_tokenizer(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "written", "says"),
    [
        ({"layer_norm_eps": 1}, {}, r"config\.json: .*'layer_norm_eps'.* expected float, got int"),
        ({}, {"tokenizer.json": "{}"}, r"tokenizer\.json: not of a tokenizer of this kind"),
        (
            {},
            {"tokenizer_config.json": '{"added_tokens_decoder": 5}'},
            r"tokenizer\.json, tokenizer_config\.json: not of a tokenizer of this kind",
        ),
    ],
)
def test_a_tokenizer_that_cannot_be_read_says_which_file_and_why(config, written, says, tmp_path):
    raw = json.loads((SOURCE / "config.json").read_text())
    for name, content in ({"config.json": json.dumps(raw | config), "tokenizer.json": WHOLE} | written).items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=f"the tokenizer could not be read: {says}") as caught:
        tokens.load_tokenizer(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", ["added_tokens.json", "tokenizer_config.json"])
def test_special_tokens_may_stand_beside_the_vocabulary(place, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "vocab.txt").write_text(without("[CLS]"), encoding="utf-8")
    number = len(WORDS) - 1
    one = {"[CLS]": number}
    if place == "tokenizer_config.json":
        one = {"added_tokens_decoder": {str(number): {"content": "[CLS]", "special": True}}}
    (tmp_path / place).write_text(json.dumps(one))
    assert tokens.load_tokenizer(tmp_path).encode("a").ids[0] == number


@pytest.fixture(params=["roberta", "template"])
def doubled(request):
    """A tokenizer of words that puts two separators between the texts of a pair, as RoBERTa's and Longformer's do."""
    import tokenizers
    from tokenizers import models, pre_tokenizers, processors

    words = ["<s>", "<pad>", "</s>", "<unk>", *"abcdefgh"]
    made = tokenizers.Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    if request.param == "roberta":
        made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    else:
        special = [("<s>", 0), ("</s>", 2)]
        pair = "<s> $A </s> </s> $B:1 </s>:1"
        made.post_processor = processors.TemplateProcessing(single="<s> $A </s>", pair=pair, special_tokens=special)
    return made


def test_separators_are_doubled_where_the_tokenizer_doubles_them(doubled):
    pairs = [("a b", "c"), ("a", "b c d e"), ("", "a")]
    for pair, found in zip(pairs, tokens.tokenize(doubled, pairs, max_tokens=32, truncate="second"), strict=True):
        own = doubled.encode(*pair)
        assert (list(found.ids), list(found.types)) == (own.ids, own.type_ids)
    (short,) = tokens.tokenize(doubled, [("a b", "c d e f")], max_tokens=9, truncate="second")
    assert short.ids == (0, 4, 5, 2, 2, 6, 7, 8, 2) and short.cut == (0, 1)


def test_special_tokens_are_found_where_the_tokenizer_leaves_letters_out(doubled, tmp_path):
    import tokenizers
    from tokenizers import normalizers

    expected = tokens.tokenize(doubled, [("1", "2")], max_tokens=32, truncate="second")
    for letters in ("a", "[a-zA-Z]"):
        doubled.normalizer = normalizers.Replace(tokenizers.Regex(letters), "")
        assert tokens.tokenize(doubled, [("1", "2")], max_tokens=32, truncate="second") == expected
    doubled.normalizer = normalizers.Replace(tokenizers.Regex("."), "")
    with pytest.raises(DataError, match=f"^{tmp_path}: the tokenizer makes no token of 'a', 'A', "):
        tokens.check(doubled, tmp_path, words=doubled.get_vocab_size(), types=2)


def test_a_tokenizer_that_is_not_the_encoders_is_refused(doubled, tmp_path):
    size = doubled.get_vocab_size()
    tokens.check(doubled, tmp_path, words=size, types=0)
    tokens.check(doubled, tmp_path, words=size + 100, types=2)  # rounded up, as tables often are
    for words in (size - 1, size + 2000):
        with pytest.raises(DataError, match=f"knows {size} tokens .* table has {words} rows: they do not belong"):
            tokens.check(doubled, tmp_path, words=words, types=0)
    if doubled.encode("a", "b").type_ids[-1]:
        with pytest.raises(DataError, match="gives type id 1, the encoder knows 1"):
            tokens.check(doubled, tmp_path, words=size, types=1)


@given(
    st.lists(st.integers(1, 40), max_size=60),
    st.integers(1, 5),
)
def test_rows_hold_every_text_once_and_no_more_than_fits(lengths, texts):
    rows = tokens.fill_rows(lengths, 40, texts)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    assert all(len(row) <= texts and sum(lengths[i] for i in row) <= 40 for row in rows)


def test_texts_side_by_side_are_counted_each_from_its_beginning():
    one, two = tokens.Encoding((7, 8, 9), (0, 0, 1)), tokens.Encoding((5, 6), (0, 1))
    packed = tokens.side_by_side([[one, two], [two]], 6, texts=2, rows=3)
    np.testing.assert_array_equal(packed.ids, [[7, 8, 9, 5, 6, 0], [5, 6, 0, 0, 0, 0], [0] * 6])
    np.testing.assert_array_equal(packed.types, [[0, 0, 1, 0, 1, 0], [0, 1, 0, 0, 0, 0], [0] * 6])
    np.testing.assert_array_equal(packed.positions, [[0, 1, 2, 0, 1, 0], [0, 1, 0, 0, 0, 0], [0] * 6])
    np.testing.assert_array_equal(packed.segments, [[1, 1, 1, 2, 2, 0], [1, 1, 0, 0, 0, 0], [0] * 6])
    np.testing.assert_array_equal(packed.mask, packed.segments > 0)
    with pytest.raises(DataError, match="an encoding has 7 tokens, expected at most the 6 of a row"):
        tokens.fill_rows([3, 7], 6, 2)


TWO = tokens.Encoding((5, 6), (0, 0))


@pytest.mark.parametrize(
    ("rows", "length", "texts", "count", "says"),
    [
        ([[TWO], [TWO, TWO]], 4, 1, None, "row 1 has 2 texts, expected at most 1"),
        ([[TWO], [TWO, TWO]], 3, 2, None, "row 1 has 4 tokens, expected at most its length 3"),
        ([[TWO], [TWO, TWO]], 4, 2, 1, "encodings fill 2 rows, expected at most 1"),
    ],
)
def test_what_does_not_fit_side_by_side_is_refused(rows, length, texts, count, says):
    with pytest.raises(DataError, match=says):
        tokens.side_by_side(rows, length, texts, count)


def test_what_does_not_fit_into_an_array_is_refused():
    with pytest.raises(DataError, match="row 1 has 2 tokens, expected at most its length 1"):
        tokens.pack([tokens.Encoding((5,), (0,)), TWO], 1)
    with pytest.raises(DataError, match="encodings fill 2 rows, expected at most 1"):
        tokens.pack([TWO, TWO], 2, rows=1)


@pytest.mark.parametrize("text", [("a", "b", "c"), 3, None, ("a", None), ["a", "b"], b"a"])
def test_what_is_no_text_is_one_sentence(text):
    tokens.check_text("a")
    tokens.check_text(("a", "b"))
    with pytest.raises(DataError, match="expected a text or a tuple of two"):
        tokens.check_text(text)
