"""Of how many examples a score is, as values beside it: numbers of examples, of those left out, of tasks.

<suite>/<task>/examples            that were asked; every score of the task is of these,
<suite>/<task>/<metric>_examples   or of these where they are fewer (options to rank, `eval_steps`)
<suite>/<task>/left_out            rows of the split, up to max_examples, that no example was made of
<suite>/examples, <suite>/left_out sums over the tasks
<suite>/tasks                      tasks with an example; a suite's mean is over these,
<suite>/<metric>_tasks             or over these where they are fewer
"""

from collections.abc import Mapping

from flanx.terminal import plural

EXAMPLES, LEFT_OUT, TASKS = "examples", "left_out", "tasks"


def is_count(name: str) -> bool:
    """Whether a value counts examples or tasks; any other is a score or a loss."""
    last = name.rpartition("/")[2]
    return last in (EXAMPLES, LEFT_OUT, TASKS) or last.endswith((f"_{EXAMPLES}", f"_{TASKS}"))


def fewer(metric: str, of: str) -> str:
    """The name of a metric's own count, given where it is not `of` all."""
    return f"{metric}_{of}"


def of_suite(values: Mapping[str, float], suite: str) -> str:
    """What a suite's means are of: "191 tasks, 2,292 examples, 4 left out"; empty where nothing says."""
    tasks, examples = values.get(f"{suite}/{TASKS}"), values.get(f"{suite}/{EXAMPLES}")
    if tasks is None or examples is None:
        return ""
    parts = [plural(int(tasks), "task"), plural(int(examples), "example")]
    scored = values.get(f"{suite}/{fewer('score', TASKS)}")
    if scored is not None:
        parts[0] += f" ({int(scored):,} with a score)"
    left_out = int(values.get(f"{suite}/{LEFT_OUT}", 0))
    return ", ".join([*parts, *([f"{left_out:,} left out"] if left_out else [])])
