"""Postprocessors find the answer, and leave a bare answer as it is."""

import pytest

from flanx.errors import UserError
from flanx.evaluation import postprocess


@pytest.mark.parametrize(
    ("name", "text", "answer"),
    [
        ("strip", "  yes\n", "yes"),
        ("lowercase", " Yes ", "yes"),
        ("first_line", "\n  one \ntwo", "one"),
        ("first_line", "  ", ""),
        ("last_line", "one\n two \n\n", "two"),
        ("after_the_answer_is", "2 and 2 make 4. The answer is 4.", "4"),
        ("after_the_answer_is", "The answer is (B)\nmore", "(B)"),
        ("after_the_answer_is", "first the answer is 3, so the final answer is: 5", "5"),
        ("after_the_answer_is", "Answer: no.", "no"),
        ("after_the_answer_is", "3.5", "3.5"),
        ("after_the_answer_is", "wait...", "wait..."),
        ("first_number", "It has 1,234 or 5 parts", "1234"),
        ("last_number", "from 3 to -4.50.", "-4.50"),
        ("last_number", "none", ""),
    ],
)
def test_answers(name, text, answer):
    function = postprocess.resolve(name)
    assert function(text) == answer
    assert function(answer) == answer


def test_names():
    assert postprocess.name_of(postprocess.strip) == "flanx.evaluation.postprocess:strip"
    with pytest.raises(UserError, match="unknown postprocessor 'frist_line'; did you mean"):
        postprocess.resolve("frist_line")
