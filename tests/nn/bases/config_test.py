"""Odd `config.json` files: each is one sentence that names the file and the entry."""

import dataclasses
import json
import math
import pathlib

import pytest

from hydrajax.nn import bases, weights
from hydrajax.types import DataError

FIXTURES = pathlib.Path(__file__).parents[2] / "fixtures" / "bases"
NAMES = sorted(path.name for path in FIXTURES.iterdir())
ENTRIES = [
    (name, field.name, field.type)
    for name in NAMES
    for field in dataclasses.fields(bases.get(name).Config)
    if field.type in (int, float, bool)
]


def said(folder, name, change, removed=()):
    """What `load_config` says of an architecture's small configuration with changes."""
    raw = json.loads((FIXTURES / name / "config.json").read_text()) | change
    (folder / "config.json").write_text(json.dumps({key: value for key, value in raw.items() if key not in removed}))
    with pytest.raises(DataError) as caught:
        weights.load_config(folder)
    start, message = f"{folder / 'config.json'}: ", str(caught.value)
    assert message.startswith(start) and "\n" not in message
    return message.removeprefix(start)


@pytest.mark.parametrize(("name", "entry", "kind"), ENTRIES)
def test_every_number_and_switch_is_looked_at(name, entry, kind, tmp_path):
    assert entry in bases.FIELDS
    odd = ["2", "", [2], {}, math.nan, math.inf, -math.inf, -1, 1e400]
    odd += {int: [True, False, 2.0, 0.5], float: [True, 10**400, -0.5], bool: [0, 1, 0.0]}[kind]
    if entry != "pad_token_id" and not (kind is float and "eps" not in entry):
        odd.append(0)
    for value in odd:
        assert said(tmp_path, name, {entry: value}).startswith(f"{entry} is {value!r:.80}, expected ")


