"""An adapter whose settings are chosen on training users, left out in turn: every one is a validation user once.

Questions of a few validation users are too few to tell settings apart; those of all training users are several times as
many. A setting is what is learned from (real questions alone, or the records asked as questions too), how, and how
strongly the heads of a user's own are held to the pooled head. The users who are reported decide nothing.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from hydrajax import training
from hydrajax.methods import scorers, selection
from hydrajax.methods.rows import Row
from hydrajax.methods.scorers import Encode
from hydrajax.methods.union import proposals

Teachers = Literal["questions", "all"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Learned:
    """What is learned from.

    Attributes:
      questions: training users' real queries.
      records: training users' pseudo-queries.
      new: new users' pseudo-queries.
    """

    questions: Sequence[Row]
    records: Sequence[Row]
    new: Sequence[Row] = ()

    def taught_by(self, teachers: Teachers) -> list[Row]:
        """Training users' rows: of real queries alone, or of both kinds."""
        return [*self.questions, *(self.records if teachers == "all" else ())]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """A setting: what teaches, the configuration of the fit, and epochs of a user's own head (0: the pooled head; a
    convex head is fitted by one)."""

    teachers: Teachers
    config: training.FitConfig
    epochs: int = 0

    @property
    def name(self) -> str:
        c = self.config
        head = f"{c.family} heads, prior {c.prior_strength:g}, epochs {self.epochs}" if self.epochs else "pooled head"
        return f"{self.teachers}, {c.family}, {c.loss}, ridge {c.pooled_ridge:g}: {head}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
    """What was chosen.

    Attributes:
      scorer: with the chosen setting, fitted on all training users; heads of new users by it, or the pooled head.
      headed: the same with heads of new users' own whatever was chosen.
      setting: its name.
      quality: mean quality of the selected candidates of left-out users, by setting.
    """

    scorer: scorers.TrainedScorer
    headed: scorers.TrainedScorer
    setting: str
    quality: Mapping[str, float]


def choose(
    learned: Learned,
    encode: Encode,
    configs: Sequence[training.FitConfig],
    *,
    strengths: Sequence[float] = (10.0, 100.0),
    parts: int = 4,
    seed: int = 0,
) -> Choice:
    """Chooses first what the pooled head learns from and how, then how strongly users' own heads are held to it.

    Of equal settings the first is taken, the pooled head before others.

    Args:
      configs: alternatives of the fit, of convex families.
      strengths: of the prior of own heads.
      parts: of the training users.
      seed: of the division.
    """
    rows = learned.taught_by("all")
    if not rows:
        return Choice(scorer=scorers.Untrained(), headed=scorers.Untrained(), setting="nothing to learn", quality={})
    users = list(dict.fromkeys(row.user_id for row in rows))
    part_of = proposals.parts_of(users, min(parts, len(users)), seed)
    teachers: tuple[Teachers, ...] = ("questions", "all") if learned.questions and learned.records else ("all",)
    pooled = [Setting(teachers=who, config=config) for who in teachers for config in configs]
    quality = {setting.name: _held_out_qualities(learned, encode, part_of, setting, [setting])[0] for setting in pooled}
    best = _best(pooled, quality)
    headed = [
        dataclasses.replace(best, config=dataclasses.replace(best.config, prior_strength=strength), epochs=1)
        for strength in strengths
    ]
    means = _held_out_qualities(learned, encode, part_of, best, headed)
    quality |= dict(zip((setting.name for setting in headed), means, strict=True))
    chosen, chosen_headed = _best([best, *headed], quality), _best(headed, quality)
    without_heads = _pretrain(learned.taught_by(best.teachers), encode, best.config)
    with_heads = scorers.personalise(without_heads, chosen_headed.config, learned.new, epochs=chosen_headed.epochs)
    return Choice(
        scorer=with_heads if chosen.epochs else without_heads,
        headed=with_heads,
        setting=chosen.name,
        quality=quality,
    )


def _best(settings: Sequence[Setting], quality: Mapping[str, float]) -> Setting:
    return max(settings, key=lambda setting: round(quality[setting.name], 9))


def _pretrain(rows: Sequence[Row], encode: Encode, config: training.FitConfig) -> scorers.PersonalScorer:
    return scorers.pretrain(config, encode, *scorers.examples_of(rows, encode))


def _held_out_qualities(
    learned: Learned,
    encode: Encode,
    part_of: Mapping[str, int],
    pooled: Setting,
    settings: Sequence[Setting],
) -> list[float]:
    """Mean quality, by setting, of the selected candidates of left-out users' real queries (without any: of their
    records).

    Heads learn from the left-out users' own records; where these are all that is asked, there is none to learn from.
    """
    qualities: list[list[float]] = [[] for _ in settings]
    for taught, records, asked in _divisions(learned, pooled.teachers, part_of):
        scorer = _pretrain(taught, encode, pooled.config)
        for of_setting, setting in zip(qualities, settings, strict=True):
            personal = scorers.personalise(scorer, setting.config, records, epochs=setting.epochs)
            of_setting += selection.chosen_qualities(personal, asked)
    return [selection.mean(of_setting) for of_setting in qualities]


def _divisions(
    learned: Learned, teachers: Teachers, part_of: Mapping[str, int]
) -> Iterator[tuple[list[Row], list[Row], list[Row]]]:
    """(rows that teach, the left-out users' own records, what they are asked), for each part with both."""
    for part in sorted(set(part_of.values())):
        taught = [row for row in learned.taught_by(teachers) if part_of[row.user_id] != part]
        records = [row for row in learned.records if part_of[row.user_id] == part]
        asked = [row for row in learned.questions if part_of[row.user_id] == part]
        if taught and (asked or (records and not learned.questions)):
            yield taught, records if asked else [], asked or records
