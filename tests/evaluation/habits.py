"""Invented texts: authors who differ in one word that they are fond of, or in nothing."""

import random

WORDS = ["river", "stone", "market", "letter", "engine", "garden", "winter", "signal", "bottle", "forest", "copper"]
HABITS = {"ann": "indeed", "bob": "however", "cat": "meanwhile"}


def text(rng, habit, size=60):
    return " ".join(habit if habit and rng.random() < 0.2 else rng.choice(WORDS) for _ in range(size))


def corpus(habits, each, seed):
    """Texts by author; a habit of None is none."""
    rng = random.Random(seed)
    return {author: [text(rng, habit) for _ in range(each)] for author, habit in habits.items()}
