"""A deterministic stand-in for an LLM, to try out a task of one's own, for tests and measurements. It is never used for
reported quality."""

import hashlib
import re

from hydrajax.llm.request import Answer, Limits, Request, count_tokens, estimate_input_tokens


class Scripted:
    """Answers from the words of the prompt, chosen by the hash of prompt and sample number.

    Of the labels that a request allows and its prompt states it names one, and so it does of bracketed options.
    Otherwise it strings together words of the question.
    """

    model = "scripted"
    parallel = 8
    in_turn = False
    limits = Limits()

    def check(self) -> None:
        """Nothing can be missing."""

    async def complete(self, request: Request) -> Answer:
        question = request.messages[-1].text
        draw = hashlib.sha256(repr((request.messages, request.temperature, request.sample)).encode()).digest()
        stated = "\n".join(message.text for message in request.messages)
        options = re.search(r"\[([^\[\]]+,[^\[\]]+)\]", question)
        if request.labels and all(label in stated for label in request.labels):
            text = request.labels[draw[0] % len(request.labels)]
        elif options:
            choices = [option.strip() for option in options.group(1).split(",")]
            text = choices[draw[0] % len(choices)]
        elif "1, 2, 3, 4" in question:
            text = str(1 + draw[0] % 5)
        elif '[1]: "' in question:
            text = f"[{1 + draw[0] % 2}]"
        else:
            words = question.split()[-24:]
            start = draw[0] % max(1, len(words) - 6)
            text = " ".join(words[start : start + 4 + draw[1] % 5])
        return Answer(
            text=text,
            stop_reason="end_turn",
            input_tokens=estimate_input_tokens(request),
            output_tokens=count_tokens(text),
        )

    async def close(self) -> None:
        """Nothing was opened."""
