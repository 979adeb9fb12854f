"""Is choosing among everybody's candidates better than the best of them alone? The union on four LaMP tasks.

Source    the union of prompt strategies and proposals, this project's own (`methods/union`).
Command   hydrajax run --config experiments/configs/union.py --data-dir DIR          (DIR/LaMP_2N/train_questions.json)
          --strategies zero_shot rag --tasks LaMP_2M LaMP_2N LaMP_3 --store FILE     with an LLM's answers
Expected  without an LLM, union minus best single source, average over four tasks: +.002 [-.011, .015], smallest
          detectable .018: no gain is shown. By task: accuracy -.005 (LaMP_2M), +.017 (LaMP_2N), MAE .022 worse
          (LaMP_3), ROUGE-1 level (LaMP_7), each within its standard error. Minus the best control, the factorised
          classifier for ratings among them: +.006 [-.007, .019]; without it +.022 [.008, .036], nearly all of which is
          what that classifier alone gains on LaMP_3 (it is better than the union), and trimmed tweets on LaMP_7.
          Measured at 47da389; the tables of docs/union.md.
Cost      nothing in money; four minutes on one core without an LLM. With strategies the calls of `families`
          (pool `sampled`), of whose store every answer is read: users, prompts and sample numbers are the same.
Smoke     hydrajax run --config experiments/configs/union.py --smoke --tasks LaMP_2M --data-dir DIR           (a minute)

All users of a task are re-divided into folds, and each is held out once; what any user's question asks is removed from
everybody else's profile before. A fold that is finished is not computed again.
"""

import dataclasses

from experiments import kinds


def get_config(smoke: bool = False) -> kinds.Union:
    """The configuration; `smoke` has a few users, and says nothing of quality."""
    whole = kinds.Union(tasks=("LaMP_2M", "LaMP_2N", "LaMP_3", "LaMP_7"), losses=("pairwise",))
    if not smoke:
        return whole
    return dataclasses.replace(whole, train_users=12, dev_users=8, queries_per_user=1, pseudo=2, shown=1)