@pytest.mark.parametrize(("name", "entry", "kind"), ENTRIES)
def test_what_is_missing_is_named_or_has_the_default_of_its_library(name, entry, kind, tmp_path):
    raw = json.loads((FIXTURES / name / "config.json").read_text())
    found = []
    for change in (lambda raw: raw.pop(entry, None), lambda raw: raw.update({entry: None})):
        changed = dict(raw)
        change(changed)
        (tmp_path / "config.json").write_text(json.dumps(changed))
        try:
            found.append(getattr(weights.load_config(tmp_path), entry))
        except DataError as error:
            assert kind is int
            found.append(str(error))
    assert found[0] == found[1]
    if isinstance(found[0], str):
        assert found[0] == f"{tmp_path / 'config.json'}: has no {entry}"


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("bert", {"model_type": ["bert"]}, "model_type is ['bert'], expected one of bert, camembert"),
        ("bert", {"model_type": None}, "model_type is None, expected one of bert"),
        ("bert", {"model_type": {}}, "model_type is {}, expected one of bert"),
        ("bert", {"hidden_act": ["gelu"]}, "hidden_act is ['gelu'], expected 'gelu'"),
        ("bert", {"num_attention_heads": 3}, "hidden_size is 16, expected a multiple of the 3 attention heads"),
        ("bert", {"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000, expected a whole number from 1 to"),
        ("bert", {"is_decoder": 0}, "is_decoder is 0, expected False"),
        ("roberta", {"is_decoder": True}, "is_decoder is True, expected False"),
        ("mpnet", {"relative_attention_num_buckets": 3}, "relative_attention_num_buckets is 3, expected"),
        ("mpnet", {"max_position_embeddings": 2}, "max_position_embeddings is 2, expected 3 or more"),
        ("roberta", {"pad_token_id": 13}, "pad_token_id is 13, expected a number below vocab_size (60) and below max_"),
        ("longformer", {"pad_token_id": 60}, "pad_token_id is 60, expected a number below vocab_size (60)"),
        ("roberta", {"max_position_embeddings": 2}, "pad_token_id is 1, expected a number below vocab_size (60) and"),
        ("longformer", {"attention_window": []}, "attention_window is [], expected an even number for each of the 3"),
        ("longformer", {"attention_window": [4, 8, 7]}, "attention_window is [4, 8, 7], expected an even number"),
        ("longformer", {"attention_window": [4, 8, 0]}, "attention_window is [4, 8, 0], expected an even number"),
        ("longformer", {"attention_window": [4, 8, 8.0]}, "attention_window is [4, 8, 8.0], expected an even number"),
        ("longformer", {"attention_window": "8"}, "attention_window is '8', expected an even number"),
        ("longformer", {"attention_window": None}, "attention_window is None, expected an even number"),
        ("longformer", {"global_attention": ["first"]}, "global_attention is ['first'], expected 'first' or 'none'"),
        ("modernbert", {"layer_types": 5}, "layer_types is 5, expected 'full_attention' or 'sliding_attention' for"),
        ("modernbert", {"layer_types": "full_attention"}, "layer_types is 'full_attention', expected"),
        ("modernbert", {"layer_types": [[], {}, None]}, "layer_types is [[], {}, None], expected"),
        ("modernbert", {"layer_types": []}, "layer_types is [], expected"),
        ("modernbert", {"local_attention": 1}, "local_attention is 1, expected a whole number of 2 or more"),
        ("modernbert", {"rope_scaling": {"factor": 2.0}}, "rope_scaling is {'factor': 2.0}, expected null"),
        ("modernbert", {"rope_parameters": 5}, "rope_parameters is 5, expected an object of 'full_attention' and"),
        (
            "modernbert",
            {"rope_parameters": {"rope_theta": 1e4}},
            "rope_parameters is {'rope_theta': 10000.0}, expected",
        ),
        ("modernbert", {"rope_parameters": {"full_attention": 7}}, "rope_parameters of full_attention is 7, expected"),
        (
            "modernbert",
            {"rope_parameters": {"full_attention": {"rope_theta": 1e4, "factor": 2}}},
            "rope_parameters of full_attention is {'rope_theta': 10000.0, 'factor': 2}, expected rope_type and rope_th",
        ),
        (
            "modernbert",
            {"rope_parameters": {"sliding_attention": {"rope_theta": "10000"}}},
            "rope_theta is '10000', expected a number above 0",
        ),
        (
            "modernbert",
            {"rope_parameters": None, "global_rope_theta": "1e4"},
            "global_rope_theta is '1e4', expected a number above 0",
        ),
        (
            "modernbert",
            {"rope_parameters": None, "local_rope_theta": None},
            "local_rope_theta is None, expected a number above 0",
        ),
        (
            "modernbert",
            {"layer_types": None, "global_attn_every_n_layers": 0},
            "global_attn_every_n_layers is 0, expected a whole number of 1 or more",
        ),
        (
            "modernbert",
            {"hidden_size": 18, "num_attention_heads": 6},
            "hidden_size is 18, expected a multiple of twice the 6 attention heads",
        ),
    ],
)
def test_odd_entries_are_one_sentence(name, change, says, tmp_path):
    assert said(tmp_path, name, change).startswith(says)


def test_whole_numbers_stand_for_others(tmp_path):
    raw = json.loads((FIXTURES / "bert" / "config.json").read_text()) | {"hidden_dropout_prob": 0, "layer_norm_eps": 1}
    (tmp_path / "config.json").write_text(json.dumps(raw))
    config = weights.load_config(tmp_path)
    assert (config.hidden_dropout_prob, config.layer_norm_eps) == (0.0, 1.0)
    assert type(config.hidden_dropout_prob) is type(config.layer_norm_eps) is float


def test_a_configuration_without_a_number_of_layers_says_so(tmp_path):
    for name in NAMES:
        assert said(tmp_path, name, {}, ["num_hidden_layers"]) == "has no num_hidden_layers"


def test_a_deeply_nested_file_is_one_sentence(tmp_path):
    (tmp_path / "config.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match=r"config\.json: is broken JSON"):
        weights.load_config(tmp_path)
