import dataclasses
import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from hydrajax.nn import backends, encode, tokens, weights
from hydrajax.types import DataError

FIXTURES = pathlib.Path(__file__).parents[1] / "fixtures"
NOTE = json.loads((FIXTURES / "minilm.json").read_text(encoding="utf-8"))
PAIRS = [tuple(pair) for pair in NOTE["pairs"]]
ARRAYS = safetensors.numpy.load_file(FIXTURES / "minilm.safetensors")


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("name", ["sentences", "pairs"])
def test_features_agree_with_the_original_implementation(minilm, name, pooling):
    base = dataclasses.replace(minilm, pooling=pooling)
    texts = NOTE["sentences"] if name == "sentences" else PAIRS
    np.testing.assert_allclose(encode.encode(base, texts).features, ARRAYS[f"{name}.{pooling}"], atol=1e-4)


def test_every_layer_agrees_with_the_original_implementation(minilm):
    packed = tokens.pack(tokens.tokenize(minilm.tokenizer, PAIRS[:3], max_tokens=64, truncate="second"), 32)
    args = (jnp.asarray(packed.ids), jnp.asarray(packed.types), jnp.asarray(packed.mask))
    apply = jax.jit(functools.partial(minilm.module.apply, capture_intermediates=True))
    _, seen = apply({"params": minilm.params}, *args)
    seen = seen["intermediates"]
    states = [seen["norm"]["__call__"][0], *(seen[f"layer_{i}"]["__call__"][0] for i in range(6))]
    got = np.stack([state[:, 0] for state in states], axis=1)
    np.testing.assert_allclose(got, ARRAYS["pairs.layers"], atol=1e-4)


def test_embeddings_are_means_of_length_one(minilm):
    mean = ARRAYS["sentences.mean"]
    expected = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    np.testing.assert_allclose(encode.embed(minilm, NOTE["sentences"]), expected, atol=1e-5)


def test_results_are_in_order_and_equal_pairs_are_computed_once(minilm):
    order = [3, 0, 3, 5, 0]
    encoded = encode.encode(minilm, [PAIRS[i] for i in order])
    assert encoded.computed == 3
    np.testing.assert_allclose(encoded.features, ARRAYS["pairs.mean"][order], atol=1e-4)


def test_batching_does_not_change_values(minilm):
    whole = encode.encode_pairs(minilm, PAIRS)
    one_by_one = np.concatenate([encode.encode_pairs(minilm, [pair], batch_tokens=32) for pair in PAIRS])
    np.testing.assert_allclose(whole, one_by_one, atol=1e-5)


def test_a_longer_padding_does_not_change_values(minilm, monkeypatch):
    expected = encode.encode_pairs(minilm, PAIRS)
    monkeypatch.setattr(tokens, "LENGTHS", (64,))
    np.testing.assert_allclose(encode.encode_pairs(minilm, PAIRS, max_tokens=64), expected, atol=1e-5)


def test_what_was_shortened_is_counted(minilm):
    encoded = encode.encode(minilm, [PAIRS[0], ("x", "y " * 20), PAIRS[0]], max_tokens=16)
    np.testing.assert_array_equal(encoded.shortened, [False, True, False])
    # [CLS] x [SEP] leaves 12 of 16 for 20 words.
    np.testing.assert_array_equal(encoded.cut, [[0, 0], [0, 8], [0, 0]])


def test_records_that_are_too_long_are_still_told_apart(minilm):
    query = "word " * 40
    z = encode.encode_pairs(minilm, [(query, "red " * 20), (query, "blue " * 20)], max_tokens=24)
    assert np.abs(z[0] - z[1]).max() > 1e-2


def test_the_cache_gives_the_same_values_and_is_used(minilm, tmp_path, monkeypatch):
    first = encode.encode(minilm, PAIRS[:5], cache=tmp_path)
    assert first.computed == 5
    second = encode.encode(minilm, PAIRS, cache=tmp_path)
    assert second.computed == len(PAIRS) - 5
    np.testing.assert_array_equal(second.features[:5], first.features)
    np.testing.assert_allclose(second.features, encode.encode_pairs(minilm, PAIRS), atol=1e-6)
    monkeypatch.setattr(encode, "_forward", None)  # nothing is left to compute
    np.testing.assert_array_equal(encode.encode_pairs(minilm, PAIRS[::-1], cache=tmp_path), second.features[::-1])


