"""HYDRA on six LaMP tasks with the embedded 135M LLM: every method and control, with intervals over users.

Source    HYDRA (Zhuang et al., NeurIPS 2024), LaMP (Salemi et al., ACL 2024); sizes cut to what a laptop pays in hours.
Command   hydrajax run --config experiments/configs/lamp_small.py --data-dir DIR     (DIR/LaMP_2N/train_questions.json)
          --tasks LaMP_7 --plan          counts calls, tokens and time
Expected  the table of docs/lamp.md, measured at 0fbe1b9; answers are random, so a new store gives other numbers inside
          the intervals.
Cost      11,000 to 15,000 calls of the embedded LLM, 2 to 3 hours on 2 cores; nothing in money. A killed run goes on
          with the same command, and answers are paid for once.
Smoke     hydrajax run --config experiments/configs/lamp_small.py --smoke --tasks LaMP_7 --data-dir DIR        (seconds)

Each task is a run of its own in a folder of the run's.
"""

from experiments import kinds


def get_config(smoke: bool = False) -> kinds.LampSmall:
    """The configuration; `smoke` has a few users and a scripted LLM, and says nothing of quality."""
    tasks = tuple(kinds.LAMP_SMALL)
    if not smoke:
        return kinds.LampSmall(tasks=tasks, preset="small")
    return kinds.LampSmall(tasks=tasks, preset="small", losses=("pairwise",), epochs=(0, 2), **kinds.SMOKE)
