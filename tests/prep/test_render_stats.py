"""Counts of the parts of a task, put together."""

from collections import Counter

from flanx.data.vocabulary.coverage import KEPT
from flanx.prep.render_stats import RenderStats

LENGTHS = {"inputs": 8, "targets": 4}


def test_characters_that_cannot_be_written_add_up_over_parts():
    """A part keeps them all; of the whole the commonest stand in meta.json."""
    rare = {chr(0x4E00 + i): 1 for i in range(3 * KEPT)}
    parts = [RenderStats(LENGTHS, unwritable=Counter({**rare, "\n": 2})) for _ in range(3)]
    whole = RenderStats(LENGTHS)
    for part in parts:
        whole.add(part.state())
    told = whole.to_json()["unwritable"]
    assert told["characters"] == 3 * (3 * KEPT + 2)
    assert told["kinds"] == 3 * KEPT + 1
    assert list(told["commonest"].items())[:2] == [("\n", 6), (chr(0x4E00), 3)]
    assert len(told["commonest"]) == KEPT


def test_a_part_that_was_written_before_they_were_counted_has_none():
    whole = RenderStats(LENGTHS)
    old = {
        name: value for name, value in RenderStats(LENGTHS).state().items() if name != "unwritable"
    }
    whole.add(old)
    assert whole.to_json()["unwritable"] == {"characters": 0, "kinds": 0, "commonest": {}}
