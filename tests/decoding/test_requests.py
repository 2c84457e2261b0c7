"""Settings of a request: what is refused, and in which words."""

import pytest

from flanx.decoding.requests import Request, mistake


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_length": 0}, "max_length=0: give a whole number from 1"),
        ({"temperature": -0.1}, "temperature=-0.1: give a number from 0"),
        ({"temperature": float("nan")}, "temperature=nan: give a number from 0"),
        ({"temperature": True}, "temperature=True: give a number from 0"),
        ({"top_k": 1.5}, "top_k=1.5: give a whole number from 0 (0 is off)"),
        ({"top_p": 0}, "top_p=0: give a number above 0, up to 1 (1 is off)"),
        ({"seed": 1 << 32}, "seed=4294967296: give a whole number from 0 below 2^32"),
        ({"stop": "x"}, "stop='x': give a list of texts, none of them empty"),
        ({"stop": [""]}, "stop=['']: give a list of texts, none of them empty"),
        ({"beams": 0}, "beams=0: give a whole number from 1"),
        ({"beams": 2, "temperature": 1.0}, "beams=2 and temperature=1.0 exclude each other"),
        ({"temprature": 1.0}, "no setting 'temprature'; did you mean 'temperature'?"),
    ],
)
def test_mistakes(settings, message):
    assert mistake(settings) == message


def test_a_request_checks_itself():
    assert Request([1], 3, top_k=2).top_p == 1.0
    with pytest.raises(ValueError, match="beams=0"):
        Request([1], 3, beams=0)
