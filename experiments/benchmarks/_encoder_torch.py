"""The same encoder in PyTorch, as transformers has it: what the benchmark `encoder` is compared with."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import transformers

from experiments.benchmarks import _benchmark


class Theirs:
    """transformers' model with its fastest attention, on all cores or on a GPU."""

    def __init__(self, folder: pathlib.Path, device: str = "cpu"):
        self.device = device
        transformers.logging.set_verbosity_error()
        torch.set_num_threads(_benchmark.CORES)
        load = transformers.AutoModel.from_pretrained
        given = {"local_files_only": True, "use_safetensors": True, "attn_implementation": "sdpa"}
        self.model = load(folder, **given).eval().to(device)
        self.half = load(folder, **given).eval().to(device, torch.bfloat16)
        self.trained = load(folder, **given).train().to(device)
        # Dropout off, as in the contender: both then compute the same.
        for module in self.trained.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        self.optimizer = torch.optim.AdamW(self.trained.parameters(), lr=1e-5, weight_decay=0.01)

    def tensors(self, ids: np.ndarray, types: np.ndarray, mask: np.ndarray) -> dict[str, Any]:
        """A batch; without a mask where nothing is padded, which spares PyTorch the mask's work."""
        given = {"input_ids": ids, "token_type_ids": types} | ({} if mask.all() else {"attention_mask": mask})
        return {name: torch.tensor(array.astype(np.int64), device=self.device) for name, array in given.items()}

    def features(self, batch: dict[str, Any], *, half: bool = False) -> Any:
        """Mean-pooled features, [B, D]."""
        with torch.inference_mode():
            return _pooled((self.half if half else self.model)(**batch).last_hidden_state, batch.get("attention_mask"))

    def all_features(self, batches: Sequence[dict[str, Any]]) -> None:
        """One batch after another."""
        for batch in batches:
            self.features(batch)

    def step(self, batch: dict[str, Any], goal: np.ndarray) -> None:
        """An update of all parameters: half the squared distance of the features from a goal, AdamW."""
        self.optimizer.zero_grad(set_to_none=True)
        z = _pooled(self.trained(**batch).last_hidden_state, batch.get("attention_mask"))
        (0.5 * (z - torch.tensor(goal)) ** 2).sum().backward()
        self.optimizer.step()

    def wait(self) -> None:
        """For the GPU to be done."""
        if self.device != "cpu":
            torch.cuda.synchronize()


def made(folder: pathlib.Path, shape: Mapping[str, Any]) -> None:
    """A folder with BERT of this shape, random weights."""
    transformers.logging.set_verbosity_error()
    transformers.BertModel(transformers.BertConfig(**shape)).save_pretrained(folder)


def on_gpu() -> bool:
    """Whether PyTorch has a GPU."""
    return torch.cuda.is_available()


def _pooled(x: Any, mask: Any) -> Any:
    if mask is None:
        return x.mean(dim=1)
    keep = mask[..., None].to(x.dtype)
    return (x * keep).sum(dim=1) / keep.sum(dim=1)
