"""The task, the users and the questions of a run, from its configuration."""

import dataclasses
import pathlib
from collections.abc import Callable

from hydrajax.data import custom, folds, lamp, simulated, tasks
from hydrajax.methods.lab import Reward
from hydrajax.prompting import registry
from hydrajax.runs.config import Custom, Demo, Lamp, RunConfig
from hydrajax.types import DataError, Feedback, Split, User

DEMO_RECORDS = 8  # of each simulated user; on the same topics, so that one set of candidates is rated by everybody
DEMO_TOPICS = 3  # that new users are asked about; who shares a topic and a record shares prompts, and so calls


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """What is asked, of whom, and how simulated users judge.

    Attributes:
      task: the task.
      train, validation, dev: drawn users and their questions. Validation users are cut from the training users, and
        what they are asked is removed from the training users' records and questions.
      reward: of simulated users, else None.
      feedback: what users said of answers that they were shown. Simulated users scored the texts of their records.
      skipped: what bad data was left out, one sentence each.
      notes: what a reader of the results should know of the data, one sentence each.
      removed: what was removed so that nothing leaks between training and new users; None for simulated ones.
    """

    task: tasks.Task
    train: Split
    validation: Split
    dev: Split
    reward: Reward | None = None
    feedback: tuple[Feedback, ...] = ()
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    removed: folds.Removed | None = None

    @property
    def users(self) -> dict[str, User]:
        """Everybody by id."""
        return {**self.train.users, **self.validation.users, **self.dev.users}


def load(config: RunConfig, say: Callable[[str], None]) -> Data:
    """See `run.Loader`.

    Raises:
      DataError: unknown task, missing or faulty data, more users asked for than there are; the adapter is to learn from
        feedback alone, and there is none, or by a loss for ratings alone, and they are none.
    """
    for name in registry.left_out(config.settings.strategies, cross_user=config.settings.cross_user):
        say(f"note: {name} looks at other users' records, which is switched off: it is left out")
    data = read(config)
    if set(config.losses) == {"ordinal"} and data.task.kind != "rating":
        raise DataError(f"the only loss is 'ordinal', for ratings, but task {data.task.name} is of {data.task.kind}")
    if config.settings.adapter_pools == "feedback" and not data.feedback:
        raise DataError("adapter_pools is 'feedback', but nobody has said anything of answers in these data")
    left_out = (f"{name} {sentence}: it is left out" for name, sentence in _lacking(config, data).items())
    data = dataclasses.replace(data, notes=(*data.notes, *left_out))
    for sentence in data.skipped:
        say(f"skipped: {sentence}")
    for sentence in data.notes:
        say(f"note: {sentence}")
    return data


def strategies(config: RunConfig, data: Data) -> tuple[str, ...]:
    """The strategies of the union without those that look at other users' records where that is switched off, and
    without those that need what the data lack.

    Raises:
      DataError: one of them does not exist.
    """
    lacking = _lacking(config, data)
    return tuple(name for name in _permitted(config) if name not in lacking)


def _permitted(config: RunConfig) -> tuple[str, ...]:
    return registry.permitted(config.settings.strategies, cross_user=config.settings.cross_user)


def _lacking(config: RunConfig, data: Data) -> dict[str, str]:
    """What the data lack that strategies need, by strategy."""
    return registry.lacking(_permitted(config), data.task, data.train.users, config.settings.prompts)


def read(config: RunConfig) -> Data:
    """Reads and draws.

    Raises:
      DataError: unknown task, missing or faulty data, more users asked for than there are.
    """
    if isinstance(config, Demo):
        simulation = simulated.simulate(
            train_users=config.train_users,
            dev_users=config.dev_users,
            queries=config.queries_per_user,
            dev_topics=DEMO_TOPICS,
            records=DEMO_RECORDS,
            seed=config.seed,
        )
        train, validation = _cut(config, simulation.task, simulation.train)
        return Data(
            task=simulation.task,
            train=train,
            validation=validation,
            dev=simulation.dev,
            reward=simulation.reward,
            feedback=tuple(feedback for by_user in simulation.feedback.values() for feedback in by_user),
        )
    assert isinstance(config, Lamp)
    asked = task(config)
    train, dev, skipped = _read(config, asked)
    if config.folds:
        assert config.fold is not None  # a run over all folds has these as its parts
        fold = folds.k_folds(asked, (train, dev), folds=config.folds, seed=config.seed)[config.fold]
        drawn = folds.Fold(
            train=_draw(fold.train, "train_users", config),
            held_out=_draw(fold.held_out, "dev_users", config),
            removed=fold.removed,
        )
    else:
        _disjoint(train, dev)
        drawn = folds.hold_out(asked, _draw(train, "train_users", config), _draw(dev, "dev_users", config))
    for split in (drawn.train, drawn.held_out):
        if not split.queries:
            why = " ".join(_notes(asked, drawn))
            raise DataError(
                f"{asked.name}: no question is left in {split.name!r}, expected at least one{why and f'. {why}'}"
            )
    train, validation = _cut(config, asked, drawn.train)
    return Data(
        task=asked,
        train=train,
        validation=validation,
        dev=drawn.held_out,
        skipped=skipped,
        notes=_notes(asked, drawn),
        removed=drawn.removed,
    )


