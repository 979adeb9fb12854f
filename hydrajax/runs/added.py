"""Users who came to a run after it was finished: their profiles and their heads, one file a user.

A file is safetensors: the heads as `SCORER/parameter`, each of one row, and in its metadata the user and what the heads
were made of. It is written whole or not at all.
"""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy

from hydrajax import files
from hydrajax.methods import hydra, scorers
from hydrajax.runs import saved
from hydrajax.training import checks
from hydrajax.types import DataError, Record, User

FOLDER = "added"  # in a run's folder
FORMAT = "hydrajax user 1"
NAMES = ("reranker", "adapter")  # of `hydra.System`


@dataclasses.dataclass(frozen=True, kw_only=True)
class Added:
    """A user who came later.

    Attributes:
      user: id and profile.
      heads: by scorer, then by name of the parameter, each [1, ...]; a scorer that gave the user none is left out.
      made_of: digest of the profile, the scorers and the LLM that the heads were made with.
      system: digest of the scorers alone.
    """

    user: User
    heads: Mapping[str, Mapping[str, np.ndarray]]
    made_of: str
    system: str

    def joined(self, system: hydra.System) -> hydra.System:
        """The system with this user's heads in place of all others'."""
        for name, own in self.heads.items():
            scorer = getattr(system, name)
            pooled = scorer.fitted.generic  # heads have its structure
            heads = jax.tree.unflatten(jax.tree.structure(pooled), [own[leaf] for leaf in checks.leaves(pooled)])
            scorer = dataclasses.replace(scorer, heads=heads, user_rows={self.user.id: 0})
            system = dataclasses.replace(system, **{name: scorer})
        return system


def heads_of(system: hydra.System, user_id: str) -> dict[str, dict[str, np.ndarray]]:
    """A user's heads, for `Added`."""
    found = {}
    for name in NAMES:
        scorer = getattr(system, name)
        if isinstance(scorer, scorers.PersonalScorer) and user_id in scorer.user_rows:
            row = scorer.user_rows[user_id]
            found[name] = {leaf: np.asarray(own[row : row + 1]) for leaf, own in checks.leaves(scorer.heads).items()}
    return found


def save(run: pathlib.Path, added: Added) -> None:
    """Keeps a user; what the run knew of the user before is replaced.

    Raises:
      DataError: the file cannot be written.
    """
    tensors = {
        f"{name}/{leaf}": np.asarray(own, order="C")
        for name, heads in added.heads.items()
        for leaf, own in heads.items()
    }
    note = {
        "format": FORMAT,
        "user": _user_to_json(added.user),
        "heads": sorted(added.heads),
        "made_of": added.made_of,
        "system": added.system,
        "sha256": _digest(safetensors.numpy.save(tensors)),
    }
    path = _path(run, added.user.id)
    with files.in_a_sentence(path, "the user cannot be kept"):
        path.parent.mkdir(exist_ok=True)
        files.write_bytes(path, safetensors.numpy.save(tensors, {"hydrajax": json.dumps(note)}))


def find(run: pathlib.Path, user_id: str) -> Added | None:
    """What `save` kept of a user; None where the user never came.

    Raises:
      DataError: the file is damaged.
    """
    path = _path(run, user_id)
    if not path.exists():
        return None
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            note = json.loads(file.metadata()["hydrajax"])
        tensors = safetensors.numpy.load_file(path)
        if note["format"] != FORMAT or note["sha256"] != _digest(safetensors.numpy.save(tensors)):
            raise ValueError("other contents than were written")
        heads: dict[str, dict[str, np.ndarray]] = {name: {} for name in note["heads"]}
        for name, own in tensors.items():
            scorer, _, leaf = name.partition("/")
            heads[scorer][leaf] = own
        return Added(
            user=_user_from_json(note["user"]),
            heads=heads,
            made_of=note["made_of"],
            system=note["system"],
        )
    except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
        raise DataError(f"{path}: is damaged ({error}); remove it and personalise user {user_id!r} again") from error


def digest_of_system(run: pathlib.Path) -> str:
    """Changes with everything that the run's scorers are, trained bases too."""
    folder = run / "scorers"
    parts = [folder / "users.json", *(folder / name / "scorer.json" for name in NAMES)]
    parts += [folder / name / saved.BASE / "model.safetensors" for name in NAMES]
    return _digest(b"\x00".join(hashlib.sha256(path.read_bytes()).digest() for path in parts if path.exists()))


def made_of(user: User, system: str, llm: str) -> str:
    """The digest of what a user's heads are made of."""
    return _digest(json.dumps([_user_to_json(user), system, llm]).encode())


def _path(run: pathlib.Path, user_id: str) -> pathlib.Path:
    return run / FOLDER / f"{_digest(user_id.encode())[:32]}.safetensors"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _user_to_json(user: User) -> dict[str, Any]:
    records = [{"id": record.id, "fields": dict(record.fields), "date": record.date} for record in user.profile]
    given = {"attributes": dict(user.attributes)} if user.attributes else {}
    return {"id": user.id, "profile": records, **given}


def _user_from_json(values: Mapping[str, Any]) -> User:
    return User(
        id=values["id"],
        profile=tuple(Record(**record) for record in values["profile"]),
        attributes=values.get("attributes", {}),
    )
