import json
from typing import Any

import jaxtyping
import numpy as np
import pytest
import safetensors.numpy

from hydrajax.nn import encode

TINY = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "vocab_size": 30,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 32,
    "type_vocab_size": 2,
}


def tiny_tensors() -> dict[str, np.ndarray]:
    """Tensors of a tiny BERT, by their names in a Hugging Face file."""
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in bert_shapes(TINY).items()}


def bert_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shapes of a BERT's tensors, by these names, from what its `config.json` holds."""
    d, wide = config["hidden_size"], config["intermediate_size"]
    shapes = {
        "embeddings.word_embeddings.weight": (config["vocab_size"], d),
        "embeddings.position_embeddings.weight": (config["max_position_embeddings"], d),
        "embeddings.token_type_embeddings.weight": (2, d),
        "embeddings.LayerNorm.weight": (d,),
        "embeddings.LayerNorm.bias": (d,),
    }
    for i in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{i}."
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            shapes |= {f"{layer}attention.{part}.weight": (d, d), f"{layer}attention.{part}.bias": (d,)}
        for part in ("attention.output", "output"):
            shapes |= {f"{layer}{part}.LayerNorm.weight": (d,), f"{layer}{part}.LayerNorm.bias": (d,)}
        shapes |= {f"{layer}intermediate.dense.weight": (wide, d), f"{layer}intermediate.dense.bias": (wide,)}
        shapes |= {f"{layer}output.dense.weight": (d, wide), f"{layer}output.dense.bias": (d,)}
    return shapes


@pytest.fixture
def folder(tmp_path):
    """A folder with a tiny encoder; `write(tensors, config)` writes another one into it."""

    def write(tensors, config=None):
        (tmp_path / "config.json").write_text(json.dumps(TINY | (config or {})))
        safetensors.numpy.save_file(tensors, tmp_path / "model.safetensors")
        return tmp_path

    write(tiny_tensors())
    return tmp_path, write


@pytest.fixture
def unchecked(monkeypatch):
    """Annotations are not looked at, as outside of tests."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture(scope="session")
def minilm():
    return encode.load_base("minilm")
