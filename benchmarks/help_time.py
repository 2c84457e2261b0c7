"""Time of `flanx --help`, as a whole process. Prints one JSON line.

    python benchmarks/help_time.py

The goal is 0.5 s.
"""

import json
import platform
import statistics
import subprocess
import sys
import time


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    command = [sys.executable, "-m", "flanx", "--help"]
    bare = [sys.executable, "-c", "pass"]
    seconds(command)
    pairs = [(seconds(command), seconds(bare)) for _ in range(10)]
    print(
        json.dumps(
            {
                "benchmark": "help_time",
                "seconds_median": round(statistics.median(a for a, _ in pairs), 4),
                "seconds_max": round(max(a for a, _ in pairs), 4),
                "bare_interpreter_median": round(statistics.median(b for _, b in pairs), 4),
                "python": platform.python_version(),
                "machine": platform.processor() or platform.machine(),
            }
        )
    )


if __name__ == "__main__":
    main()
