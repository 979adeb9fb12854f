"""The authors of an authorship run: how many texts they need depends on the judge."""

import json
import random

import pytest

from hydrajax.runs import authorship_config, load_authors
from hydrajax.types import DataError


def write(folder, split, each):
    rows = []
    for author in ("ann", "bob", "cho"):
        for number in range(each):
            words = random.Random(f"{split} {author} {number}").choices("abcdefghijklmnopqrstuvwxyz", k=60)
            text = f"Day {number} of {author} begins. It was {' '.join(words)}."
            rows.append(json.dumps({"author": author, "file": f"{number}", "text": text}) + "\n")
    path = folder / f"{split}.jsonl"
    path.write_text("".join(rows))
    return str(path)


def test_only_a_judge_that_is_trained_needs_texts_of_its_own(tmp_path):
    data = (write(tmp_path, "train", 7), write(tmp_path, "test", 4))
    values = {"data": data, "authors": 3, "shown": 7, "validation": 2, "test": 2, "shown_words": None}
    found = load_authors.load(authorship_config.Authorship(**values, judge="llm"), print)
    assert len(found.users) == 3 and not any(found.unseen.values())
    with pytest.raises(DataError, match="0 of 3 authors .* and 3 for the judge"):
        load_authors.load(authorship_config.Authorship(**values, judge="classifier"), print)
