"""Claims of single requests, as a store has them."""


def claim(answers, key):
    return answers.claim_many([key])[key]


def owner_of(answers, key):
    row = answers.execute("select owner from claims where key = ? and sample = ?", key).fetchone()
    return row[0] if row else None
