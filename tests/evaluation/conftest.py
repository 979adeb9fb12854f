"""Synthetic prediction rows: every method and control on a pool of candidates, deterministic, of any task."""

import numpy as np
import pytest

from hydrajax import metrics
from hydrajax.data import tasks
from hydrajax.methods import controls

WORDS = [
    "amber", "basin", "cedar", "delta", "ember", "fjord", "grove", "haven", "inlet", "jetty", "knoll", "larch", "marsh",
]  # fmt: skip
SKILL = {"zero_shot": 0.3, "icl_random": 0.35, "rag": 0.5, "pag": 0.45, "hydra_reranker": 0.55}
DEMO = tasks.Task(
    name="demo", kind="reward", template="Write about {text}", inputs={"text": "text"}, answer="text",
    corpus=("text",), record_line="{text}",
)  # fmt: skip


def _answer(task, gold, rng, skill):
    if task.kind in ("classification", "rating"):
        return gold if rng.random() < skill else str(rng.choice([*task.labels, "no label"]))
    words = gold.split()
    return " ".join(word if rng.random() < skill else str(rng.choice(WORDS)) for word in words)


def _gold(task, rng):
    if task.labels:
        return str(rng.choice(task.labels))
    return " ".join(rng.choice(WORDS, size=int(rng.integers(6, 11))))


def _quality(task, text, gold):
    if task.kind != "reward":
        return metrics.quality(task, text, gold)
    return 2.0 * sum(metrics.rouge_pair(text, gold)) - 1.0


def _pool(task, gold, rng, source):
    texts = list(dict.fromkeys(_answer(task, gold, rng, 0.4) for _ in range(6)))
    found = []
    for text in texts:
        quality = _quality(task, text, gold)
        scores = {m: float(quality + rng.normal(0, 0.3)) for m in ("hydra", "hydra_adapter")}
        found.append(
            {
                "text": text, "source": source, "votes": int(rng.integers(1, 4)), "stop_reason": "end_turn",
                "prediction": text, "quality": quality, "scores": scores,
            }
        )  # fmt: skip
    return found


def _row(task, user, number, rng, draws):
    gold = _gold(task, rng)
    query = f"{user}-{number}"
    pools = {name: _pool(task, gold, rng, name) for name in ("zero_shot", "reranked")}
    pool = pools["reranked"]
    texts, votes = [c["prediction"] for c in pool], [c["votes"] for c in pool]
    answers = {m: {"predictions": [_answer(task, gold, rng, s)], "candidate": None} for m, s in SKILL.items()}
    adapter = max(range(len(pools["zero_shot"])), key=lambda i: pools["zero_shot"][i]["scores"]["hydra_adapter"])
    answers["hydra_adapter"] = {
        "predictions": [pools["zero_shot"][adapter]["prediction"]],
        "candidate": ["zero_shot", adapter],
    }
    single = {
        "hydra": max(range(len(pool)), key=lambda i: pool[i]["scores"]["hydra"]),
        "oracle": int(np.argmax([c["quality"] for c in pool])),
        "vote": controls.vote(task, texts, votes),
    }
    answers |= {m: {"predictions": [texts[i]], "candidate": ["reranked", i]} for m, i in single.items()}
    several = {
        "random": controls.random_choices(votes, seed=0, query_id=query, draws=draws),
        "shuffled_heads": tuple(int(i) for i in rng.integers(len(pool), size=3)),
    }
    answers |= {m: {"predictions": [texts[i] for i in chosen], "candidate": None} for m, chosen in several.items()}
    if task.kind == "reward":
        for answer in answers.values():
            answer["rewards"] = [_quality(task, text, gold) for text in answer["predictions"]]
    return {
        "query": query, "user": user, "input": f"about {gold[:20]}", "gold": gold,
        "records": {"rag": ["r1", "r2"], "hydra": ["r2", "r3"]}, "pools": pools, "answers": answers,
    }  # fmt: skip


@pytest.fixture
def make_rows():
    """make_rows(task name, users=, questions=, seed=, draws=) -> (task, rows)."""

    def make(name="LaMP_2M", *, users=12, questions=2, seed=0, draws=20):
        task = DEMO if name == "demo" else tasks.LAMP[name]
        rng = np.random.default_rng(seed)
        return task, [_row(task, f"u{u:02d}", q, rng, draws) for u in range(users) for q in range(questions)]

    return make


@pytest.fixture
def facts():
    """Facts of a run that never took place."""
    cost = {"zero_shot": 1, "rag": 1, "hydra": 60}
    return dict(
        experiment="synthetic",
        split="dev",
        llm=dict(model="scripted", calls=12, cached=3456, input_tokens=98765, output_tokens=4321, cost_usd=0.0),
        best_source="rag",
        best_prompt="rag",
        new_user={
            m: dict(calls=n, input_tokens=700.0 * n, output_tokens=24.0 * n, cost_usd=0.0) for m, n in cost.items()
        },
        seconds={"candidates": 812.4, "features": 30.25, "pretraining": 12.0, "personalisation": 8.5},
    )
