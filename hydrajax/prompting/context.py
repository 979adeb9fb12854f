"""What prompt strategies are given: the task, the LLM, how prompts are built, and what is known of a user."""

import collections
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
import tyro

from hydrajax.data import tasks
from hydrajax.llm import request, sampler
from hydrajax.prompting import templates
from hydrajax.types import Message, Query, Record, User, check_least, check_types

Embed = Callable[[Sequence[str]], np.ndarray]
T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True)
class UserModel:
    """What a strategy has learned of a user: a text, and where it comes from.

    Attributes:
      text: put into prompts; empty where nothing could be learned, and then the strategy goes without.
      records: ids of the records it was made of.
      shown: ids of records that are shown along with it, best first; empty where the query decides.
      prompt: version of the prompts that it was made with (`templates.version`).
      llm: the model that wrote it.
      fault: what was wrong with the LLM's answers, and what stands in for them; empty where nothing was.
      edited: whether a person has changed the text.
    """

    text: str
    records: tuple[str, ...]
    shown: tuple[str, ...] = ()
    prompt: str = ""
    llm: str = ""
    fault: str = ""
    edited: bool = False

    @property
    def provenance(self) -> str:
        """Where the text comes from, in words."""
        prompt = self.prompt and f"prompt {self.prompt}"
        words = (f"{len(self.records)} records", self.llm, prompt, self.fault, "edited by hand" if self.edited else "")
        return ", ".join(filter(None, words))


