import dataclasses
import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from hydrajax.nn import encode, tokens, weights
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


def test_packed_rows_give_the_same_features(minilm):
    texts = [*PAIRS, ("long", "word " * 90), *NOTE["sentences"]]
    expected = encode.encode(minilm, texts)
    for packing in (32, 128):
        found = encode.encode(minilm, texts, packing=packing)
        np.testing.assert_allclose(found.features, expected.features, atol=1e-5)
    with pytest.raises(DataError, match="packing is 513, expected 0 to the 512 positions"):
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
    with pytest.raises(DataError, match="max_tokens is 600, expected at most the 512 positions"):
        encode.encode_pairs(minilm, PAIRS, max_tokens=600)
    assert encode.encode_pairs(minilm, [("x", "y " * 600)], max_tokens=512).shape == (1, 384)


def test_tokens_made_once_have_the_features_of_their_pairs(minilm):
    packed = encode.tokenize_pairs(minilm, PAIRS)
    np.testing.assert_allclose(encode.token_features(minilm, packed), ARRAYS["pairs.mean"], atol=1e-4)


def test_pooling_is_checked_and_defaults_to_the_folders_own(minilm):
    assert minilm.pooling == weights.load_pooling(weights.find_base("minilm")) == "mean"
    with pytest.raises(DataError, match="pooling is 'max', expected 'cls' or 'mean'"):
        encode.load_base("minilm", pooling="max")


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
    with pytest.raises(DataError, match="max_tokens is 700, expected at most the 512 positions"):
        encode.tokenize_pairs(minilm, [("word " * 600, "b")], max_tokens=700)
