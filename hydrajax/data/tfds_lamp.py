"""LaMP as a TensorFlow Datasets builder: `array_record` files, written and read without TensorFlow.

`load` builds a task once, from the benchmark's site or from a folder of its JSON files, and reads it back as the same
splits that `lamp.read_split` gives. An example is a user:

    {"user_id", "profile": [{"id", "date", field: text, ...}], "queries": [{"position", "id", "gold", slot: text, ...}]}

The builder is an ordinary one, for other programs: `Lamp(config="LaMP_7_user").as_data_source()`.
"""

import contextlib
import dataclasses
import hashlib
import io
import logging
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hydrajax.data import lamp, tasks
from hydrajax.types import DataError, Query, Record, Split, User

try:
    import tensorflow_datasets as tfds
except ImportError as error:
    raise ImportError("hydrajax.data.tfds_lamp needs TensorFlow Datasets: pip install tensorflow-datasets") from error

ADDRESS = "https://ciir.cs.umass.edu/downloads/LaMP"
SPLITS = ("train", "dev")  # the golds of the test split are not public
Division = Literal["user", "time"]


@dataclasses.dataclass(eq=False)
class LampConfig(tfds.core.BuilderConfig):
    """One task.

    Attributes:
      task: a name of `tasks.LAMP`.
      by: what separates train and dev: different users, or time.
      folder: holds the task's JSON files; None to download them.
      skip_bad: leave bad questions and records out.
    """

    task: str = "LaMP_7"
    by: Division = "user"
    folder: Path | None = None
    skip_bad: bool = False


def config(task: str, *, by: Division = "user", folder: Path | None = None, skip_bad: bool = False) -> LampConfig:
    """The configuration of a task. Its name tells apart whatever leads to different files, local contents included.

    Args:
      task: a name of `tasks.LAMP`.
      by: `user` or `time`, which of LaMP's two divisions is downloaded.
      folder: holds `{train,dev}_{questions,outputs}.json`, nothing is downloaded then. Other contents are another
        dataset.
      skip_bad: leave bad questions and records out instead of refusing the task.

    Raises:
      DataError: an unknown task, or a folder without the task's files.
    """
    if task not in tasks.LAMP:
        raise DataError(f"{task!r} is no task of LaMP, expected one of {', '.join(tasks.LAMP)}")
    name = f"{task}_{by}" if folder is None else f"{task}_folder_{_digest(folder)}"
    name += "_skip_bad" if skip_bad else ""
    where = f"divided by {by}" if folder is None else "from a local folder"
    return LampConfig(name=name, description=f"{task}, {where}.", task=task, by=by, folder=folder, skip_bad=skip_bad)


