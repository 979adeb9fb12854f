import re

import jax.numpy as jnp
import pytest

from hydrajax.nn import families, family_checks, heads
from hydrajax.types import DataError

DIMS = heads.Dims(features=6, extras=2)
GOOD = """
import dataclasses

import jax
import jax.numpy as jnp

from hydrajax.nn import heads


def _forwards(b):
    return jax.lax.while_loop(lambda v: v < 1.0, lambda v: v + 1.0, b)


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


def test_methods_of_ones_own_may_be_called_much_like_those_of_the_contract(family):
    text = GOOD.replace("def design(", "def designs(self, x):\n        return x\n\n    def design(")
    family_checks.check(family(text=text), DIMS)  # `design` is there
    text = GOOD.replace("def design(", "def designs(").replace(
        "return x @", "return x @ self.designs(shared, x)['b'] + x @"
    )
    family_checks.check(family('"b": jnp.dot(x, shared["v"])', '"b": shared["v"]', text), DIMS)  # it is read


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            'return {"v"',
            'raise KeyError("zzz")\n        return {"v"',
            r"init_shared raises KeyError: 'zzz' \(.*mine.py:17",
        ),
        ('{"v": jnp.ones(dims.inputs)}', "jnp.ones(3)", r"init_shared gives float32\[3\], expected a dictionary"),
        ('{"b": jnp.zeros(())}', "1 / 0", r"init_user raises ZeroDivisionError: division by zero \(.*mine.py:20\)"),
        ('x @ shared["v"]', "x", r"score gives float32\[8\], expected one number"),
        ('x @ shared["v"]', 'x[:3] @ shared["v"]', r"score raises TypeError: .*mine.py:23\)"),
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
        ('{"b": jnp.zeros(())}', '{"b": 0}', r"init_user gives the int 0 as b, expected an array of float32"),
        (
            '{"b": jnp.zeros(())}',
            '{"b": 0.0}',
            r"init_user gives the float 0.0 as b, expected an array of float32, jnp",
        ),
        ('{"b": jnp.zeros(())}', '{"b": [0.0]}', "init_user gives the float 0.0 as b/0, expected an array of float32"),
        ('{"b": jnp.zeros(())}', '{"b": "x"}', "init_user gives the str 'x' as b, expected an array of float32"),
        (
            '{"v": jnp.ones(dims.inputs)}',
            '{"v": 1.0}',
            "init_shared gives the float 1.0 as v, expected an array of flo",
        ),
        (
            "jnp.ones(dims.inputs)",
            "jax.random.normal(key, (8, -1))",
            r"init_shared gives .*8, -1.*, .* length in v: a s",
        ),
        ('return x @ shared["v"]', 'return 1.0 if user["b"] > 0 else x @ shared["v"]', "score raises TracerBool"),
        ('return x @ shared["v"] * user["b"]', "return None", "score gives None, expected one number"),
        (
            "def design(",
            'def units(self, dims):\n        return heads.Units(scale={"z": 1.0}, offset={"b": 0})\n\n    def design(',
            r"units gives {'z': 1.0} as scale, expected finite numbers, more than 0, for {'b': float32",
        ),
        (
            "def design(",
            'def units(self, dims):\n        return heads.Units(scale={"b": 1}, offset={"b": -1})\n\n    def design(',
            r"units gives {'b': -1} as offset, expected finite numbers, 0 or more, for {'b': float32",
        ),
        (
            "def design(",
            'def units(self, dims):\n        return heads.Units(scale={"b": "x"}, offset={"b": 0})\n\n    def design(',
            r"units gives {'b': 'x'} as scale, expected finite numbers",
        ),
        (
            "def design(",
            'def prior(self, shared, dims):\n        return shared["v"]\n\n    def design(',
            "prior gives float32",
        ),
        ("def design(", "def desing(", "a family has no desing, and nothing reads it: expected design"),
        (
            "def design(",
            "def unit(self, dims):\n        return 1.0\n\n    def design(",
            "a family has no unit, .* expected units",
        ),
        ('user["b"]', "_forwards(user['b'])", "the gradient of score raises ValueError: .*while_loop"),
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


def test_settings_that_can_change_are_refused_before_anything_is_fitted(family):
    name = family(
        "class Mine(heads.Family):\n",
        "class Mine(heads.Family):\n    sizes: list = dataclasses.field(default_factory=list)\n\n",
    )
    with pytest.raises(DataError, match=r"its setting sizes is the list \[\], expected what cannot change, a tuple"):
        family_checks.check(name, DIMS)
    with pytest.raises(DataError, match="its setting sizes is the list"):
        family_checks.check(heads.get(name), DIMS)
