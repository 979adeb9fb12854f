import gguf
import numpy as np
import pytest

from hydrajax.llm import repack

Q4 = gguf.GGMLQuantizationType.Q4_1
Q8 = gguf.GGMLQuantizationType.Q8_0


def _write(path, kind=Q4):
    """A file with one quantised matrix, one vector and a little of what else a model file says."""
    draw = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(2)
    writer.add_string("general.name", "small é")
    writer.add_array("tokenizer.ggml.tokens", ["a", "b", "ç"])
    writer.add_array("tokenizer.ggml.token_type", [1, 1, 3])
    writer.add_bool("tokenizer.ggml.add_bos_token", True)
    matrix = draw.normal(size=(4, 64)).astype(np.float32)
    writer.add_tensor("matrix", gguf.quants.quantize(matrix, kind), raw_dtype=kind)
    writer.add_tensor("vector", draw.normal(size=16).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _values(path):
    tensors = gguf.GGUFReader(path).tensors
    return {tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type) for tensor in tensors}


def _said(path):
    fields = gguf.GGUFReader(path).fields.items()
    return {name: field.contents() for name, field in fields if not name.startswith("GGUF.")}


def test_values_stay_but_for_the_rounding_of_eight_bits(tmp_path):
    source = _write(tmp_path / "model.gguf")
    target = repack.repacked(source, "digest")
    assert {t.name: t.tensor_type for t in gguf.GGUFReader(target).tensors}["matrix"] == Q8
    before, after = _values(source), _values(target)
    np.testing.assert_array_equal(after["vector"], before["vector"])
    # Half a step of 127 to the largest of each block of 32, and the scale itself is kept in half precision.
    blocks = before["matrix"].reshape(-1, 32)
    step = np.abs(blocks).max(axis=1, keepdims=True) / 127
    assert (np.abs(after["matrix"].reshape(-1, 32) - blocks) <= 0.6 * step).all()


def test_what_else_the_file_says_stays(tmp_path):
    source = _write(tmp_path / "model.gguf")
    assert _said(repack.repacked(source, "digest")) == _said(source)


def test_it_is_done_once_for_each_content(tmp_path):
    source = _write(tmp_path / "model.gguf")
    first = repack.repacked(source, "one")
    written = first.stat().st_mtime_ns
    assert repack.repacked(source, "one") == first and first.stat().st_mtime_ns == written
    assert repack.repacked(source, "two") != first
    assert sorted(path.suffix for path in first.parent.iterdir()) == [".gguf", ".gguf"]


@pytest.mark.parametrize(("kind", "slow"), [(Q4, True), (Q8, False), (gguf.GGMLQuantizationType.Q4_0, False)])
def test_only_slow_types_are_slow(tmp_path, kind, slow):
    assert repack.is_slow(_write(tmp_path / "model.gguf", kind)) == slow
