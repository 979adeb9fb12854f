import dataclasses
from typing import Annotated, ClassVar, Literal

import pytest

from hydrajax import types
from hydrajax.methods import settings
from hydrajax.prompting import contract
from hydrajax.runs import config


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    kind: ClassVar[str] = "one"
    count: int = 3
    most: int | None = None
    share: float = 0.5
    names: Annotated[tuple[str, ...], "short"] = ()
    form: Literal["a", "b"] = "a"
    pair: tuple[str, int] = ("a", 1)
    inner: types.User = None  # made where it is not given

    def __post_init__(self):
        types.check_types(self)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"count": "one"}, "count is 'one', expected a whole number"),
        ({"count": True}, "count is True, expected a whole number"),
        ({"count": 1.5}, "count is 1.5, expected a whole number"),
        ({"most": "2"}, "most is '2', expected a whole number or None"),
        ({"share": "half"}, "share is 'half', expected a number"),
        ({"names": "rag"}, "names is 'rag', expected a tuple of a text, ..."),
        ({"names": ("rag", 3)}, "names is ('rag', 3), expected a tuple"),
        ({"pair": ("a", "b")}, "pair is ('a', 'b'), expected a tuple of a text, a whole number"),
        ({"pair": ("a",)}, "pair is ('a',), expected a tuple"),
        ({"form": "c"}, "form is 'c', expected one of a, b"),
        ({"inner": {}}, "inner is {}, expected a User"),
    ],
)
def test_a_value_of_another_type_is_named(given, says):
    with pytest.raises(types.DataError) as refused:
        Settings(**given)
    assert str(refused.value).startswith(says)


def test_what_fits_is_taken_and_lists_become_tuples():
    made = Settings(count=2, most=4, share=1, pair=("b", 2), names=["a", "b"], form="b", inner=types.User(id="u"))
    assert made.names == ("a", "b") and Settings() == Settings(inner=None)


@pytest.mark.parametrize(
    "made",
    [*settings.PRESETS.values(), contract.PromptSettings(), config.Demo(), config.Lamp(task="LaMP_3", fold=0, folds=2)],
)
def test_the_settings_of_the_package_fit(made):
    types.check_types(made)