@dataclasses.dataclass(frozen=True, kw_only=True)
class PromptSettings:
    """How prompts are built.

    Attributes:
      max_prompt_tokens: limit of all records together, as tokens are estimated. Records are shortened to fit,
        the query never is.
      max_record_tokens: limit of one record, None for none.
      repeat_instruction: whether every shown record repeats the task's instruction, as HYDRA's prompts do. Without,
        the first turn states it and later turns bring the input alone, which saves about 100 tokens a record where
        the instruction lists the labels.
      most_relevant_last: the most relevant record stands next to the query; False shows it first.
      form: records as chat turns, or quoted inside one prompt as LaMP does.
      max_answer_tokens: limit of the answer, None for the task's own.
      summary_records: the newest records of a profile, which a user model is made of; a summary of more of them does
        not fit a small model's attention.
      max_summary_tokens: limit of a summary or persona.
      max_hypotheses_tokens: limit of a list of hypotheses.
      peers: other users that `cfrag` looks at for each query, and `peer_difference` for each record; None for as many
        as their papers do, 5 and 4.
      peer_weight: lambda of `cfrag`, what likeness to the user weighs against likeness to the query, 0 to 1.
      peer_records: records of each user that `cfrag` chooses among, None for as many as are shown.
      peer_ranking: what `cfrag` finds and orders records by: what was learned of the LLM's answers to training users'
        questions, or the frozen base alone, which asks nobody.
      compared_records: records of a user that `peer_difference` compares with those of others, one call each.
      compare_on: what `peer_difference` compares a record with: what others wrote on the same item, or, for data whose
        users share none, on the most similar things.
      least_writers: other users who must have written on the same for `peer_difference` to compare it.
      persona_records: the newest records that `persona` reasons about; the last three tenths of them are held out.
      max_reasoning_tokens: limit of the reasoning about one of them.
      trials: sets of reasoning, and then sets of demonstrations, that `persona` tries on each record held out.
      demonstrations: records in such a set of demonstrations, and beside those that are reasoned about.
    """

    max_prompt_tokens: int = 3000
    max_record_tokens: int | None = None
    repeat_instruction: bool = True
    most_relevant_last: bool = True
    form: Literal["chat", "one_prompt"] = "chat"
    max_answer_tokens: Annotated[int | None, tyro.conf.arg(aliases=("--answer-tokens",))] = None
    summary_records: int = 10
    max_summary_tokens: int = 80
    max_hypotheses_tokens: int = 250
    peers: int | None = None
    peer_weight: float = 0.1
    peer_records: int | None = None
    peer_ranking: Literal["learned", "frozen"] = "learned"
    compared_records: int = 8
    compare_on: Literal["item", "nearest"] = "item"
    least_writers: int = 4
    persona_records: int = 20
    max_reasoning_tokens: int = 100
    trials: int = 10
    demonstrations: int = 4

    def __post_init__(self):
        check_types(self)
        if not 0 <= self.peer_weight <= 1:
            raise ValueError(f"peer_weight is {self.peer_weight}, expected 0 to 1")
        counts = {name: 1 for name, value in vars(self).items() if type(value) is int and name != "peer_weight"}
        check_least(self, **counts)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Context:
    """What strategies work with: the task, the LLM, the settings, and a count of what was cut.

    Attributes:
      population: other users, whom strategies that compare users may look at; None where they must not.
      embed: texts -> features [N, D] of the base, for strategies that look for likeness; None without a base.
      taught: what was learned of training users for a strategy, by its name, in the form that it reads.
      seed: of draws.
      whole: users as they are, by id: their attributes, and where a strategy learns of halves of them, what the other
        half is about, which is asked as pseudo-queries: what others say of it must not be seen.
      cut: tokens that were cut from records so far, and how many records (`tokens`, `records`).
      faults: answers of the LLM that were not what was asked for, by `strategy: what was wrong, or done instead`.
    """

    task: tasks.Task
    llm: sampler.Sampler
    settings: PromptSettings = PromptSettings()
    population: Mapping[str, User] | None = None
    embed: Embed | None = None
    taught: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    seed: int = 0
    whole: Mapping[str, User] = dataclasses.field(default_factory=dict)
    cut: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    faults: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)

    def request(
        self,
        messages: tuple[Message, ...],
        *,
        sample: int = 0,
        temperature: float | None = 0.0,
        user_id: str = "",
        max_tokens: int | None = None,
    ) -> request.Request:
        """A request that is booked on a user; users take turns in being served.

        Args:
          messages: of a strategy.
          sample: the number of the sample.
          temperature: 0 is greedy; None where the model takes none.
          user_id: whose it is.
          max_tokens: limit of the answer; None: that of an answer to the task's question.
        """
        return request.Request(
            messages=messages,
            max_tokens=max_tokens or self.settings.max_answer_tokens or self.task.max_answer_tokens,
            temperature=temperature,
            sample=sample,
            group=user_id,
            labels=self.task.labels if max_tokens is None else (),
        )

    def ask(self, questions: Mapping[T, tuple[str, str]], *, max_tokens: int, stage: str) -> dict[T, str]:
        """The LLM's greedy answer to each (user id, question).

        Args:
          questions: by any key; calls are booked on the users.
          max_tokens: limit of an answer.
          stage: names the calls in progress and plans.
        """
        requests = [
            self.request((Message(role="user", text=text),), user_id=user_id, max_tokens=max_tokens)
            for user_id, text in questions.values()
        ]
        answers = self.llm.sample(requests, stage=stage) if requests else []
        return {key: answer.text.strip() for key, answer in zip(questions, answers, strict=True)}

    def user_model(self, text: str, records: Sequence[Record], prompts: Sequence[str], fault: str = "") -> UserModel:
        """What the LLM wrote of a user.

        Args:
          text: put into prompts.
          records: it was made of.
          prompts: files of the folder `prompts` that it was made with.
          fault: see `UserModel`.
        """
        ids = tuple(record.id for record in records)
        return UserModel(text=text, records=ids, prompt=templates.version(*prompts), llm=self.llm.model, fault=fault)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
    """A query, and what may help to answer it.

    Attributes:
      query: a real query or a pseudo-query.
      profile: the user's records without the one that a pseudo-query was made of, oldest first.
      records: those of them that are shown, most relevant first.
      user_model: what the strategy has learned of the user.
    """

    query: Query
    profile: tuple[Record, ...]
    records: Sequence[Record] = ()
    user_model: UserModel | None = None

    @property
    def user(self) -> User:
        """The user with that profile."""
        return User(id=self.query.user_id, profile=self.profile)
