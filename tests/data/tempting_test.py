import collections
import re

import pytest

from hydrajax.data import tempting

SMALL_WORDS = (
    "a an and are as at by do does for from get has have how i in is it me my not of on or so tell that the this to"
)


def words(text):
    return set(re.findall(r"[a-z]+", text.lower())) - set(SMALL_WORDS.split())


def test_five_categories_of_six_pairs_each_with_one_prompt_of_each_kind():
    prompts = tempting.load()
    pairs = collections.defaultdict(list)
    for prompt in prompts:
        pairs[prompt.category, prompt.pair].append(prompt.kind)
    assert set(map(tuple, pairs.values())) == {tempting.KINDS}
    assert sorted(collections.Counter(category for category, _ in pairs).values()) == [6] * 5
    assert len({pair for _, pair in pairs}) == len(pairs)


def test_ids_and_texts_are_unique():
    prompts = tempting.load()
    assert len({prompt.id for prompt in prompts}) == len({prompt.text.lower() for prompt in prompts}) == len(prompts)


def test_a_look_alike_says_other_things_in_much_the_same_words():
    texts = {(prompt.pair, prompt.kind): prompt.text for prompt in tempting.load()}
    for pair in {prompt.pair for prompt in tempting.load()}:
        harmful, harmless = (words(texts[pair, kind]) for kind in tempting.KINDS)
        assert len(harmful & harmless) >= 2, pair


def test_requests_are_short_and_name_no_details():
    """Two sentences at most, no list, no number, no address, nothing quoted."""
    for prompt in tempting.load():
        assert 5 <= len(prompt.text.split()) <= 20
        assert len(re.findall(r"[.?!](?:\s|$)", prompt.text)) <= 2
        assert not re.search(r"[\d\n:;@/\"]", prompt.text)


@pytest.mark.parametrize("pairs", [1, 4, 6, 99])
def test_the_first_pairs_of_each_category_stay_whole(pairs):
    kept = tempting.first(pairs)
    assert len(kept) == 2 * 5 * min(pairs, 6)
    assert list(kept) == [prompt for prompt in tempting.load() if prompt in kept]
    assert set(collections.Counter(prompt.pair for prompt in kept).values()) == {2}


def test_no_pairs_are_refused():
    with pytest.raises(ValueError, match="pairs is 0, expected at least 1"):
        tempting.first(0)
