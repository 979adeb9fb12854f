"""An adapter whose settings are chosen on training users, left out in turn: every one is a validation user once.

Questions of a few validation users are too few to tell settings apart; those of all training users are several times as
many. A setting is what is learned from (real questions alone, or the records asked as questions too), how, and how
strongly the heads of a user's own are held to the pooled head. The users who are reported decide nothing.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np

from hydrajax import training
from hydrajax.methods import scorers, selection
from hydrajax.methods.scorers import Encode, Row
from hydrajax.methods.union import proposals
from hydrajax.nn import heads
from hydrajax.training import fitted as fitted_lib

Taught = Literal["questions", "all"]
POOLED = 0.0  # strength that stands for: no heads of users' own


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rows:
    """What is learned from.

    Attributes:
      questions: training users' real queries.
      records: training users' pseudo-queries.
      own: new users' pseudo-queries.
    """

    questions: Sequence[Row]
    records: Sequence[Row]
    own: Sequence[Row] = ()

    def taught(self, what: Taught) -> list[Row]:
        """Real queries alone, or both."""
        return [*self.questions, *(self.records if what == "all" else ())]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """A setting: what teaches, the configuration of the fit, and epochs of a user's own head (0: the pooled head).

    A convex family takes no epochs; its `prior_strength` is in the configuration.
    """

    taught: Taught
    config: training.FitConfig
    epochs: int = 0

    @property
    def name(self) -> str:
        c = self.config
        head = f"{c.family} heads, prior {c.prior_strength:g}, epochs {self.epochs}" if self.epochs else "pooled head"
        return f"{self.taught}, {c.family}, {c.loss}, ridge {c.pooled_ridge:g}: {head}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
    """What was chosen.

    Attributes:
      scorer: with the chosen setting, fitted on all training users; heads of new users by it, or the pooled head.
      headed: the same with heads of new users' own whatever was chosen.
      setting: its name.
      quality: mean quality of the selected candidates of left-out users, by setting.
    """

    scorer: scorers.Scorer
    headed: scorers.Scorer
    setting: str
    quality: Mapping[str, float]


def choose(
    rows: Rows,
    encode: Encode,
    configs: Sequence[training.FitConfig],
    *,
    strengths: Sequence[float] = (10.0, 100.0),
    epochs: Sequence[int] = (4,),
    parts: int = 4,
    seed: int = 0,
) -> Choice:
    """Chooses first what the pooled head learns from and how, then how strongly users' own heads are held to it.

    Of equal settings the first is taken, the pooled head before others.

    Args:
      rows: of training and new users.
      encode: the frozen base.
      configs: alternatives of the fit.
      strengths: of the prior of own heads (convex families).
      epochs: of own heads (other families).
      parts: of the training users.
      seed: of the division.
    """
    if not rows.questions and not rows.records:
        return Choice(scorer=scorers.Untrained(), headed=scorers.Untrained(), setting="nothing to learn", quality={})
    users = list(dict.fromkeys(row.user_id for row in (*rows.questions, *rows.records)))
    part_of = proposals.parts_of(users, min(parts, len(users)), seed)
    whats: tuple[Taught, ...] = ("questions", "all") if rows.questions and rows.records else ("all",)
    pooled = [Setting(taught=what, config=config) for what in whats for config in configs]
    quality = {setting.name: _left_out(rows, encode, setting, part_of, [setting])[0] for setting in pooled}
    best = max(pooled, key=lambda setting: round(quality[setting.name], 9))
    headed = [
        dataclasses.replace(best, config=dataclasses.replace(best.config, prior_strength=strength), epochs=n)
        for strength, n in _ways(best.config, strengths, epochs)
    ]
    found = dict(zip((s.name for s in headed), _left_out(rows, encode, best, part_of, headed), strict=True))
    quality |= found
    chosen = max([best, *headed], key=lambda setting: round(quality[setting.name], 9))
    own = max(headed, key=lambda setting: round(quality[setting.name], 9))
    users_train, examples = scorers.examples_of(rows.taught(best.taught), encode)
    fitted = training.pretrain(best.config, examples, len(users_train))
    with_heads = scorers.personalise(own.config, encode, fitted, rows.own, epochs=own.epochs)
    without = scorers.Personal(encode=encode, fitted=fitted, heads=None, user_rows={})
    return Choice(
        scorer=with_heads if chosen.epochs else without, headed=with_heads, setting=chosen.name, quality=quality
    )


def _left_out(
    rows: Rows, encode: Encode, pooled: Setting, part_of: Mapping[str, int], settings: Sequence[Setting]
) -> list[float]:
    """Mean quality of the selected candidates of left-out users' real queries (without any: of their records).

    Heads learn from the left-out users' own records; where these are all that is asked, there is none to learn from.
    """
    found: list[list[float]] = [[] for _ in settings]
    for taught, own, asked in _divisions(rows, pooled.taught, part_of):
        users, examples = scorers.examples_of(taught, encode)
        fitted = training.pretrain(pooled.config, examples, len(users))
        for qualities, setting in zip(found, settings, strict=True):
            scorer = scorers.personalise(setting.config, encode, fitted, own, epochs=setting.epochs)
            qualities += selection.chosen_qualities(scorer, asked)
    return [float(np.mean(qualities)) if qualities else 0.0 for qualities in found]


def _divisions(
    rows: Rows, what: Taught, part_of: Mapping[str, int]
) -> Iterator[tuple[list[Row], list[Row], list[Row]]]:
    """(rows that teach, the left-out users' own records, what they are asked), for each part with both."""
    for part in sorted(set(part_of.values())):
        taught = [row for row in rows.taught(what) if part_of[row.user_id] != part]
        records = [row for row in rows.records if part_of[row.user_id] == part]
        asked = [row for row in rows.questions if part_of[row.user_id] == part]
        if taught and (asked or (records and not rows.questions)):
            yield taught, records if asked else [], asked or records


def _ways(config: training.FitConfig, strengths: Sequence[float], epochs: Sequence[int]) -> list[tuple[float, int]]:
    """(prior strength, epochs): a convex family differs by the one, others by the other."""
    if isinstance(fitted_lib.family_of(config), heads.Convex):
        return [(strength, 1) for strength in strengths]
    return [(config.prior_strength, n) for n in epochs]
