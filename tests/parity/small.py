"""Small encoders of every architecture, by transformers' own classes: what is compared with and frozen."""

import dataclasses
from typing import Any

import numpy as np

COMMON = {
    "vocab_size": 60,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "initializer_range": 0.3,
}


@dataclasses.dataclass(frozen=True)
class Small:
    """One encoder.

    Attributes:
      kind: prefix of transformers' classes.
      config: what differs from COMMON.
      lengths: of the texts; long enough for windows of the architecture to matter.
    """

    kind: str
    config: dict[str, Any]
    lengths: tuple[int, ...] = (9, 5, 2)


SMALL = {
    "bert": Small("Bert", {"max_position_embeddings": 12, "type_vocab_size": 2}),
    "roberta": Small("Roberta", {"max_position_embeddings": 14, "type_vocab_size": 1, "pad_token_id": 1}),
    "mpnet": Small("MPNet", {"max_position_embeddings": 402, "pad_token_id": 1}, (300, 40, 2)),
    "longformer": Small(
        "Longformer",
        {"max_position_embeddings": 70, "type_vocab_size": 1, "pad_token_id": 1, "attention_window": [4, 8, 16]},
        (61, 24, 10, 3),
    ),
    "modernbert": Small(
        "ModernBert",
        {"max_position_embeddings": 64, "local_attention": 8, "global_attn_every_n_layers": 3, "pad_token_id": 0},
        (61, 24, 10, 3),
    ),
}


def make(name: str) -> Any:
    """transformers' model, in evaluation mode, with random weights that differ in every tensor."""
    import torch
    import transformers

    small = SMALL[name]
    config = getattr(transformers, f"{small.kind}Config")(**COMMON, **small.config)
    config._attn_implementation = "eager"
    torch.manual_seed(0)
    model = getattr(transformers, f"{small.kind}Model")(config).eval()
    with torch.no_grad():
        for _, parameter in model.named_parameters():
            # Norms' scales are made as ones and biases as zeros: wrong names would go unseen.
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def texts(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """ids, types, mask of texts of several lengths, padded to the longest."""
    small = SMALL[name]
    rng = np.random.default_rng(0)
    longest = max(small.lengths)
    mask = np.arange(longest)[None] < np.array(small.lengths)[:, None]
    pad = small.config.get("pad_token_id", 0)
    ids = np.where(mask, rng.integers(3, COMMON["vocab_size"], mask.shape), pad).astype(np.int32)
    kinds = small.config.get("type_vocab_size", 1)
    return ids, np.where(mask, rng.integers(0, kinds, mask.shape), 0).astype(np.int32), mask


def theirs(name: str, model: Any, ids: np.ndarray, types: np.ndarray, mask: np.ndarray) -> list[Any]:
    """The embeddings and every layer's output, torch tensors [B, T, D], the last one first; gradients flow."""
    import torch

    given = {"input_ids": torch.tensor(ids.astype(np.int64)), "attention_mask": torch.tensor(mask.astype(np.int64))}
    if SMALL[name].config.get("type_vocab_size", 1) > 1:
        given["token_type_ids"] = torch.tensor(types.astype(np.int64))
    if name == "longformer":
        given["global_attention_mask"] = torch.zeros_like(given["input_ids"])
        given["global_attention_mask"][:, 0] = 1
    out = model(**given, output_hidden_states=True)
    return [out.last_hidden_state, *out.hidden_states]
