"""Settings are chosen on left-out training users, and the adapter learns what is planted."""

import numpy as np
import pytest

from hydrajax import training
from hydrajax.methods import cross_validation, scorers
from hydrajax.methods.rows import Row
from hydrajax.methods.union import union

CONFIGS = [training.FitConfig(family="linear", loss="pairwise", pooled_ridge=10.0, fit_bank=False)]


def rows(users, queries, *, sign=1.0, start=0):
    """Pools of three candidates, whose first feature says which is right (times `sign`), the second nothing."""
    rng = np.random.default_rng(start)
    found = []
    for user in users:
        for q in range(queries):
            right = int(rng.integers(3))
            for o in range(3):
                known = sign * (o == right) + 0.1 * rng.normal()
                pool = f"{user}/{start}/{q}"
                found.append(
                    Row(
                        user_id=user, query_id=pool, pool=pool, first="", second=str(o),
                        extras=(known, float(rng.normal())), label=float(o == right), quality=float(o == right),
                    )
                )  # fmt: skip
    return found


def share_right(scorer, asked):
    return np.mean(cross_validation.selection.chosen_qualities(scorer, asked))


def test_nothing_to_learn_leaves_the_order():
    found = cross_validation.choose(cross_validation.Learned(questions=[], records=[]), union.nothing, CONFIGS)
    assert isinstance(found.scorer, scorers.Untrained)


@pytest.mark.slow
def test_what_users_are_asked_decides_who_teaches():
    """Records that teach the opposite of questions are left aside."""
    users = [f"t{i}" for i in range(8)]
    given = cross_validation.Learned(questions=rows(users, 2), records=rows(users, 6, sign=-1.0, start=1))
    found = cross_validation.choose(given, union.nothing, CONFIGS, strengths=(1000.0,))
    assert found.setting.startswith("questions, ")
    assert share_right(found.scorer, rows(["new"], 20, start=2)) > 0.9


@pytest.mark.slow
def test_own_heads_are_used_where_left_out_users_gain_by_them():
    """Each user's feature has a sign of its own: only the user's records tell which."""
    users = [f"t{i}" for i in range(8)]

    def signed(own, queries, start):
        return [row for i, user in enumerate(own) for row in rows([user], queries, sign=(-1.0) ** i, start=start + i)]

    given = cross_validation.Learned(
        questions=signed(users, 4, 0), records=signed(users, 8, 50), new=signed(["n0", "n1"], 8, 90)
    )
    found = cross_validation.choose(given, union.nothing, CONFIGS, strengths=(1.0,))
    asked = signed(["n0", "n1"], 10, 200)
    assert found.scorer is found.headed
    assert share_right(found.scorer, asked) > 0.8
    assert found.scorer.scores(asked, pooled=True).shape == (len(asked),)


@pytest.mark.slow
def test_without_questions_records_teach_and_judge():
    users = [f"t{i}" for i in range(6)]
    found = cross_validation.choose(
        cross_validation.Learned(questions=[], records=rows(users, 4)), union.nothing, CONFIGS
    )
    assert max(found.quality.values()) > 0.9
