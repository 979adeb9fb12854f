"""Do personal heads matter on LaMP? Every head family as the adapter, on candidates that no reranker decided.

Source    HYDRA (Zhuang et al., NeurIPS 2024), section 3, its adapter; families from the sources in `nn/heads/`.
Command   hydrajax run --config experiments/configs/families.py --data-dir DIR       (DIR/LaMP_2N/train_questions.json)
          --plan          counts the calls
Expected  LaMP_2M, mlp - shared: +.011 [-.003, .024] on sampled candidates, +.183 [.099, .276] on all labels, measured
          at 8f9b8e1; the tables of docs/choosing-a-family.md.
Cost      about 7,300 calls of the embedded LLM in a new store, 2,700 beside those of `lamp_small`; nothing in money.
Smoke     hydrajax run --config experiments/configs/families.py --smoke --tasks LaMP_2M --data-dir DIR         (seconds)

All users of a task are re-divided into folds, and each is held out once. What any user's question asks is removed from
everybody else's profile before the division, so that prompts are the same in all folds, and one store of answers
serves every fold, family and seed. Two pools a query:

    sampled   zero-shot answers, answers with the k most relevant records, and greedy answers to each of the most
              relevant records shown alone: what an LLM gives
    labels    every label of the task: no LLM, and so no bound on how many records teach. Here a head is a classifier
"""

import dataclasses

from experiments import kinds


def get_config(smoke: bool = False) -> kinds.Families:
    """The configuration; `smoke` has a few users and a scripted LLM, and says nothing of quality."""
    whole = kinds.Families(
        tasks=("LaMP_2M", "LaMP_3", "LaMP_2N"),
        pools=("sampled", "labels"),
        families=("shared", "mlp", "mlp, fresh", "low_rank_mlp", "linear", "simplex", "facets", "generic_plus_offset"),
        losses=("cross_entropy", "pairwise"),
        epochs=(1, 2, 4, 8, 16, 32),
    )
    if not smoke:
        return whole
    few = {"pseudo": 2, "shown": 1, "alone": 1, "seeds": 1, "pooled_epochs": 1}
    return dataclasses.replace(whole, losses=("cross_entropy",), epochs=(1,), **few, **kinds.SMOKE)
