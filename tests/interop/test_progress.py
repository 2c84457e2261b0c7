"""Plain lines of progress."""

import io

from flanx.interop import progress


def test_lines_count_bytes(monkeypatch):
    monkeypatch.setattr(progress, "_SECONDS", -1.0)
    stream = io.StringIO()
    with progress.progress(4_000_000_000, stream) as advance:
        advance(1_000_000_000)
        advance(2_500_000_000)
    assert stream.getvalue().splitlines() == [
        "flanx convert: 1.00 of 4.00 GB",
        "flanx convert: 3.50 of 4.00 GB",
    ]


def test_nothing_where_it_is_switched_off(monkeypatch):
    monkeypatch.setenv("FLANX_PROGRESS", "off")
    stream = io.StringIO()
    with progress.progress(10, stream) as advance:
        advance(10)
    assert not stream.getvalue()
