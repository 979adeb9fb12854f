"""RoBERTa: BERT's layers, positions counted from 2. Liu et al. (arXiv 1907.11692); XLM-RoBERTa and CamemBERT as well.

The first two rows of the table of positions are of the padding, as fairseq numbered them.
"""

import dataclasses
import functools

from hydrajax.nn.bases import bert

MODEL_TYPES = ("roberta", "xlm-roberta", "camembert")
PREFIXES = ("roberta.",)

Encoder = bert.Encoder
tensors = bert.tensors


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(bert.Config):
    """The shape of the encoder; see `blocks.PostNormShape`.

    Attributes:
      pad_token_id: positions begin behind it.
    """

    pad_token_id: int = 1

    @property
    def first_position(self) -> int:
        return self.pad_token_id + 1


read_config = functools.partial(bert.read_config, kind=Config)
