"""HYDRA on a LaMP task with the embedded 135M LLM: every method and control, with intervals over users.

Source    HYDRA (Zhuang et al., NeurIPS 2024), LaMP (Salemi et al., ACL 2024); sizes cut to what a laptop pays in hours.
Command   hydrajax run --config experiments/configs/lamp_small.py --data-dir DIR     (DIR/LaMP_2N/train_questions.json)
          --task LaMP_7 --train-users 25 --dev-users 20 --queries-per-user 1       another task, with sizes of its own
Expected  the table of the README; answers are random, so a new store gives other numbers inside the intervals.
Cost      about 2,000 calls of the embedded LLM a task, half an hour on 2 cores; nothing in money. A killed run goes on
          with the same command, and answers are paid for once.
Smoke     hydrajax run --config experiments/configs/lamp_small.py --smoke --data-dir DIR   (seconds, a scripted LLM)
"""

from hydrajax.runs import config


def get_config(smoke: bool = False) -> config.Lamp:
    """The configuration; `smoke` has a few users and a scripted LLM, and says nothing of quality."""
    if smoke:
        return config.Lamp(
            task="LaMP_2N",
            train_users=8,
            dev_users=4,
            queries_per_user=1,
            llm="scripted",
            preset="small",
            losses=("pairwise",),
            epochs=(0, 2),
        )
    return config.Lamp(task="LaMP_2N", train_users=40, dev_users=25, queries_per_user=2, preset="small")
