"""Long work outlives the terminal, the pipe and the disk that it prints to."""

import os
import subprocess
import sys

from flanx.unfailing_output import UnfailingOutput

SCRIPT = """
import sys
from flanx.unfailing_output import unfailing
with unfailing():
    for number in range(20000):
        print("step", number)
    print("done", file=sys.stderr)
sys.exit(75)
"""


def test_a_pipe_that_nobody_reads_any_more():
    read, write = os.pipe()
    child = subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    os.close(read)
    assert child.communicate()[1] == b"done\n"
    assert child.returncode == 75


def test_a_full_disk():
    with open("/dev/full", "w") as full:
        child = subprocess.run(
            [sys.executable, "-c", SCRIPT], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert (child.returncode, child.stderr) == (75, b"done\n")


def test_what_found_no_room_is_written_when_there_is(tmp_path):
    class Full:
        text, failing = "", True

        def write(self, text):
            self.text += text

        def flush(self):
            if self.failing:
                raise OSError(28, "No space left on device")

    file = Full()
    output = UnfailingOutput(file)
    output.write("a")
    output.flush()
    file.failing = False
    output.write("b")
    output.flush()
    assert file.text == "ab"
    assert output.text == "ab"  # everything else is the file's own
