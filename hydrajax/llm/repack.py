"""Repacks a GGUF file's 4-bit weights as 8-bit ones, which llama.cpp reads prompts with 1.6 times as fast on a CPU.

Its fast matrix products exist for Q8_0 but not for Q4_1. The values stay those of the 4-bit file up to the rounding of
8 bits to a block of 32; the file grows from 98 to 150 MB.
"""

import importlib.util
import os
import pathlib

import platformdirs

from hydrajax.llm.request import LLMError

SLOW_TYPES = ("Q4_1", "Q5_1")


def is_slow(path: pathlib.Path) -> bool:
    """Whether a GGUF file holds weights of a slow type and can be repacked here.

    Raises:
      LLMError: it is no GGUF file.
    """
    if importlib.util.find_spec("gguf") is None:
        return False
    import gguf

    try:
        tensors = gguf.GGUFReader(path).tensors
    except (ValueError, IndexError, KeyError) as error:
        raise LLMError(f"{path}: cannot be read as a GGUF file ({error})") from error
    return any(tensor.tensor_type.name in SLOW_TYPES for tensor in tensors)


def repacked(path: pathlib.Path, digest: str) -> pathlib.Path:
    """The 8-bit file of a 4-bit one, made once and kept in the user's cache folder.

    Args:
      path: the GGUF file.
      digest: of that file; names the copy.
    """
    target = pathlib.Path(platformdirs.user_cache_dir("hydrajax")) / "models" / f"{path.stem}.{digest}.Q8_0.gguf"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(f".{os.getpid()}.part")
        _write(path, partial)
        partial.replace(target)
    return target


def _write(source: pathlib.Path, target: pathlib.Path) -> None:
    import gguf

    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, str(reader.fields["general.architecture"].contents()))
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":  # the writer adds these itself
            continue
        kind = field.types[0]
        element = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), kind, sub_type=element)
    for tensor in reader.tensors:
        if tensor.tensor_type.name in SLOW_TYPES:
            values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            packed = gguf.quants.quantize(values, gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(tensor.name, packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