def task(config: RunConfig) -> tasks.Task:
    """The task alone.

    Raises:
      DataError: there is none of this name, or its declaration is faulty.
    """
    if not isinstance(config, Lamp):
        return simulated.TASK
    if isinstance(config, Custom):
        return custom.read_task(pathlib.Path(config.task))
    if config.task not in tasks.LAMP:
        raise DataError(f"unknown task {config.task!r}; valid are {', '.join(tasks.LAMP)}")
    return tasks.LAMP[config.task]


def _cut(config: RunConfig, asked: tasks.Task, split: Split) -> tuple[Split, Split]:
    """Training and validation users, cleaned of what validation users are asked."""
    share = config.settings.validation
    try:
        fit, validation = folds.validation_cut(split, share, config.seed) if share else (tuple(split.users), ())
    except ValueError as error:
        few = config.train_users is not None and len({query.user_id for query in split.queries}) < 2
        which, given = ("train_users", config.train_users) if few else ("settings.validation", share)
        raise DataError(f"{which} is {given}: {error}") from error
    fold = folds.hold_out(asked, folds.part(split, fit), folds.part(split, validation, "validation"))
    return fold.train, fold.held_out


def _notes(asked: tasks.Task, drawn: folds.Fold) -> tuple[str, ...]:
    notes = []
    copies = folds.asked_of_own_records(asked, drawn.held_out)
    if copies:
        notes.append(
            f"{len(copies)} of {len(drawn.held_out.queries)} questions of new users ask what a record of the asker's "
            f"own profile answers, the first is {copies[0].id!r}: copying that record is right there"
        )
    removed = dataclasses.asdict(drawn.removed)
    if any(removed.values()):
        parts = ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in removed.items() if n)
        notes.append(f"removed, since new users' questions ask for it: {parts}")
    return tuple(notes)


def _disjoint(train: Split, dev: Split) -> None:
    """Training and new users and their questions need ids of their own, or the one would pass for the other."""
    users = sorted(set(train.users) & set(dev.users))
    questions = sorted({query.id for query in train.queries} & {query.id for query in dev.queries})
    for kind, both in (("user", users), ("question", questions)):
        if both:
            raise DataError(
                f"{len(both)} {kind} ids are in {train.name!r} and in {dev.name!r}, the first is {both[0]!r}; new "
                "users must not be trained on, so give every user and question an id of its own"
            )


def _draw(split: Split, setting: str, config: Lamp) -> Split:
    """As many users as a setting says."""
    users, there = getattr(config, setting), len({query.user_id for query in split.queries})
    if config.folds and users is not None:
        users = min(users, there)
    if users is not None and users > there > 0:
        raise DataError(f"{setting} is {users}, expected 1 to {there}: {split.name!r} has {there} users with questions")
    return folds.subset(split, users=users, queries_per_user=config.queries_per_user, seed=config.seed)


def _read(config: Lamp, asked: tasks.Task) -> tuple[Split, Split, tuple[str, ...]]:
    """Train, dev, and sentences on what was left out. LaMP without a folder is downloaded."""
    if config.data_dir is None and not isinstance(config, Custom):
        from hydrajax.data import tfds_lamp  # only this way in needs TFDS

        splits, skipped = tfds_lamp.load(tfds_lamp.config(asked.name, skip_bad=config.skip_bad))
        return splits["train"], splits["dev"], skipped
    if config.data_dir is None:
        raise DataError(f"experiment {config.experiment!r} reads data, give its folder with --data-dir")
    folder, reader = pathlib.Path(config.data_dir), custom.read_split
    if not isinstance(config, Custom):
        folder, reader = folder / config.task, lamp.read_split
    train, skipped_train = reader(folder, asked, "train", skip_bad=config.skip_bad)
    dev, skipped_dev = reader(folder, asked, "dev", skip_bad=config.skip_bad)
    return train, dev, (*skipped_train, *skipped_dev)
