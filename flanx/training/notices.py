"""Notices that a machine will be taken away, other than signals: Google Cloud's, from its metadata server."""

import http.client
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

HOST = "GCE_METADATA_HOST"  # what Google's own libraries call it
PRODUCT = Path("/sys/class/dmi/id/product_name")
SECONDS = 5.0  # between looks; a preempted machine has some 30 seconds left
ANSWER_SECONDS = 5.0  # most of them that an answer takes
ANSWERS = {
    "instance/preempted": "TRUE",
    "instance/maintenance-event": "TERMINATE_ON_HOST_MAINTENANCE",
}


def metadata_host() -> str | None:
    """Where this machine's metadata server is; None where it is no machine of Google Cloud."""
    if os.environ.get(HOST):
        return os.environ[HOST]
    try:
        google = PRODUCT.read_text().startswith("Google")
    except OSError:
        google = False
    return "metadata.google.internal" if google else None


def google_notice(host: str) -> str | None:
    """What the metadata server says of an end to come, or None.

    Source: https://cloud.google.com/compute/docs/instances/create-use-preemptible and
    https://cloud.google.com/compute/docs/metadata/getting-live-migration-notice
    """
    # The server is this machine's own: no proxy can reach it.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for path, bad in ANSWERS.items():
        request = urllib.request.Request(
            f"http://{host}/computeMetadata/v1/{path}", headers={"Metadata-Flavor": "Google"}
        )
        try:
            with opener.open(request, timeout=ANSWER_SECONDS) as answer:
                if answer.read().decode().strip() == bad:
                    return f"notice of Google Cloud ({path})"
        except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError):
            continue  # a server that does not answer gives no notice
    return None


class Lookout:
    """A thread that looks now and then, and tells of the first notice that is new, once.

    One that was there at the first look is not: the process was started in spite of it, and would be again and again
    while a maintenance is an hour ahead. When the machine does go, it gets a SIGTERM.
    """

    def __init__(self, look: Callable[[], str | None], tell: Callable[[str], None], seconds: float):
        self._look, self._tell, self._seconds = look, tell, seconds
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="flanx-notices", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Looks no more; does not wait for an answer that is under way."""
        self._done.set()

    def _run(self) -> None:
        known = self._look()
        while not self._done.wait(self._seconds):
            notice = self._look()
            if notice not in (None, known) and not self._done.is_set():
                self._tell(notice)
                return
            known = notice
