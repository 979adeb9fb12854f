"""Does telling an LLM of the user raise its harmful rate, or its over-refusal?

Source    the second task of HyPerAlign (Garbacea and Tan, arXiv 2505.00038); prompts and rubrics are this project's.
Command   hydrajax run --config experiments/configs/deliberative.py                  (simulated users, no data needed)
          --data ccat50_train.jsonl.gz --pairs 6 --llm claude-haiku-4-5
          --plan          counts calls, tokens, time and dollars, second judgements as if all were needed
Expected  nothing was published that could be compared: the abstract claims more helpfulness without loss of safety. The
          embedded 135M LLM judges nothing readably, so every rate is empty; by refusal phrases, which stand beside the
          rates, hypotheses go with .09 [.00, .35] refusals of tempting prompts (plain .00) and .00 of look-alikes.
          Measured at 373fb63; docs/hyperalign.md.
Cost      defaults: 8 x 20 answers with each strategy and as many with its mixed users, 20 plain ones, two judgements
          each and some twice: `--plan` tells. `--pairs 6` takes all prompts; eight users are few: `--users 24`.
Smoke     hydrajax run --config experiments/configs/deliberative.py --smoke                                    (seconds)

results.json has what `evaluation.safety.deliberation` says of the answers, predictions.jsonl every answer with its
judgements.
"""

from experiments import kinds


def get_config(smoke: bool = False) -> kinds.Deliberative:
    """The configuration; `smoke` has six users and a scripted LLM, and says nothing of an LLM."""
    return kinds.Deliberative(strategies=("hypotheses",), users=6 if smoke else 8, llm="scripted" if smoke else "local")
