"""Names of the stages in which a method asks the LLM: in progress, in plans, and in the books of what a user costs."""

PARAPHRASES = "paraphrases"
RECORD_TRIALS = "record trials"
COLLABORATIVE_TRIALS = "cfrag: record trials"
ZERO_SHOT_LEARNED = "zero-shot candidates to learn from"
SHOWN_LEARNED = "candidates with records to learn from"
ZERO_SHOT_ASKED = "zero-shot candidates"
RERANKED_ASKED = "candidates with reranked records"
RERANKER_ALONE = "hydra_reranker"
POOLED_RERANKER = "pooled_reranker"


def learned(strategy: str, part: str) -> str:
    """A strategy learns of users, from whole profiles or from halves of them (for pseudo-queries)."""
    return f"{strategy}: user models" + ("" if part == "whole" else " of halves")


def notes(stage: str) -> str:
    """A strategy asks about queries before it puts them in a stage."""
    return f"{stage}: notes"


def union_learned(strategy: str) -> str:
    """A strategy answers records asked as questions, for the union's adapter and the bandit."""
    return f"{strategy}: candidates to learn from"


def union_asked(strategy: str) -> str:
    """A strategy answers real queries, as one of the union's sources."""
    return f"{strategy}: candidates"


LLM_CHOICE = "choice among the candidates"
