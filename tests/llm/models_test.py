import pytest

from hydrajax.llm import models


def test_a_dated_name_finds_its_family():
    assert models.find("claude-haiku-4-5-20251001") is models.CLAUDE["claude-haiku-4-5"]
    assert models.find("claude-haiku-4-5") is models.CLAUDE["claude-haiku-4-5"]


@pytest.mark.parametrize("name", ["claude-haiku-4", "claude-haiku-4-50", "claude-haiku", "gpt", ""])
def test_what_is_not_listed_is_sent_no_temperature_and_has_no_price(name):
    row = models.find(name)
    assert row is models.UNKNOWN
    assert not row.temperature and row.cost(10, 10) is None


def test_the_embedded_model_is_free():
    row = models.find("local:Model@0123")
    assert row.temperature and row.cost(10**6, 10**6) == 0.0


def test_cost_is_per_million_tokens():
    row = models.Model(temperature=True, context_tokens=1, usd_in=2.0, usd_out=10.0)
    assert row.cost(500_000, 100_000) == pytest.approx(0.5 * 2.0 + 0.1 * 10.0)
