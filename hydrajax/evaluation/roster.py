"""The methods and controls of a run: their order in every table, their groups, and what each one is."""

from collections.abc import Iterable, Mapping

from hydrajax.methods import shuffled

REFERENCE = "hydra"
# Oracles look at the golds: each is the ceiling of a pool, and no method loses to it.
CEILINGS = ("oracle", "zero_shot_oracle", "union_oracle")

_PROMPTS = {
    "zero_shot": "the query alone",
    "icl_random": "random records as chat turns",
    "rag": "the most relevant records as chat turns",
    "pag": "a summary of the profile, and records",
    "cfrag": "records of the user and of users alike",
    "peer_difference": "how the user differs from others on the same things, and records",
    "hypotheses": "hypotheses about the user, and records",
    "hypothesis_bank": "hypotheses that tell the user's records from other users', and records",
    "persona": "a persona of the user, and demonstrations tried on held-out records",
    "full_profile": "everything of the profile that fits into the prompt",
    "label_histogram": "how often the profile has each label",
}
PROMPTS = tuple(_PROMPTS)
# By group, what each method is; groups and methods in the order of every table.
GROUPS: Mapping[str, Mapping[str, str]] = {
    "Prompt baselines": _PROMPTS,
    "Prompts with another user's records": {
        shuffled.name(strategy): f"{strategy} with another user's records" for strategy in PROMPTS
    },
    "HYDRA": {
        "hydra_reranker": "reranked records, one answer",
        "hydra_adapter": "the adapter chooses among zero-shot candidates",
        "hydra": "the adapter chooses among candidates made with reranked records",
    },
    "The union": {
        "union": "an adapter chooses among the answers of several prompt strategies and proposals without a call",
        "union_pooled": "the same adapter with one head shared by all users",
        "union_own_heads": "the same adapter with a head of each user's own, even where training users did better "
        "without",
        "union_random": "a random answer of the union, by its votes",
        "union_oracle": "the best of the union's answers: it looks at the gold, and is the ceiling there",
        "union_vote": "what the union's sources agree on",
        "union_no_llm": "an adapter chooses among the proposals alone; no LLM",
        "union_no_proposals": "an adapter chooses among the answers of the prompt strategies alone",
        "llm_choice": "the LLM chooses among the union's answers",
    },
    "Controls": {
        "random": "a random sample of those that hydra chooses among",
        "oracle": "the best of the candidates that hydra chooses among: it looks at the gold, and is the ceiling there",
        "pooled_head": "one head shared by all users",
        "shuffled_heads": "every user is served by somebody else's head",
        "pooled_reranker": "records reranked by one head shared by all users, one answer",
        "vote": "what the samples that hydra chooses among agree on",
        "zero_shot_random": "a random zero-shot candidate",
        "zero_shot_oracle": "the best of the zero-shot candidates, which hydra_adapter chooses among: it looks at the "
        "gold",
        "zero_shot_vote": "what the zero-shot candidates agree on (self-consistency)",
        "most_frequent_label": "the user's most frequent label, or median rating; no LLM",
        "nearest_record": "the answer of the most relevant record; no LLM",
        "query_text": "the query's own text; no LLM",
        "query_first_sentence": "the first sentence of the query's text; no LLM",
        "factorised_classifier": "a shared classifier and the user's label prior; no LLM",
    },
}
EXPLAINED = {method: words for members in GROUPS.values() for method, words in members.items()}
UNION = tuple(GROUPS["The union"])
_RANK = {method: i for i, method in enumerate(EXPLAINED)}


def ordered(methods: Iterable[str]) -> list[str]:
    """Methods in the order of every table, those without a group last and by name."""
    return sorted(methods, key=lambda method: (_RANK.get(method, len(_RANK)), method))


def groups(methods: Iterable[str]) -> list[tuple[str, list[str]]]:
    """The methods of a table by group, those without a group as `Others`; empty groups are left out."""
    methods = ordered(methods)
    split = [(name, [m for m in methods if m in members]) for name, members in GROUPS.items()]
    split.append(("Others", [m for m in methods if m not in EXPLAINED]))
    return [(name, members) for name, members in split if members]
