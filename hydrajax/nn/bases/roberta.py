"""RoBERTa: BERT's layers, positions counted from 2. Liu et al. (arXiv 1907.11692); XLM-RoBERTa and CamemBERT as well.

The first two rows of the table of positions are of the padding, as fairseq numbered them.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from hydrajax.nn import bases
from hydrajax.nn.bases import bert

MODEL_TYPES = ("roberta", "xlm-roberta", "camembert")
PREFIXES = ("roberta.",)

Encoder = bert.Encoder
tensors = bert.tensors


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(bert.Config):
    """The shape of the encoder; see `blocks.Shape`.

    Attributes:
      pad_token_id: positions begin behind it.
    """

    pad_token_id: int = 1

    @property
    def first_position(self) -> int:
        return self.pad_token_id + 1


def read_config(raw: Mapping[str, Any]) -> Config:
    """The shape from `config.json`.

    Raises:
      DataError: an entry is missing, or asks for what is not done here.
    """
    bases.expect(raw, hidden_act=("gelu",), position_embedding_type=("absolute", None), is_decoder=(False, None))
    return Config(**bases.fields(raw, Config, layer_norm_eps=1e-12, hidden_dropout_prob=0.1))
