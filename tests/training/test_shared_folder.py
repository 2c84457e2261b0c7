"""Processes that each have a MODEL_DIR of their own are told so before anything is prepared."""

import socket


def test_a_folder_of_its_own_is_refused(toy_config, forks):
    """As where MODEL_DIR lies on each host's disk; both end with the user's mistake."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    children = [
        forks.start(toy_config(f"disk{index}"), hosts=(address, 2, index)) for index in (0, 1)
    ]
    for child in children:
        assert child.wait() == 2
        assert "is not the same folder for all processes (process 1 cannot see" in child.err
