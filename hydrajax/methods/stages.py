"""Names of the stages in which a method asks the LLM: in progress, in plans, and in the books of what a user costs."""

PARAPHRASES = "paraphrases"
RECORD_TRIALS = "record trials"
ZERO_SHOT_LEARNED = "zero-shot candidates to learn from"
SHOWN_LEARNED = "candidates with records to learn from"
ZERO_SHOT_ASKED = "zero-shot candidates"
RERANKED_ASKED = "candidates with reranked records"
RERANKER_ALONE = "hydra_reranker"
POOLED_RERANKER = "pooled_reranker"


def learned(strategy: str, part: str) -> str:
    """A strategy learns of users, from whole profiles or from halves of them (for pseudo-queries)."""
    return f"{strategy}: user models" + ("" if part == "whole" else " of halves")


def notes(strategy: str) -> str:
    """A strategy asks about queries before it puts them."""
    return f"{strategy}: notes"
