"""Every prompt strategy on LaMP tasks, and whether what it shows of the user is personal at all.

Source    the strategies of `hydrajax.prompting`, each with its paper; LaMP (Salemi et al., ACL 2024).
Command   hydrajax run --config experiments/configs/strategies.py --data-dir DIR     (DIR/LaMP_2M/dev_questions.json)
          --plan          counts the calls
Expected  the table of docs/prompts.md, measured at b11087b; answers are random, so a new store gives other numbers
          inside the intervals.
Cost      about 4,000 calls of the embedded LLM, 70 minutes on 2 cores, and up to 960 a task for what `cfrag` learns of
          the questions of 40 training users; nothing in money. A killed run goes on with the
          same command, and answers are paid for once.
Smoke     hydrajax run --config experiments/configs/strategies.py --smoke --tasks LaMP_7 --data-dir DIR        (seconds)

Each strategy answers the dev users' questions twice: with the user's own profile, and with another user's (a
derangement). One that does not beat its own shuffled profile may format answers well, but knows nothing of the user.
peer_difference runs where users wrote on the same items, which of these tasks are LaMP_2M and LaMP_2N.
hypothesis_bank, whose trials are as many calls as all the others together, runs only by name.
"""

from experiments import kinds
from hydrajax.prompting import registry


def get_config(smoke: bool = False) -> kinds.Strategies:
    """The configuration; `smoke` has a few users and a scripted LLM, and says nothing of quality."""
    return kinds.Strategies(
        tasks=("LaMP_2M", "LaMP_2N", "LaMP_4", "LaMP_7"),
        strategies=tuple(name for name in registry.names() if name != "hypothesis_bank"),
        dev_users=6 if smoke else 20,
        queries_per_user=1,
        llm="scripted" if smoke else "local",
    )
