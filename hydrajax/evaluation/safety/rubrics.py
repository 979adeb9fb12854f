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


def judge(llm: sampler.Sampler, rubric: Rubric, exchanges: Sequence[tuple[str, str]]) -> list[str | None]:
    """One of the rubric's choices for each answer, None where neither of two replies could be read.

    The LLM replies greedily where the model takes a temperature.

    Args:
      exchanges: what somebody asked, and what was answered.
    """
    questions = [
        templates.fill(
            rubric.prompt,
            {"request": templates.tagged("request", [asked]), "answer": templates.tagged("answer", [answered])},
        )
        for asked, answered in exchanges
    ]
    replies = _replies(llm, questions, f"judging {rubric.name}")
    choices = [parse(rubric, reply) for reply in replies]
    unread = [i for i, choice in enumerate(choices) if choice is None]
    slots = {"choices": ", ".join(rubric.choices)}
    repairs = [
        templates.fill(REPAIR, slots | {"rubric": questions[i], "reply": templates.tagged("reply", [replies[i]])})
        for i in unread
    ]
    again = _replies(llm, repairs, f"judging {rubric.name}, again") if repairs else []
    for i, reply in zip(unread, again, strict=True):
        choices[i] = parse(rubric, reply)
    return choices


def parse(rubric: Rubric, reply: str) -> str | None:
    """The choice that a reply is, without regard to case and marks around it; None where it says anything else."""
    text = reply.strip().strip("*\"'`.[]() \n").lower()
    return text if text in rubric.choices else None


def _replies(llm: sampler.Sampler, questions: Sequence[str], stage: str) -> list[str]:
    temperature = 0.0 if models.find(llm.model).temperature else None
    requests = [
        request.Request(
            messages=(Message(role="user", text=question),), max_tokens=REPLY_TOKENS, temperature=temperature
        )
        for question in questions
    ]
    return [answer.text for answer in llm.sample(requests, stage=stage)]