def test_what_was_damaged_in_the_cache_is_computed_anew(minilm, tmp_path, caplog):
    first = encode.encode(minilm, PAIRS[:5], cache=tmp_path)
    (path,) = tmp_path.glob("**/*.safetensors")
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    again = encode.encode(minilm, PAIRS[:5], cache=tmp_path)
    assert again.computed == 5 and len(caplog.messages) == 1
    np.testing.assert_array_equal(again.features, first.features)
    assert encode.encode(minilm, PAIRS[:5], cache=tmp_path).computed == 0


def test_the_cache_tells_bases_and_poolings_apart(minilm, tmp_path):
    encode.encode(minilm, PAIRS[:2], cache=tmp_path)
    other = dataclasses.replace(minilm, pooling="cls")
    again = encode.encode(other, PAIRS[:2], cache=tmp_path)
    assert again.computed == 2
    np.testing.assert_allclose(again.features, ARRAYS["pairs.cls"][:2], atol=1e-4)
    assert encode.encode(dataclasses.replace(minilm, digest="x"), PAIRS[:2], cache=tmp_path).computed == 2


def test_the_cache_tells_backends_and_precisions_apart(minilm, tmp_path, monkeypatch):
    encode.encode(minilm, PAIRS[:2], cache=tmp_path)
    for where in (("gpu", "high"), ("gpu", "highest"), ("tpu", "high")):
        monkeypatch.setattr(backends, "computed_by", lambda where=where: where)
        assert [encode.encode(minilm, PAIRS[:2], cache=tmp_path).computed for _ in range(2)] == [2, 0]


