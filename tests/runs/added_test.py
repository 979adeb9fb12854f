"""Users who came later, on disk."""

import numpy as np
import pytest

from hydrajax.runs import added
from hydrajax.types import Record, User


@pytest.mark.parametrize("attributes", [{}, {"age": "34"}])
def test_a_user_comes_back_with_profile_and_attributes(tmp_path, attributes):
    user = User(id="u", profile=(Record(id="r", fields={"text": "boats"}, date="2024"),), attributes=attributes)
    heads = {"adapter": {"w": np.ones((1, 3), np.float32)}}
    added.save(tmp_path, added.Added(user=user, heads=heads, made_of="m", system="s"))
    found = added.find(tmp_path, "u")
    assert found is not None and found.user == user
    bare = User(id="u", profile=user.profile)
    assert (added.made_of(user, "s", "m") == added.made_of(bare, "s", "m")) == (not attributes)
