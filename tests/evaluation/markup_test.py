import html

from hypothesis import given
from hypothesis import strategies as st

from hydrajax.evaluation import markup


@given(st.text())
def test_text_never_becomes_markup(text):
    made = markup.element("p", text, title=text)
    assert made.count("<") == 2
    assert html.unescape(made.removeprefix("<p title=").split('">', 1)[1].removesuffix("</p>")) == text


def test_elements_nest_without_being_escaped_again():
    made = markup.element(
        "p", "a < b ", markup.element("em", "&"), [None, 1, markup.element("br")], class_="x", aria_label="y"
    )
    assert made == '<p class="x" aria-label="y">a &lt; b <em>&amp;</em>1<br/></p>'


def test_an_attribute_of_none_is_left_out():
    assert markup.element("i", class_=None) == "<i></i>"
