"""What a prompt strategy is: one file that defines `STRATEGY`, of the folder `strategies` or of one's own.

The first line of the file's docstring is what the command line says of it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from hydrajax.data import tasks
from hydrajax.prompting import templates, turns
from hydrajax.prompting.context import Asked, Context, Embed, PromptSettings, UserModel
from hydrajax.types import Message, Query, Record, User

__all__ = ["Asked", "Context", "Embed", "PromptSettings", "Strategy", "UserModel"]


class Strategy:
    """From a query, records and what is known of the user to the messages for the LLM.

    As it stands it shows the records that its retriever finds. A strategy overrides what it does otherwise.

    Attributes:
      name: that of its file, unless it says another.
      retriever: the retriever that picks its records, None where it shows none.
      alone: whether it says something of the user without showing a record.
      compares: whether it looks at other users' records, which `Context.population` then must hold.
      personal: whether its prompts depend on the user at all.
      template: of the folder `prompts`, for what is said of the user before the question; empty where nothing is.
    """

    name: str
    retriever: str | None = None
    alone: bool = False
    compares: bool = False
    personal: bool = True
    template: str = ""

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        cls.name = cls.__dict__.get("name", cls.__module__.rpartition(".")[2])

    @property
    def learns(self) -> bool:
        """Whether it learns anything of users."""
        return type(self).learn is not Strategy.learn

    def lacking(self, task: tasks.Task, population: Mapping[str, User], settings: PromptSettings) -> str:
        """What data lack that the strategy needs, as what can be said of it; empty where they lack nothing.

        Args:
          task: of the data.
          population: whom it may look at, where it compares.
          settings: of its prompts.
        """
        return ""

    def learn(self, users: Sequence[User], ctx: Context) -> Mapping[str, UserModel]:
        """What the strategy wants to know of users, once a user, by user id. Batched, so that an API works in
        parallel; users it learns nothing about are left out."""
        return {}

    def choose(self, asked: Sequence[Asked], k: int, ctx: Context) -> Mapping[str, Sequence[Record]]:
        """The k records to show, most relevant first, by query id; queries left out get the retriever's."""
        return {}

    def prepare(self, asked: Sequence[Asked], ctx: Context) -> Mapping[str, str]:
        """What the strategy asks the LLM about each query before it is put, by query id: handed to `messages`."""
        return {}

    def messages(
        self,
        query: Query,
        records: Sequence[Record],
        user_model: UserModel | None,
        ctx: Context,
        *,
        note: str = "",
    ) -> tuple[Message, ...]:
        """The conversation to send.

        Args:
          query: asked last.
          records: most relevant first.
          user_model: what `learn` found.
          ctx: task and settings.
          note: what `prepare` found.
        """
        conversation = turns.conversation(query, records if self.retriever else (), ctx)
        known = note or (user_model.text if user_model else "")
        if not (self.template and known):
            return conversation
        # What is known stands after the records: what varies least far from the answer is forgotten first by small
        # models, and a cached prefix of records stays valid.
        *before, last = conversation
        text = templates.fill(self.template, {**self.slots(known), "question": last.text})
        return (*before, Message(role=last.role, text=text))

    def slots(self, known: str) -> Mapping[str, str]:
        """What the template says of the user, made of the note, or of the user model's text."""
        return {}
