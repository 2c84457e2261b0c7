import runpy
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_figure_shows_the_stream_as_it_is(tmp_path):
    """Other pixels mean another stream: then `python docs/stream_figure.py`, and say why."""
    drawing = tmp_path / "stream_figure.py"
    drawing.write_text((DOCS / "stream_figure.py").read_text())
    runpy.run_path(str(drawing), run_name="__main__")
    assert (tmp_path / "stream.svg").read_text() == (DOCS / "stream.svg").read_text()
