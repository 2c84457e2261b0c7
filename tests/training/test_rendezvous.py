"""Processes that meet on loopback before JAX joins them, and every way in which they do not."""

import socket
import threading

import pytest

from flanx.training import rendezvous
from flanx.training.rendezvous import Mismatch, NotMet, meet


@pytest.fixture
def address():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(rendezvous, "PORT_SECONDS", 0.2)
    monkeypatch.setattr(rendezvous, "ATTEMPT_SECONDS", 0.5)
    monkeypatch.setattr(rendezvous, "LINGER_SECONDS", 1.0)


def together(address, *places, seconds=10.0):
    """What each (count, index, facts) ends with: None, or the exception."""
    ends = [None] * len(places)

    def go(number, count, index, facts):
        try:
            meet(address, count, index, facts=facts, seconds=seconds, say=lambda _: None)
        except (Mismatch, NotMet) as error:
            ends[number] = error

    threads = [threading.Thread(target=go, args=(i, *place)) for i, place in enumerate(places)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ends


def test_three_that_fit(address):
    assert together(address, (3, 0, {}), (3, 1, {}), (3, 2, {})) == [None, None, None]


@pytest.mark.parametrize(
    ("places", "words"),
    [
        ([(2, 0, {}), (3, 1, {}), (3, 2, {})], ("one of 3", "one of 2", "--process_count")),
        ([(3, 0, {}), (3, 1, {}), (3, 1, {})], ("they are process 1", "--process_index")),
        ([(2, 0, {"batch": "8"}), (2, 1, {"batch": "4"})], ("batch is 4", "8 for process 0")),
    ],
)
def test_all_are_told_the_same_mistake(address, places, words):
    ends = together(address, *places)
    assert {type(end) for end in ends} == {Mismatch}
    assert len({str(end) for end in ends}) == 1
    assert all(word in str(ends[0]) for word in words)
    assert ends[0].status == 2


def test_a_port_that_is_taken(address):
    host, port = address.split(":")
    with (
        socket.create_server((host, int(port)), reuse_port=True),
        pytest.raises(NotMet, match=f"port {port} of this machine.*already in use"),
    ):
        meet(address, 2, 0, facts={}, seconds=1, say=lambda _: None)


@pytest.mark.parametrize(
    ("index", "host", "words"),
    [
        (1, "127.0.0.1", "connection refused"),
        (1, "nowhere.invalid", "no such host"),
        (0, "127.0.0.1", "process 1 did not come"),
    ],
)
def test_waiting_has_an_end(address, index, host, words):
    with pytest.raises(NotMet, match=words):
        meet(f"{host}:{address.split(':')[1]}", 2, index, facts={}, seconds=0.3, say=lambda _: None)


def test_an_address_of_another_machine(address):
    with pytest.raises(Mismatch, match="cannot reach itself"):
        meet(
            f"nowhere.invalid:{address.split(':')[1]}",
            2,
            0,
            facts={},
            seconds=0.3,
            say=lambda _: None,
        )
