"""Faults in data are gathered, and reported once: every fault is a sentence with file and id."""

import dataclasses

from hydrajax.types import DataError

LISTED = 20


@dataclasses.dataclass(kw_only=True)
class Faults:
    """The faults found so far. `add` is for one item that could be left out, `stop` ends the reading.

    Attributes:
      skip_bad: bad items are left out and listed instead of refused.
    """

    skip_bad: bool = False
    found: list[str] = dataclasses.field(default_factory=list)

    def add(self, sentence: str) -> None:
        self.found.append(sentence)

    def settle(self) -> tuple[str, ...]:
        """The sentences about what was skipped, in the order in which they were found.

        Raises:
          DataError: something was found and `skip_bad` is off.
        """
        if self.found and not self.skip_bad:
            raise DataError(listing(self.found))
        return tuple(self.found)

    def stop(self, sentence: str) -> DataError:
        """The error to raise for a fault that nothing can be read behind, together with those found before."""
        return DataError(listing([*self.found, sentence]))


def listing(sentences: list[str]) -> str:
    """At most `LISTED` sentences, one a line, and how many more there are."""
    lines = sentences[:LISTED]
    if len(sentences) > LISTED:
        lines.append(f"... and {len(sentences) - LISTED} more")
    return "\n".join(lines)
