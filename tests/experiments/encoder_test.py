import importlib.util
import json

import pytest

from experiments.benchmarks import _encoder_memory, encoder


@pytest.mark.slow
def test_memory_is_measured_in_processes_of_their_own(capsys, monkeypatch):
    monkeypatch.setattr(encoder, "LONG", (1024, 2048))
    encoder.main(encoder.Options(parts=("longformer",), smoke=True, json=True))
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    planned = found["longformer"]["planned_megabytes"]
    assert found["longformer_memory_growth"] == pytest.approx(planned["2048"] / planned["1024"] / 2, rel=0.1)
    assert found["training_peak_gigabytes"] > 0


def test_random_texts_have_the_lengths_that_are_said():
    lengths = [len(one.ids) for one in encoder.texts(encoder.Options(smoke=True))]
    assert len(lengths) == 16 and min(lengths) >= 16 and max(lengths) <= 512 and len(set(lengths)) > 8


def test_operations_are_those_of_the_products():
    """Against the compiler's own count of the forward pass, which also counts what is no product."""
    import jax

    batch = encoder.uniform_batch(64, encoder.Options(smoke=True))
    compiled = (
        jax.jit(lambda p, b: encoder.encode.features(encoder.base().module, p, b, "mean"))
        .lower(encoder.base().params, batch)
        .compile()
    )
    counted = compiled.cost_analysis()["flops"]
    assert 0.9 * counted < encoder.operations(batch.ids.shape) < 1.02 * counted


def test_without_pytorch_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="need PyTorch: pip install"):
        encoder.main(encoder.Options())


def test_the_longformer_that_is_measured_is_the_papers():
    assert _encoder_memory.BASE["hidden_size"] == 768 and _encoder_memory.BASE["max_position_embeddings"] == 4098
