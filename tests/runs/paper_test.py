"""`--preset paper` from one end to the other, on a small random Longformer."""

import json
import pathlib
import shutil

import pytest
import tokenizers

from hydrajax.cli import main
from hydrajax.runs import workbench
from tests.runs import conftest

LONGFORMER = pathlib.Path(__file__).parents[1] / "fixtures" / "bases" / "longformer"
# N, k, b and the temperature; the reranker's random records; all records for the adapter; what the adapter reads.
PAPER_SETTINGS = {
    "retriever": "bm25", "retrieved": 10, "shown": [4], "samples": 8, "temperature": 1.0, "greedy": False,
    "trial_queries": 10, "pseudo_queries": None, "identity": False, "votes": False, "surface": False,
}  # fmt: skip
PAPER_TRAINING = {
    "family": "mlp", "loss": "cross_entropy", "init": "fresh", "dropout": 0.1, "weight_decay": 0.01, "clip": 1.0,
    "epochs": 2, "learning_rate": 2e-5, "decays": True, "prior_strength": 0.0, "scaled": False, "standardise": False,
    "base_epochs": 2, "base_learning_rate": 2e-5, "base_batch_examples": 64,
}  # fmt: skip
ENCODERS = workbench.encoders  # before anything stands in for them


def longformer(folder):
    """A Longformer of three layers and 16 dimensions that knows the words of the data, with its tokenizer."""
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    vocabulary = [*special, *conftest.WORDS, *(f"word{i}" for i in range(60 - len(special) - len(conftest.WORDS)))]
    model = tokenizers.models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<unk>")
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    shutil.copytree(LONGFORMER, folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    named = {"cls_token": "<s>", "pad_token": "<pad>", "sep_token": "</s>", "unk_token": "<unk>"}
    said = json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **named})
    (folder / "tokenizer_config.json").write_text(said)
    return folder


@pytest.mark.slow
def test_the_papers_preset_runs_on_a_longformer(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(workbench, "encoders", ENCODERS)
    seen = []

    def encode_pairs(base, pairs, *, max_tokens, **options):
        seen.append(max_tokens)
        return plain(base, pairs, max_tokens=max_tokens, **options)

    from hydrajax.nn import encode

    plain = encode.encode_pairs
    monkeypatch.setattr(encode, "encode_pairs", encode_pairs)
    data = conftest.write_lamp(tmp_path / "data", "LaMP_5", train=2, dev=2, records=12, cold=0)
    command = ["run", "lamp", "--preset", "paper", "--task", "LaMP_5", "--llm", "scripted", "--data-dir", str(data)]
    command += ["--base", str(longformer(tmp_path / "base")), "--train-users", "2", "--dev-users", "2"]
    main.main([*command, "--out", str(tmp_path / "run"), "--store", str(tmp_path / "store.sqlite")])
    capfd.readouterr()
    assert set(seen) == {68}  # its positions but for the two that are padding's
    kept = json.loads((tmp_path / "run" / "config.json").read_text())
    # N, k, b, the random records of the reranker, the temperature; what the paper says of its training.
    assert [kept["settings"][name] for name in PAPER_SETTINGS] == list(PAPER_SETTINGS.values())
    assert {name: kept["scorer"][name] for name in PAPER_TRAINING} == PAPER_TRAINING
    assert (kept["pooling"], kept["train_base"], kept["losses"], kept["epochs"]) == (
        "cls",
        True,
        ["cross_entropy"],
        [2],
    )
    choices = json.loads((tmp_path / "run" / "choices.json").read_text())
    assert {chosen["loss"] for chosen in choices["scorers"].values()} == {"cross_entropy"}
    assert choices["validation_users"] == 0 and choices["best_source"] is None
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert {"hydra", "hydra_adapter", "hydra_reranker", "pooled_head"} <= set(results["methods"])
    # A new user: 10 records asked with 10 others each, 8 candidates of all 12 for each of the two adapters, and the
    # real question.
    asked = results["new_user"]["hydra"]["calls"]
    assert 100 + 96 < asked <= 100 + 2 * 96 + 3 * 9
