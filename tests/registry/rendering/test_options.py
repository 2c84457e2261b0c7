"""Option styles: every combination shows every option, and labels agree with what is shown."""

import itertools

import pytest

from flanx.registry.draws import Draws
from flanx.registry.rendering.options import (
    ENDS,
    ITEMS,
    SEPARATORS,
    STARTS,
    OptionStyle,
    draw_style,
)

OPTIONS = ["red", "a; b", "green tea"]


@pytest.mark.parametrize("item", ITEMS)
def test_all_styles_show_all_options(item):
    for start, separator, end, label in itertools.product(STARTS, SEPARATORS, ENDS, (True, False)):
        style = OptionStyle(start, item, separator, end, label)
        for options in (OPTIONS, [f"o{i}" for i in range(30)]):
            text = style.block(options, with_end=True)
            assert text.startswith("\n")
            assert all(option in text for option in options)
            answers = style.answers(options)
            assert len(set(answers)) == len(options)
            if label and item.alphabet:
                assert all(answer in text for answer in answers)
            else:
                assert answers == tuple(options)


def test_label_of_letters_falls_back_to_digits():
    style = OptionStyle("\n", ITEMS[7], "\n", "", True)
    assert style.answers(["x", "y"]) == ("(A)", "(B)")
    assert style.answers(["x"] * 27)[-1] == "(27)"


def test_items_that_hold_the_separator_stand_on_lines():
    style = OptionStyle("\nOptions:", ITEMS[0], "; ", "", False)
    assert style.block(["x", "y"], with_end=False) == "\nOptions: - x; - y"
    assert style.block(["x; z", "y"], with_end=False) == "\nOptions:\n- x; z\n- y"


def test_many_styles_are_drawn():
    drawn = {draw_style(Draws(0, "t", index, "p")) for index in range(1000)}
    assert len(drawn) > 800
