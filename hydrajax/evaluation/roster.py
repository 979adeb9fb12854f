"""The methods and controls of a run: their order in every table, their groups, and what each one is."""

from collections.abc import Iterable, Sequence

from hydrajax.methods import shuffled

PROMPTS = (
    "zero_shot", "icl_random", "rag", "pag", "cfrag", "peer_difference", "hypotheses", "hypothesis_bank",
    "persona", "full_profile", "label_histogram",
)  # fmt: skip
SHUFFLED = tuple(shuffled.name(strategy) for strategy in PROMPTS)
OURS = ("hydra_reranker", "hydra_adapter", "hydra")
UNION = (
    "union",
    "union_pooled",
    "union_own_heads",
    "union_random",
    "union_oracle",
    "union_vote",
    "union_no_llm",
    "union_no_proposals",
    "llm_choice",
)
CONTROLS = (
    "random",
    "oracle",
    "pooled_head",
    "shuffled_heads",
    "pooled_reranker",
    "vote",
    "zero_shot_random",
    "zero_shot_oracle",
    "zero_shot_vote",
    "most_frequent_label",
    "nearest_record",
    "query_text",
    "query_first_sentence",
    "factorised_classifier",
)
REFERENCE = "hydra"
# Oracles look at the golds: each is the ceiling of a pool, and no method loses to it.
CEILINGS = ("oracle", "zero_shot_oracle", "union_oracle")

EXPLAINED = {
    "zero_shot": "the query alone",
    "icl_random": "random records as chat turns",
    "rag": "the most relevant records as chat turns",
    "pag": "a summary of the profile, and records",
    "cfrag": "records of the user and of users alike",
    "peer_difference": "how the user differs from others on the same things, and records",
    "hypotheses": "hypotheses about the user, and records",
    "hypothesis_bank": "hypotheses that tell the user's records from other users', and records",
    "full_profile": "everything of the profile that fits into the prompt",
    "label_histogram": "how often the profile has each label",
    "persona": "a persona of the user, and demonstrations tried on held-out records",
    "hydra_reranker": "reranked records, one answer",
    "hydra_adapter": "the adapter chooses among zero-shot candidates",
    "hydra": "the adapter chooses among candidates made with reranked records",
    "union": "an adapter chooses among the answers of several prompt strategies and proposals without a call",
    "union_pooled": "the same adapter with one head shared by all users",
    "union_own_heads": "the same adapter with a head of each user's own, even where training users did better without",
    "union_random": "a random answer of the union, by its votes",
    "union_oracle": "the best of the union's answers: it looks at the gold, and is the ceiling there",
    "union_vote": "what the union's sources agree on",
    "union_no_llm": "an adapter chooses among the proposals alone; no LLM",
    "union_no_proposals": "an adapter chooses among the answers of the prompt strategies alone",
    "llm_choice": "the LLM chooses among the union's answers",
    "random": "a random sample of those that hydra chooses among",
    "oracle": "the best of the candidates that hydra chooses among: it looks at the gold, and is the ceiling there",
    "pooled_head": "one head shared by all users",
    "shuffled_heads": "every user is served by somebody else's head",
    "pooled_reranker": "records reranked by one head shared by all users, one answer",
    "vote": "what the samples that hydra chooses among agree on",
    "zero_shot_random": "a random zero-shot candidate",
    "zero_shot_oracle": "the best of the zero-shot candidates, which hydra_adapter chooses among: it looks at the gold",
    "zero_shot_vote": "what the zero-shot candidates agree on (self-consistency)",
    "most_frequent_label": "the user's most frequent label, or median rating; no LLM",
    "nearest_record": "the answer of the most relevant record; no LLM",
    "query_text": "the query's own text; no LLM",
    "query_first_sentence": "the first sentence of the query's text; no LLM",
    "factorised_classifier": "a shared classifier and the user's label prior; no LLM",
    **{shuffled.name(strategy): f"{strategy} with another user's records" for strategy in PROMPTS},
}


def ordered(methods: Iterable[str]) -> list[str]:
    """Methods in the order of every table: prompts, ours, controls, then what else there is, by name."""
    rank = {method: i for i, method in enumerate((*PROMPTS, *SHUFFLED, *OURS, *UNION, *CONTROLS))}
    return sorted(methods, key=lambda method: (rank.get(method, len(rank)), method))


def groups(methods: Sequence[str]) -> list[tuple[str, list[str]]]:
    """The methods of every table by group: prompt baselines, ours, controls, others; empty groups left out."""
    known = (
        ("Prompt baselines", PROMPTS),
        ("Prompts with another user's records", SHUFFLED),
        ("HYDRA", OURS),
        ("The union", UNION),
        ("Controls", CONTROLS),
    )
    split = [(name, [m for m in ordered(methods) if m in members]) for name, members in known]
    grouped = {m for _, members in split for m in members}
    split.append(("Others", [m for m in ordered(methods) if m not in grouped]))
    return [(name, members) for name, members in split if members]
