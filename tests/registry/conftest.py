"""An empty registry for each test, and a small dataset to register in it."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import flanx
from flanx import registry
from flanx.registry import loading

TEAMS = ["billing", "network", "hardware"]


@pytest.fixture(autouse=True)
def empty_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is registered, and nothing of flanx.tasks gets imported by a name that is not found."""
    monkeypatch.setattr(loading, "PACKAGES", ())
    with registry.isolated():
        yield


def ticket(split: str, index: int) -> dict[str, Any]:
    return {"text": f"{split} ticket {index}", "team": TEAMS[index % 3]}


def _register_tickets(name: str = "tickets.triage", **changes: Any) -> None:
    """`tickets.triage`: two templates with options, one inverted."""
    settings: dict[str, Any] = {
        "source": flanx.Generated(ticket, train=60, validation=20),
        "fields": lambda row: {"ticket": row["text"], "options": TEAMS, "answer": row["team"]},
        "templates": [
            flanx.Template("{ticket}\n\nWhich team takes this?{options_}", "{answer}"),
            flanx.Template("Triage. {ticket}{options_}", "{answer}"),
        ],
        "inverted": [flanx.Template("Write a ticket for {answer}.", "{ticket}")],
        "category": "classification",
        "metrics": ["accuracy"],
    }
    flanx.register(name, **{**settings, **changes})


class _Words:
    """A vocabulary of white-space words: enough to count tokens."""

    def encode(self, text: str) -> list[int]:
        return [1] * len(text.split())


@pytest.fixture
def register_tickets() -> Callable[..., None]:
    """Registers `tickets.triage`, or another name, with settings changed."""
    return _register_tickets


@pytest.fixture
def tickets() -> None:
    _register_tickets()


@pytest.fixture
def words() -> _Words:
    return _Words()