def test_an_interrupted_run_keeps_what_it_finished(minilm, tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt

    texts = [PAIRS[0], ("a", "long " * 30)]  # two lengths, so two batches
    with pytest.raises(KeyboardInterrupt):
        encode.encode(minilm, texts, cache=tmp_path, progress=stop)
    assert encode.encode(minilm, texts, cache=tmp_path).computed == 1


def test_a_folder_that_cannot_be_made_is_one_sentence(minilm, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="not usable as a cache of features"):
        encode.encode_pairs(minilm, PAIRS[:1], cache=tmp_path / "file")


@pytest.mark.slow
def test_packed_rows_give_the_same_features(minilm):
    texts = [*PAIRS, ("long", "word " * 90), *NOTE["sentences"]]
    expected = encode.encode(minilm, texts)
    for packing in (32, 128):
        found = encode.encode(minilm, texts, packing=packing)
        np.testing.assert_allclose(found.features, expected.features, atol=1e-5)
    with pytest.raises(DataError, match="packing is 513, expected a whole number from 0 to the 512 positions"):
        encode.encode(minilm, texts, packing=513)


def test_progress_ends_at_the_total(minilm):
    seen = []
    encode.encode_pairs(minilm, PAIRS, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(PAIRS), len(PAIRS))
    assert seen == sorted(seen)


def test_nothing_gives_no_rows(minilm, tmp_path):
    assert encode.encode_pairs(minilm, []).shape == (0, 384)
    assert encode.embed(minilm, [], cache=tmp_path).shape == (0, 384)


def test_more_tokens_than_positions_are_refused(minilm):
    with pytest.raises(DataError, match="max_tokens is 600, expected a whole number up to the 512 positions"):
        encode.encode_pairs(minilm, PAIRS, max_tokens=600)
    assert encode.encode_pairs(minilm, [("x", "y " * 600)], max_tokens=512).shape == (1, 384)


def test_tokens_made_once_have_the_features_of_their_pairs(minilm):
    packed = encode.tokenize_pairs(minilm, PAIRS)
    np.testing.assert_allclose(encode.token_features(minilm, packed), ARRAYS["pairs.mean"], atol=1e-4)


def test_pooling_is_checked_and_defaults_to_the_folders_own(minilm):
    assert minilm.pooling == weights.load_pooling(weights.find_base("minilm")) == "mean"
    with pytest.raises(DataError, match="pooling is 'max', expected 'cls' or 'mean'"):
        encode.load_base("minilm", pooling="max")


@pytest.mark.parametrize("pooling", ["max", "Mean", None, ["cls"]])
def test_a_pooling_that_is_none_is_refused_wherever_it_is_given(minilm, pooling, unchecked):
    with pytest.raises(DataError, match="pooling is .*, expected 'cls' or 'mean'"):
        dataclasses.replace(minilm, pooling=pooling)
    batch = encode.tokenize_pairs(minilm, PAIRS[:1])
    with pytest.raises(DataError, match="pooling is .*, expected 'cls' or 'mean'"):
        encode.features(minilm.module, minilm.params, batch, pooling)


def test_the_cache_tells_parameters_that_were_changed_in_place(minilm, tmp_path):
    base = dataclasses.replace(minilm, params=jax.tree.map(np.array, minilm.params))
    first = encode.encode(base, PAIRS[:2], cache=tmp_path)
    base.params["norm"]["bias"][:] += 1.0
    second = encode.encode(base, PAIRS[:2], cache=tmp_path)
    assert second.computed == 2 and np.abs(second.features - first.features).max() > 1e-2
    base.params["norm"]["bias"] = minilm.params["norm"]["bias"]
    again = encode.encode(base, PAIRS[:2], cache=tmp_path)
    assert again.computed == 0
    np.testing.assert_array_equal(again.features, first.features)


def test_the_cache_tells_trained_parameters_from_those_of_the_folder(minilm, tmp_path):
    encode.encode(minilm, PAIRS[:2], cache=tmp_path)
    trained = dataclasses.replace(minilm, params=jax.tree.map(lambda leaf: leaf * 1.1, minilm.params))
    found = encode.encode(trained, PAIRS[:2], cache=tmp_path)
    assert found.computed == 2
    np.testing.assert_allclose(found.features, encode.encode_pairs(trained, PAIRS[:2]), atol=1e-6)


def test_kinds_of_text(minilm):
    with pytest.raises(DataError, match="texts are one text, expected a list"):
        encode.encode(minilm, "hello")
    halves = encode.encode(minilm, ["a \ud83d b", "a ? b"]).features  # half a surrogate pair
    np.testing.assert_array_equal(halves[0], halves[1])
    with pytest.raises(DataError, match="max_tokens is 700, expected a whole number up to the 512 positions"):
        encode.tokenize_pairs(minilm, [("word " * 600, "b")], max_tokens=700)


@pytest.mark.parametrize("call", [encode.encode_pairs, encode.embed, encode.tokenize_pairs])
def test_texts_may_come_from_an_iterator(minilm, call):
    texts = NOTE["sentences"][:3] if call is encode.embed else PAIRS[:3]
    expected = call(minilm, texts)
    for once in (iter(texts), (text for text in texts), map(lambda text: text, texts)):
        jax.tree.map(np.testing.assert_array_equal, call(minilm, once), expected)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A base of 12 words and 20 positions."""
    import tokenizers
    from tokenizers import models, pre_tokenizers, processors

    folder = tmp_path_factory.mktemp("small")
    raw = json.loads((FIXTURES / "bases" / "bert" / "config.json").read_text())
    tensors = safetensors.numpy.load_file(FIXTURES / "bases" / "bert" / "model.safetensors")
    for entry, count, name in (("vocab_size", 12, "word"), ("max_position_embeddings", 20, "position")):
        raw[entry], name = count, f"embeddings.{name}_embeddings.weight"
        (stored,) = (one for one in tensors if one.endswith(name))
        tensors[stored] = np.resize(tensors[stored], (count, tensors[stored].shape[1]))
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(raw))
    words = ["[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]", *"abcdefg"]
    made = tokenizers.Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.BertProcessing(("[SEP]", 1), ("[CLS]", 0))
    made.save(str(folder / "tokenizer.json"))
    special = {"cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(special))
    return encode.load_base(str(folder))


def test_the_usual_length_is_no_more_than_a_base_has_positions(small):
    pair = ("a " * 30, "b " * 30)
    assert encode.tokenize_pairs(small, [pair]).ids.shape == (1, 20)
    assert encode.encode(small, [pair]).cut.sum() == 60 - 17
    for call, texts in ((encode.encode_pairs, [pair]), (encode.embed, [*pair])):
        np.testing.assert_array_equal(call(small, texts), call(small, texts, max_tokens=20))


WORD = tokens.Encoding((0, 5, 1), (0, 0, 0))


@pytest.mark.parametrize(
    ("ids", "types", "says"),
    [
        ((0, 12, 1), (0, 0, 0), "encoding 1 has the id 12, expected 0 to 11"),
        ((0, -1, 1), (0, 0, 0), "encoding 1 has the id -1, expected 0 to 11"),
        ((0, 5, 1), (0, 2, 0), "encoding 1 has the type id 2, expected 0 to 1"),
        ((0, 5, 1), (0, 0, -1), "encoding 1 has the type id -1, expected 0 to 1"),
        ((0,) * 21, (0,) * 21, "encoding 1 has 21 tokens, expected 1 to the 20 positions"),
        ((), (), "encoding 1 has 0 tokens, expected 1 to the 20 positions"),
        ((0, 5), (0,), "encoding 1 has 1 type ids, expected 2"),
    ],
)
def test_tokens_that_the_base_does_not_know_are_refused(small, ids, types, says):
    encodings = [WORD, tokens.Encoding(ids, types)]
    for packing in (0, 8):
        with pytest.raises(DataError, match=says):
            encode.compute(small, encodings, packing=packing)
    if len(ids) == len(types):
        with pytest.raises(DataError, match=says):
            encode.token_features(small, tokens.pack(encodings, 24))


def test_tokens_in_more_axes_have_the_features_of_each_text(small):
    batch = encode.tokenize_pairs(small, [("a", "b"), ("c d", "e"), ("f", "g b a")])
    whole = encode.token_features(small, batch)
    deeper = encode.token_features(small, jax.tree.map(lambda x: x[None], batch))
    np.testing.assert_array_equal(deeper, whole[None])
    np.testing.assert_array_equal(encode.token_features(small, jax.tree.map(lambda x: x[1], batch)), whole[1])


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        *(({"max_tokens": odd}, "max_tokens is .*expected a whole number up to") for odd in ("9", np.nan, 9.0, True)),
        *(({"batch_tokens": odd}, "batch_tokens is .*, expected a whole number") for odd in ("9", 0, -5, 9.0)),
        *(({"packing": odd}, "packing is .*, expected a whole number from 0") for odd in ("8", True, 1.5, -1)),
        *(({"cache": odd}, "a path is .*, expected the path of") for odd in (5, "a\0b")),
        ({"cache": "~nouser/x"}, "~nouser/x: there is no such home folder"),
    ],
)
def test_odd_arguments_are_one_sentence(small, settings, says, unchecked):
    for texts in ([("a", "b")], []):
        with pytest.raises(DataError, match=says) as caught:
            encode.encode(small, texts, **settings)
        assert "\n" not in str(caught.value)
    if "max_tokens" in settings:
        with pytest.raises(DataError, match=says):
            encode.tokenize_pairs(small, [("a", "b")], **settings)


@pytest.mark.parametrize("texts", [None, 5])
def test_texts_that_are_none_are_one_sentence(small, texts, unchecked):
    for call in (encode.encode, encode.encode_pairs, encode.embed, encode.tokenize_pairs):
        with pytest.raises(DataError, match=f"texts are {texts}, expected a list of texts or of pairs"):
            call(small, texts)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (None, "a path is None, expected the path of"),
        (["minilm"], r"a path is \['minilm'\], expected the path of"),
        ("a" * 5000, "is not an encoder: File name too long"),
        ("a\0b", "a path is 'a.*b', expected the path of"),
        ("~nouser/x", "~nouser/x: there is no such home folder"),
    ],
)
def test_an_odd_name_of_a_base_is_one_sentence(name, says, unchecked):
    with pytest.raises(DataError, match=says) as caught:
        encode.load_base(name)
    assert len(str(caught.value)) < 400


def test_settings_that_are_none_are_refused(unchecked):
    with pytest.raises(DataError, match="compute is 'bfloat16', expected blocks.Compute"):
        encode.load_base("minilm", compute="bfloat16")


@pytest.mark.slow
def test_a_packed_text_that_is_longer_than_the_positions_is_refused(small):
    for length in (20, 21):
        batch = tokens.side_by_side([[WORD, tokens.Encoding((5,) * length, (0,) * length)]], 32, texts=2)
        if length == 20:
            assert encode.features(small.module, small.params, batch, "cls").shape == (1, 2, small.dim)
        else:
            with pytest.raises(DataError, match="a text is 21 long, expected at most the 20 positions"):
                encode.features(small.module, small.params, batch, "cls")


def test_a_fault_of_the_weights_is_told_before_one_of_the_tokenizer(tmp_path):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((FIXTURES / "bases" / "bert" / name).read_bytes())
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match="the tokenizer could not be read"):
        encode.load_base(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"model\.safetensors: not readable as safetensors"):
        encode.load_base(tmp_path)
