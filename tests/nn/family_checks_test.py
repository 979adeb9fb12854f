import re

import jax.numpy as jnp
import pytest

from hydrajax.nn import families, family_checks, heads
from hydrajax.types import DataError

DIMS = heads.Dims(features=6, extras=2)
GOOD = """
import dataclasses

import jax.numpy as jnp

from hydrajax.nn import heads


@dataclasses.dataclass(frozen=True)
class Mine(heads.Family):
    def init_shared(self, key, dims):
        return {"v": jnp.ones(dims.inputs)}

    def init_user(self, key, dims):
        return {"b": jnp.zeros(())}

    def score(self, shared, user, x, key=None):
        return x @ shared["v"] * user["b"]

    def design(self, shared, x):
        return {"b": jnp.dot(x, shared["v"])}

    def generic(self, shared):
        return shared["generic"]


FAMILY = Mine
"""
ENCODED = """
    def encode_user(self, shared, context, key=None):
        return {"b": jnp.sum(context.label)}

    def penalty(self, shared, user, context, target):
        return jnp.sum(target.x)
"""


@pytest.fixture
def family(tmp_path):
    """A file of one's own, with one thing in it put in another way."""

    def make(old="", new="", text=GOOD):
        assert old in text
        (tmp_path / "mine.py").write_text(text.replace(old, new, 1))
        return str(tmp_path / "mine.py")

    return make


@pytest.mark.parametrize("name", [*families.names(), "generic_plus_offset:inner=simplex"])
@pytest.mark.parametrize("dims", [DIMS, heads.Dims(features=4)])
def test_families_of_the_package_keep_the_contract(name, dims):
    family_checks.check(name, dims)


def test_a_family_of_ones_own_that_keeps_it(family):
    family_checks.check(family(), DIMS)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            'return {"v"',
            'raise KeyError("zzz")\n        return {"v"',
            r"init_shared raises KeyError: 'zzz' \(.*mine.py:12",
        ),
        ('{"v": jnp.ones(dims.inputs)}', "jnp.ones(3)", r"init_shared gives float32\[3\], expected a dictionary"),
        ('{"b": jnp.zeros(())}', "1 / 0", r"init_user raises ZeroDivisionError: division by zero \(.*mine.py:15\)"),
        ('x @ shared["v"]', "x", r"score gives float32\[8\], expected one number"),
        ('x @ shared["v"]', 'x[:3] @ shared["v"]', r"score raises TypeError: .*mine.py:18\)"),
        ('return x @ shared["v"]', 'return 0.0 if key is None else {}, x @ shared["v"]', "score gives "),
        ('user["b"]', 'user["c"]', "score raises KeyError: 'c'"),
        (
            'return {"b": jnp.dot(x, shared["v"])}',
            'return {"b": x}',
            r"design gives {'b': float32\[8\]}, expected what a user is",
        ),
        (
            'return {"b": jnp.dot(x, shared["v"])}',
            "return jnp.ones(())",
            "design gives float32.., expected what a user is",
        ),
        (
            'shared["generic"]',
            '{"q": shared["v"]}',
            r"generic gives {'q': float32\[8\]}, expected what a user is, {'b'",
        ),
        ('shared["generic"]', "None", "generic gives None, expected"),
        ('{"b": jnp.zeros(())}', "[jnp.zeros(())]", r"init_user gives \[float32\[\]\], expected a dictionary"),
        ('{"b": jnp.zeros(())}', '{"b": jnp.zeros((), int)}', r"init_user gives .* expected arrays of float32"),
        ('{"b": jnp.zeros(())}', '{"b": 0}', r"init_user gives {'b': int32\[\]}, expected arrays of float32"),
        ('return x @ shared["v"]', 'return 1.0 if user["b"] > 0 else x @ shared["v"]', "score raises TracerBool"),
        ('return x @ shared["v"] * user["b"]', "return None", "score gives None, expected one number"),
        (
            "def design(",
            'def units(self, dims):\n        return heads.Units(scale={"z": 1.0}, offset={"b": 0})\n\n    def design(',
            r"units gives {'z': 1.0} as scale, expected numbers for {'b': float32",
        ),
        ('user["b"]', 'jnp.log(user["b"] - 9.0)', "score is not finite at the user that it begins with"),
        ('user["b"]', 'jnp.sqrt(user["b"] ** 2)', "the gradient of score is not finite at the user that it begins"),
        ('* user["b"]', '+ user["b"]', "score gives .* where <user, design> is .*: a family with a design has no"),
        ('jnp.dot(x, shared["v"])', '2.0 * jnp.dot(x, shared["v"])', "score gives .* where <user, design> is "),
    ],
)
def test_what_breaks_it_is_one_sentence(old, new, says, family):
    name = family(old, new)
    with pytest.raises(DataError, match=f"^head family '{re.escape(name)}': {says}[^\n]*$"):
        family_checks.check(name, DIMS)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("", "", None),
        ('{"b": jnp.sum(context.label)}', "context.label", r"generic gives .*, expected what a user is, float32\[3\]"),
        ("context.label", "context.labels", "encode_user raises AttributeError"),
        (
            "jnp.sum(context.label)",
            "jnp.mean(context.label, where=context.mask)",
            "score is not finite at a user without examples",
        ),
        ("jnp.sum(target.x)", "target.x", r"penalty gives float32\[3, 8\], expected one number"),
    ],
)
def test_a_family_that_encodes_users(old, new, says, family):
    text = GOOD.replace('"b": jnp.zeros(())', "").replace('shared["generic"]', '{"b": jnp.zeros(())}')
    head, design, tail = text.partition("    def design")
    text = head.rstrip() + "\n" + ENCODED + "\n    def generic" + tail.partition("    def generic")[2]
    name = family(old, new, text)
    if says is None:
        family_checks.check(name, DIMS)
        return
    with pytest.raises(DataError, match=says):
        family_checks.check(name, DIMS)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*families.names(), "generic_plus_offset:inner=simplex"])
def test_scores_and_gradients_of_the_families_of_the_package_are_finite(name):
    family_checks.check_numbers(name, heads.get(name), DIMS)


def test_shapes_of_what_a_fit_gives():
    shared, user = family_checks.fitted_shapes(heads.get("linear"), DIMS)
    assert shared == {"generic": user} and user["w"].shape == (8,) and user["b"].dtype == jnp.float32
