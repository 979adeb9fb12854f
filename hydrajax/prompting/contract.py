"""What a prompt strategy is, and what it is given."""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from hydrajax.data import tasks
from hydrajax.llm import request, sampler
from hydrajax.types import Message, Query, Record, User


@dataclasses.dataclass(frozen=True, kw_only=True)
class UserModel:
    """What a strategy has learned of a user: a text, and where it comes from.

    Attributes:
      text: put into prompts.
      records: ids of the records it was made of.
    """

    text: str
    records: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PromptSettings:
    """How prompts are built.

    Attributes:
      max_prompt_tokens: limit of all records together (by `llm.request.count_tokens`). Records are shortened to fit,
        the query never is.
      max_record_tokens: limit of one record, None for none.
      repeat_instruction: whether every shown record repeats the task's instruction, as HYDRA's prompts do. Without,
        the first turn states it and later turns bring the input alone, which saves about 100 tokens a record where
        the instruction lists the labels.
      most_relevant_last: the most relevant record stands next to the query; False shows it first.
      form: records as chat turns, or quoted inside one prompt as LaMP does.
      max_answer_tokens: limit of the answer, None for the task's own.
      summary_records: the newest records of a profile, which `pag` summarises; a summary of more of them does not fit a
        small model's attention.
      max_summary_tokens: limit of a summary.
    """

    max_prompt_tokens: int = 3000
    max_record_tokens: int | None = None
    repeat_instruction: bool = True
    most_relevant_last: bool = True
    form: str = "chat"
    max_answer_tokens: int | None = None
    summary_records: int = 10
    max_summary_tokens: int = 80

    def __post_init__(self):
        for name in (
            "max_prompt_tokens",
            "max_record_tokens",
            "max_answer_tokens",
            "summary_records",
            "max_summary_tokens",
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}, expected at least 1")
        if self.form not in ("chat", "one_prompt"):
            raise ValueError(f"form is {self.form!r}, expected 'chat' or 'one_prompt'")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Context:
    """What strategies work with: the task, the LLM, the settings, and a count of what was cut.

    Attributes:
      cut: tokens that were cut from records so far, and how many records (`tokens`, `records`).
    """

    task: tasks.Task
    llm: sampler.Sampler
    settings: PromptSettings = PromptSettings()
    cut: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)

    @property
    def answer_tokens(self) -> int:
        """The limit of an answer's length."""
        return self.settings.max_answer_tokens or self.task.max_answer_tokens

    def request(
        self, messages: tuple[Message, ...], *, sample: int = 0, temperature: float | None = 0.0, user_id: str = ""
    ) -> request.Request:
        """A request for an answer to the task's question; temperature 0 is greedy. Users take turns in being served."""
        return request.Request(
            messages=messages,
            max_tokens=self.answer_tokens,
            temperature=temperature,
            sample=sample,
            group=user_id,
        )


@runtime_checkable
class Strategy(Protocol):
    """From a query, records and what is known of the user to the messages for the LLM.

    Attributes:
      name: how it is chosen on the command line.
      retriever: the retriever that picks its records, None where it shows none.
    """

    name: str
    retriever: str | None

    def learn(self, users: Sequence[User], ctx: Context) -> Mapping[str, UserModel]:
        """What the strategy wants to know of users, once a user, by user id. Batched, so that an API works in
        parallel; users it learns nothing about are left out."""
        ...

    def messages(
        self, query: Query, records: Sequence[Record], user_model: UserModel | None, ctx: Context
    ) -> tuple[Message, ...]:
        """The conversation to send; records come most relevant first."""
        ...