class Lamp(tfds.core.GeneratorBasedBuilder):
    """LaMP: When Large Language Models Meet Personalization (Salemi et al., ACL 2024)."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [config(task, by=by) for by in ("user", "time") for task in tasks.LAMP]

    # TFDS's own way to a builder's code needs importlib_resources, which it does not install on this Python.
    @tfds.core.utils.classproperty
    @classmethod
    def code_path(cls) -> tfds.core.Path:
        return tfds.core.Path(__file__)

    def __init__(self, **kwargs: Any):
        super().__init__(**{"file_format": "array_record", **kwargs})

    def _info(self) -> tfds.core.DatasetInfo:
        task = self._task
        text = tfds.features.Text()
        record = {"id": text, "date": text, **{_field(field): text for field in task.fields}}
        slots = {_field(slot): text for slot in task.slots}
        query = {"position": tfds.features.Scalar(np.int64), "id": text, "gold": text, **slots}
        return tfds.core.DatasetInfo(
            builder=self,
            description="Questions to a language model and, for each user, a profile of past records.",
            features=tfds.features.FeaturesDict(
                {
                    "user_id": text,
                    "profile": tfds.features.Sequence(record),
                    "queries": tfds.features.Sequence(query),
                }
            ),
            homepage="https://lamp-benchmark.github.io",
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(skipped={}),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        generators = {}
        for split, (questions, outputs) in self._files(dl_manager).items():
            content, skipped = lamp.read_files(
                questions, outputs, self._task, split, skip_bad=self.builder_config.skip_bad
            )
            self.info.metadata["skipped"][split] = list(skipped)
            generators[split] = self._generate_examples(content)
        return generators

    def _generate_examples(self, split: Split) -> Iterator[tuple[int, dict[str, Any]]]:
        queries: dict[str, list[dict[str, Any]]] = {}
        for position, query in enumerate(split.queries):
            slots = {_field(slot): query.inputs[slot] for slot in self._task.slots}
            row = {"position": position, "id": query.id, "gold": query.gold, **slots}
            queries.setdefault(query.user_id, []).append(row)
        for number, user in enumerate(split.users.values()):
            profile = [
                {"id": r.id, "date": r.date or "", **{_field(f): text for f, text in r.fields.items()}}
                for r in user.profile
            ]
            yield number, {"user_id": user.id, "profile": profile, "queries": queries.get(user.id, [])}

    @property
    def _task(self) -> tasks.Task:
        return tasks.LAMP[self.builder_config.task]

    def _files(self, dl_manager: tfds.download.DownloadManager) -> Mapping[str, tuple[Path, Path]]:
        folder = self.builder_config.folder
        if folder is not None:
            return {split: lamp.files(folder, split) for split in SPLITS}
        wanted = addresses(self.builder_config.task, self.builder_config.by)
        try:
            # TFDS alone would try for minutes where there is no network.
            request = urllib.request.Request(wanted["train"]["outputs"], method="HEAD")
            urllib.request.urlopen(request, timeout=20).close()
            paths = dl_manager.download(wanted)
        except (OSError, tfds.download.DownloadError) as error:
            raise DataError(
                f"{self.builder_config.task} cannot be downloaded from {ADDRESS} ({type(error).__name__}); "
                "without a network, name the folder that holds its JSON files"
            ) from error
        return {split: (Path(paths[split]["questions"]), Path(paths[split]["outputs"])) for split in SPLITS}


def addresses(task: str, by: Division) -> dict[str, dict[str, str]]:
    """Where the benchmark's site has a task's files, by split.

    Raises:
      DataError: LaMP_6, which is made of a corpus that is not free.
    """
    if task == "LaMP_6":
        raise DataError(
            "LaMP_6 is made of the Avocado corpus (LDC) and cannot be downloaded; "
            "name the folder that holds its JSON files"
        )
    place = {"LaMP_2N": "LaMP_2", "LaMP_2M": "LaMP_2/new"}.get(task, task)
    base = f"{ADDRESS}/time/{place}" if by == "time" else f"{ADDRESS}/{place}"
    return {
        split: {part: f"{base}/{split}/{split}_{part}.json" for part in ("questions", "outputs")} for split in SPLITS
    }


def load(chosen: LampConfig, *, data_dir: Path | None = None) -> tuple[dict[str, Split], tuple[str, ...]]:
    """Builds a task if it has not been built yet, and reads it.

    Args:
      chosen: of `config`.
      data_dir: where TFDS keeps what it built; None for its own default.

    Returns:
      the splits by name, and one sentence for everything that was left out.

    Raises:
      DataError: as `lamp.read_split`; files that can neither be found nor downloaded.
    """
    with _quiet():
        # TFDS wants its own configurations by name, and others as objects.
        known = chosen.name in Lamp.builder_configs
        builder = Lamp(config=chosen.name if known else chosen, data_dir=data_dir)
        builder.download_and_prepare(file_format="array_record")
    source = builder.as_data_source()
    splits = {name: _split(tasks.LAMP[chosen.task], name, source[name]) for name in SPLITS}
    skipped = builder.info.metadata["skipped"]
    return splits, tuple(sentence for name in SPLITS for sentence in skipped[name])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """TFDS without its remarks on standard output, and with progress bars on a terminal only."""
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)


def _split(task: tasks.Task, name: str, examples: Any) -> Split:
    users: dict[str, User] = {}
    queries: dict[int, Query] = {}
    for example in examples:
        user_id = _text(example["user_id"])
        users[user_id] = User(id=user_id, profile=tuple(_records(task, example["profile"])))
        asked = example["queries"]
        for place, position in enumerate(asked["position"]):
            queries[int(position)] = Query(
                id=_text(asked["id"][place]),
                user_id=user_id,
                inputs={slot: _text(asked[_field(slot)][place]) for slot in task.slots},
                gold=_text(asked["gold"][place]),
            )
    return Split(name=name, users=users, queries=tuple(queries[position] for position in sorted(queries)))


def _records(task: tasks.Task, columns: Mapping[str, Any]) -> Iterator[Record]:
    for place, record_id in enumerate(columns["id"]):
        yield Record(
            id=_text(record_id),
            fields={field: _text(columns[_field(field)][place]) for field in task.fields},
            date=_text(columns["date"][place]) or None,
        )


def _field(name: str) -> str:
    """A field's or slot's name among the columns, where `id`, `date`, `gold` and `position` are taken."""
    return f"field_{name}"


def _text(value: bytes | str) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else value


def _digest(folder: Path) -> str:
    """Twelve digits that stand for the contents of the folder's files."""
    digest = hashlib.sha256()
    for split in SPLITS:
        for path in lamp.files(folder, split):
            try:
                with path.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
            except OSError as error:
                raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    return digest.hexdigest()[:12]
