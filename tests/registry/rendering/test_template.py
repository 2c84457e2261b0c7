"""Templates: what is a placeholder and what is not."""

import pytest

import flanx


def test_fields():
    template = flanx.Template("{{x}} {question}{options_}", "{answer}, as {question}")
    assert template.input_fields == {"question", "options_"}
    assert template.target_fields == {"answer", "question"}
    assert template.fields == {"question", "answer"}
    assert template.lists_options
    assert template.ends_with_options
    assert not flanx.Template("{options_} so?", "{a}").ends_with_options


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ("{}", "{} is not a plain field name"),
        ("{a.b}", "{a.b} is not a plain field name"),
        ("{a[0]}", "{a[0]} is not a plain field name"),
        ("{a:>3}", "{a:>3} is not a plain field name"),
        ("{a!r}", "{a!r} is not a plain field name"),
        ("{a", "write {{ and }} for plain braces"),
        ("a}", "write {{ and }} for plain braces"),
    ],
)
def test_malformed(inputs: str, said: str):
    with pytest.raises(flanx.UserError) as caught:
        flanx.Template(inputs, "{answer}")
    assert said in str(caught.value)


def test_reserved_names_belong_in_the_inputs():
    with pytest.raises(flanx.UserError, match=r"\{options_\} stands in the targets"):
        flanx.Template("{a}", "{answer}{options_}")


def test_empty_targets():
    with pytest.raises(flanx.UserError, match="the targets are empty"):
        flanx.Template("{a}", " ")
