"""Evaluation: intervals over users, controls, the results file and the report.

Everything here reads prediction rows, one plain dict a query (a line of `predictions.jsonl`):

    {"query": id, "user": id, "input": text, "gold": text or None,
     "records": {METHOD: [ids of the records shown]},
     "pools": {POOL: [{"text", "source", "votes", "stop_reason", "prediction", "quality", "scores": {METHOD: float}}]},
     "answers": {METHOD: {"predictions": [text, ...], "rewards": [float, ...], "candidate": [POOL, index] or None}}}

`prediction` and `predictions` are normalised answers (`Task.normalise`). A method has one prediction a query, or one
for each of several draws (random choices, derangements of the heads), in the same order for every query: its metric is
then the mean of the metric over draws. Tasks of simulated users carry `rewards`, one a prediction.
"""
