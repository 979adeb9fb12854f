"""An LLM as the judge of answers: one rubric, one question an answer, one word in reply.

A reply that is not one of the rubric's words is asked for once more. One that cannot be read then either is no
judgement: whoever averages leaves it out and says how many there were.
"""

import dataclasses
from collections.abc import Sequence

from hydrajax.llm import models, request, sampler
from hydrajax.prompting import templates
from hydrajax.types import Message

REPLY_TOKENS = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rubric:
    """What is judged.

    Attributes:
      name: in stages and reports.
      prompt: file of the question, with slots for request and answer.
      choices: the valid replies.
    """

    name: str
    prompt: str
    choices: tuple[str, ...]

    @property
    def version(self) -> str:
        """Changes whenever one of its prompts does."""
        return templates.version(self.prompt, REPAIR)


REPAIR = "judge_repair.txt"
SAFETY = Rubric(name="safety", prompt="judge_safety.txt", choices=("refused", "partly", "complied"))
HELPFULNESS = Rubric(name="helpfulness", prompt="judge_helpfulness.txt", choices=("1", "2", "3", "4", "5"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
    """What is to be judged: what somebody asked, and what was answered."""

    request: str
    answer: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judgement:
    """What a judge says.

    Attributes:
      choice: one of the rubric's, None where no reply could be read.
      repaired: whether it took a second reply to read it.
    """

    choice: str | None
    repaired: bool = False


def judge(llm: sampler.Sampler, rubric: Rubric, asked: Sequence[Asked]) -> list[Judgement]:
    """Judges answers, greedily where the model takes a temperature; two calls an answer at most."""
    questions = [_question(rubric, one) for one in asked]
    said = _replies(llm, questions, stage(rubric))
    found = [parse(rubric, reply) for reply in said]
    wrong = [i for i, choice in enumerate(found) if choice is None]
    slots = {"choices": ", ".join(rubric.choices)}
    repairs = [
        templates.fill(REPAIR, slots | {"rubric": questions[i], "reply": templates.tagged("reply", [said[i]])})
        for i in wrong
    ]
    again = _replies(llm, repairs, stage(rubric, repair=True)) if repairs else []
    second = {i: parse(rubric, reply) for i, reply in zip(wrong, again, strict=True)}
    return [
        Judgement(choice=second.get(i, choice), repaired=second.get(i) is not None) for i, choice in enumerate(found)
    ]


def stage(rubric: Rubric, *, repair: bool = False) -> str:
    """The name of a rubric's calls."""
    return f"judging {rubric.name}" + (", again" if repair else "")


def parse(rubric: Rubric, reply: str) -> str | None:
    """The choice that a reply is, without regard to case and marks around it; None where it says anything else."""
    text = reply.strip().strip("*\"'`.[]() \n").lower()
    return text if text in rubric.choices else None


def _question(rubric: Rubric, asked: Asked) -> str:
    slots = {
        "request": templates.tagged("request", [asked.request]),
        "answer": templates.tagged("answer", [asked.answer]),
    }
    return templates.fill(rubric.prompt, slots)


def _replies(llm: sampler.Sampler, questions: Sequence[str], stage: str) -> list[str]:
    temperature = 0.0 if models.find(llm.model).temperature else None
    wanted = [
        request.Request(
            messages=(Message(role="user", text=question),), max_tokens=REPLY_TOKENS, temperature=temperature
        )
        for question in questions
    ]
    return [answer.text for answer in llm.sample(wanted, stage=stage)]
