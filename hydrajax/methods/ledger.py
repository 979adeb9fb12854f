"""What each user costs: calls and tokens by stage and user, stored answers included."""

import collections
import contextlib
import dataclasses
from collections.abc import Iterator, Sequence

from hydrajax.llm import request, sampler
from hydrajax.prompting import contract

Spent = collections.Counter[str]  # calls, input_tokens, output_tokens
Ledger = dict[tuple[str, str], Spent]  # by (stage, user id)


def add(ledger: Ledger, stage: str, spent: dict[str, Spent]) -> None:
    """Books what was spent, by user id."""
    for user_id, counts in spent.items():
        ledger.setdefault((stage, user_id), collections.Counter()).update(counts)


@contextlib.contextmanager
def charging(ledger: Ledger, stage: str, ctx: contract.Context) -> Iterator[contract.Context]:
    """A context whose answers, called for or stored, are booked on whom the requests are for (`Request.group`)."""
    noting = Noting(ctx.llm)
    yield dataclasses.replace(ctx, llm=noting)
    add(ledger, stage, noting.spent)


class Noting:
    """A sampler that notes what it has spent."""

    def __init__(self, inner: sampler.Sampler):
        self._inner = inner
        self.model, self.usage = inner.model, inner.usage
        self.spent: dict[str, Spent] = collections.defaultdict(collections.Counter)

    def sample(self, requests: Sequence[request.Request], *, stage: str) -> list[request.Answer]:
        """See `Sampler.sample`."""
        answers = self._inner.sample(requests, stage=stage)
        for wanted, answer in zip(requests, answers, strict=True):
            self.spent[wanted.group].update(
                calls=1, input_tokens=answer.input_tokens, output_tokens=answer.output_tokens
            )
        return answers
