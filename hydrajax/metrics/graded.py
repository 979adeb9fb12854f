"""The graded quality of one answer: what training labels and the oracle are made of."""

from hydrajax.data import tasks
from hydrajax.metrics import ratings, rouge


def quality(task: tasks.Task, prediction: str, gold: str) -> float:
    """How good one answer is, from 0 to 1.

    classification: 1 if equal to the gold after `task.normalise`, else 0
    rating:         1 - |p - g| / (length of the scale), not below 0; an unreadable answer counts as its farther end
    generation:     (ROUGE-1 + ROUGE-L) / 2, HYDRA's score of a generated text

    An empty answer is a failure of the LLM and always 0. Equality is exact: an answer that only contains the gold is
    wrong.

    Args:
      task: decides the kind and the normalisation.
      prediction: an answer, normalised or as the LLM gave it.
      gold: what the user answered.

    Raises:
      DataError: the gold of a rating is no number.
      ValueError: the task is judged by rewards, which only its simulated users know.
    """
    predicted, true = task.normalise(prediction), task.normalise(gold)
    if not predicted:
        return 0.0
    match task.kind:
        case "classification":
            return float(predicted == true)
        case "rating":
            lowest, highest = task.scale
            p, g = ratings.read(predicted, true, task.scale)
            return max(0.0, 1.0 - abs(p - g) / (highest - lowest))
        case "generation":
            return sum(rouge.rouge_pair(predicted, true)) / 2.0
        case _:
            raise ValueError(
                f"task {task.name} is of kind {task.kind}, where quality is the simulated user's reward; expected one "
                "of classification, rating, generation"
            )
