"""The base against the original implementation itself, live; tests/nn compares with values frozen from it."""

import numpy as np
import pytest

from hydrajax.nn import encode, weights

pytestmark = pytest.mark.parity

# Other texts than the frozen ones: short and long, with marks and letters of several scripts, and one over the limit.
PAIRS = [
    ("How late is the library open?", "Until nine, except on Sundays."),
    ("x", "A list: one, two (three), four; five - six/seven & eight."),
    ("Ночь, улица, фонарь, аптека", "東京の天気は晴れです"),
    ("a question that goes on " * 8, "and its answer, no shorter " * 10),
    ("What is it about?", "a very long story of a very small town " * 60),
]


@pytest.fixture(scope="module")
def original():
    """The PyTorch model and its tokenizer."""
    import transformers

    folder = weights.find_base("minilm")
    model = transformers.AutoModel.from_pretrained(
        folder, local_files_only=True, use_safetensors=True, attn_implementation="eager"
    )
    return model.eval(), transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)


def _theirs(original, texts, max_tokens):
    """Mean-pooled features, one text or pair at a time, so that no padding is involved."""
    import torch

    model, tokenizer = original
    rows = []
    for text in texts:
        text = (text,) if isinstance(text, str) else text
        limit = "only_second" if len(text) == 2 else True
        tokens = tokenizer(*text, truncation=limit, max_length=max_tokens, return_tensors="pt")
        with torch.no_grad():
            rows.append(model(**tokens).last_hidden_state[0].mean(dim=0).numpy())
    return np.stack(rows)


@pytest.mark.parametrize("max_tokens", [128, 256])
def test_pairs_agree(original, max_tokens):
    ours = encode.encode_pairs(encode.load_base("minilm", pooling="mean"), PAIRS, max_tokens=max_tokens)
    np.testing.assert_allclose(ours, _theirs(original, PAIRS, max_tokens), atol=1e-4)


def test_sentence_embeddings_agree(original):
    texts = [text for pair in PAIRS for text in pair]
    theirs = _theirs(original, texts, 256)
    theirs /= np.linalg.norm(theirs, axis=1, keepdims=True)
    ours = encode.embed(encode.load_base("minilm"), texts, max_tokens=256)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
