"""Every task in one table: fields, query text, retriever corpus, templates, labels, metrics.

`lamp.toml` restates LaMP (Salemi et al., ACL 2024, arXiv 2304.11406, tables 1 and 6). Real queries and
pseudo-queries (records of a profile used as questions) go through the same template.
"""

import dataclasses
import importlib.resources
import re
import tomllib
from collections.abc import Mapping
from typing import Any, Literal

from hydrajax.types import DataError, Message, Query, Record

Kind = Literal["classification", "rating", "generation", "reward"]
PseudoQuery = Literal["record", "paraphrase", "citation"]

METRICS: Mapping[str, tuple[str, ...]] = {
    "classification": ("accuracy", "macro_f1"),
    "rating": ("mae", "rmse"),
    "generation": ("rouge1", "rougeL", "bleu"),
    "reward": ("reward",),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """What is asked, how it is put to the LLM, and how an answer is judged.

    Attributes:
      name: `LaMP_2M`, or the name of a task of one's own.
      kind: decides labels and metrics.
      template: the question with `{slot}`s that a query's `inputs` fill. `{labels}` is the list of labels.
      inputs: slot -> record field, how a record becomes a pseudo-query. Empty where records hold no input.
      searched: the slots that a retriever reads of a query, where that is not all of them (LaMP_1: the references, not
        the paper that cites one of them).
      item: those of the inputs' fields that say what a record is on, where others vary (a rating that is given):
        records that agree in them are on the same item. Empty: all of them.
      answer: the record field that the user wrote; None where records hold no answer (LaMP_1).
      corpus: record fields that the retriever searches, joined by a blank.
      optional: record fields that may be missing and then read as empty.
      record_line: how a record is quoted inside one prompt, `{field}`s filled (LaMP's one-prompt form).
      record_close: what LaMP's one-prompt form says after the quoted records, before the query.
      labels: the valid answers of a classification or rating task.
      marker: the text in a LaMP input after which the bare input begins.
      demonstration: the user's turn when a record without an input is shown as a chat turn.
      pseudo_query: how pseudo-queries are made: from the record's own input (`record`); by asking the LLM to
        paraphrase the record's text, as LaMP_7 itself was made (`paraphrase`); or by setting a record's title
        against one of the same author's and one of another author's titles (`citation`, LaMP_1).
      max_answer_tokens: the answer's length limit in tokens that suits the task.
    """

    name: str
    kind: Kind
    template: str
    inputs: Mapping[str, str]
    searched: tuple[str, ...] = ()
    item: tuple[str, ...] = ()
    answer: str | None = None
    corpus: tuple[str, ...]
    optional: tuple[str, ...] = ()
    record_line: str
    record_close: str = ""
    labels: tuple[str, ...] = ()
    marker: str | None = None
    demonstration: str | None = None
    pseudo_query: PseudoQuery = "record"
    max_answer_tokens: int = 64

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that are reported, the first one decides."""
        return METRICS[self.kind]

    @property
    def scale(self) -> tuple[float, float]:
        """The lowest and the highest rating; a rating task's labels are its ratings.

        Raises:
          ValueError: the task rates nothing.
        """
        if self.kind != "rating":
            raise ValueError(f"task {self.name} is of kind {self.kind}, it has no scale")
        ratings = [float(label) for label in self.labels]
        return min(ratings), max(ratings)

    @property
    def slots(self) -> tuple[str, ...]:
        """The template's slots, in order, without `labels`."""
        return slots_of(self.template)

    @property
    def fields(self) -> tuple[str, ...]:
        """Every record field that the task reads, required ones and optional ones."""
        quoted = re.findall(r"\{(\w+)\}", self.record_line)
        answer = () if self.answer is None else (self.answer,)
        return tuple(dict.fromkeys((*self.corpus, *self.inputs.values(), *answer, *quoted)))

    def question(self, inputs: Mapping[str, str]) -> str:
        """The template, filled: what the LLM is asked."""
        return fill(self.template, {**inputs, "labels": ", ".join(self.labels)})

    def follow_up(self, inputs: Mapping[str, str]) -> str:
        """The question inside a conversation that has stated the instruction before: the template from its marker on.

        The whole question where the template has no marker, or its demonstrations ask something else.
        """
        if self.marker is None or self.demonstration is not None:
            return self.question(inputs)
        return fill(self.template[self.template.index(self.marker) :], inputs)

    def query_text(self, query: Query) -> str:
        """The bare input without the template's words: what the encoder reads."""
        return " ".join(query.inputs[slot] for slot in self.slots if query.inputs.get(slot))

    def retrieval_text(self, query: Query) -> str:
        """What the retriever reads of a query: all that the encoder reads, or the slots that are searched for."""
        slots = self.searched or self.slots
        return " ".join(query.inputs[slot] for slot in slots if query.inputs.get(slot))

    def corpus_text(self, record: Record) -> str:
        """What the retriever searches of a record."""
        return " ".join(filter(None, (record.fields.get(field, "") for field in self.corpus)))

    def record_answer(self, record: Record) -> str:
        """What the user made of the record; the title where a record has no answer field (LaMP_1)."""
        return record.fields.get(self.answer or self.corpus[0], "")

    def record_text(self, record: Record) -> str:
        """The whole record, its answer last: what the reranker's encoder reads."""
        answer = self.record_answer(record)
        body = [record.fields.get(f, "") for f in self.fields if f != (self.answer or self.corpus[0])]
        return " ".join(filter(None, [*body, answer]))

    def record_inputs(self, record: Record) -> dict[str, str]:
        """A record's input by template slot; empty where the task's records hold none."""
        return {slot: record.fields.get(field, "") for slot, field in self.inputs.items()}

    def demonstration_turns(self, record: Record, *, follow_up: bool = False) -> tuple[Message, Message]:
        """A record as a finished exchange: the question as it would be asked, and the user's answer."""
        if self.demonstration is not None:
            question = fill(self.demonstration, record.fields)
        else:
            question = (self.follow_up if follow_up else self.question)(self.record_inputs(record))
        return Message(role="user", text=question), Message(role="assistant", text=self.record_answer(record))

    def quoted(self, record: Record) -> str:
        """A record as LaMP quotes it inside one prompt."""
        return fill(self.record_line, {field: record.fields.get(field, "") for field in self.fields})

    def parse_input(self, text: str) -> dict[str, str]:
        """The bare input(s) inside a LaMP `input` text, by slot.

        Raises:
          DataError: the text does not hold what the template says.
        """
        if self.name == "LaMP_1":
            match = re.search(r'the title "(.*)", which reference.*?\[1\]: "(.*)" \[2\]: "(.*)"\s*$', text, re.DOTALL)
            if match is None:
                raise DataError("does not name a paper and two references as the template does")
            return dict(zip(("title", "a", "b"), match.groups(), strict=True))
        if self.marker is None:
            raise DataError(f"task {self.name} has no marker, its queries are given by slot")
        bare = text.partition(self.marker)[2].strip()
        if not bare:
            raise DataError(f"has no text after {self.marker!r}")
        return {self.slots[0]: bare}

    def normalise(self, answer: str) -> str:
        """The one documented normalisation of an LLM's answer, before labels are compared and metrics computed.

        Classification and rating: the first line that is not empty, without surrounding blanks, quotes, brackets and
        full stops, compared without regard to case; a rating may read `4`, `4.0` or, where 5 is the highest, `4/5`.
        What then equals no label is returned as it is and counts as wrong. Generation: blanks around the text and one
        pair of quotes around the whole are removed.
        """
        text = answer.strip()
        if self.kind in ("generation", "reward"):
            inner = text[1:-1]
            if len(text) > 1 and text[0] in '"“' and text[-1] in '"”' and not set('"“”') & set(inner):
                text = inner.strip()
            return text
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        text = lines[0].strip(" \t\"'`*.[](){}“”") if lines else ""
        if self.kind == "rating":
            text = re.sub(rf"(\.0|/{self.scale[1]:g})$", "", text)
        by_lower = {label.lower(): label for label in self.labels}
        if self.name == "LaMP_1":
            return {"1": "[1]", "2": "[2]"}.get(text, text)
        return by_lower.get(text.lower(), text)


def slots_of(template: str) -> tuple[str, ...]:
    """The slots of a template for the input, in order."""
    return tuple(slot for slot in dict.fromkeys(re.findall(r"\{(\w+)\}", template)) if slot != "labels")


def fill(template: str, values: Mapping[str, str]) -> str:
    """`str.format` for named slots only: braces inside the values and other braces in the template stay."""
    return re.sub(r"\{(\w+)\}", lambda slot: values.get(slot.group(1), ""), template)


def _lamp() -> dict[str, Task]:
    text = (importlib.resources.files("hydrajax.data") / "lamp.toml").read_text(encoding="utf-8")
    rows: dict[str, dict[str, Any]] = {
        name: {field: tuple(value) if isinstance(value, list) else value for field, value in row.items()}
        for name, row in tomllib.loads(text).items()
    }
    return {name: Task(name=name, **row) for name, row in rows.items()}


LAMP: Mapping[str, Task] = _lamp()
