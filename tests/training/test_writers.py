"""The display in its two forms, TensorBoard events, and signals."""

import io
import json
import os
import signal

import pytest
from rich.console import Console

from flanx.training.display import Display
from flanx.training.preemption import Preemption
from flanx.training.writers import AllWriters

VALUES = {
    "loss": 1.25,
    "accuracy": 0.5,
    "steps_per_s": 4.0,
    "tokens_per_s": 1234.0,
    "data_wait_share": 0.01,
    "device_wait_share": 0.95,
    "mfu": 0.412,
    "task_loss": {"toy.a": 1.0},
}


@pytest.mark.parametrize("terminal", [True, False])
def test_display(terminal):
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=160, highlight=False)
    display = Display(20, 0, enabled=True, console=console)
    display.train(10, VALUES)
    display.evaluating(1, 4, "held_in")
    display.evaluated(10, {"held_in/score": 33.3, "held_in/toy.a/loss": 1.0})
    display.train(20, VALUES)
    display.close()
    text = out.getvalue()
    assert "loss 1.2500" in text
    assert "250 ms/step" in text
    assert "1.0 % waiting for data  95.0 % for devices  MFU 41.2 %" in text
    assert "held_in/score 33.3" in text
    assert "toy.a" not in text
    if not terminal:
        assert "\x1b" not in text
        assert "step 20 of 20" in text


def test_tensorboard_has_the_scalars(tmp_path):
    writers = AllWriters(str(tmp_path), step=0, total=20, log_period=10)
    writers.train(10, VALUES)
    writers.evaluation(10, {"held_in/score": 33.0, "held_in/examples": 9, "held_in/a/left_out": 2})
    writers.close()
    (events,) = tmp_path.glob("*tfevents*")
    content = events.read_bytes()
    for tag in (b"train/loss", b"task_loss/toy.a", b"eval/held_in/score"):
        assert tag in content
    assert b"examples" not in content
    assert b"left_out" not in content
    line = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert line["values"]["held_in/examples"] == 9


def test_a_line_of_scores_says_of_how_many_examples_they_are():
    out = io.StringIO()
    display = Display(20, 0, enabled=True, console=Console(file=out, width=160, highlight=False))
    values = {
        "held_in/score": 33.3,
        "held_in/a/examples": 9,
        "held_in/examples": 1200,
        "held_in/tasks": 3,
        "held_in/score_tasks": 2,
        "held_in/left_out": 4,
        "held_out/loss": 2.0,
        "held_out/examples": 1,
        "held_out/tasks": 1,
    }
    display.evaluated(10, values)
    assert out.getvalue() == (
        "eval at step 10: held_in/score 33.3 (3 tasks (2 with a score), 1,200 examples, 4 left out)  "
        "held_out/loss 2 (1 task, 1 example)\n"
    )


def test_signals_are_heard_and_handlers_put_back():
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with Preemption() as preemption:
        assert not preemption.asked(1)
        os.kill(os.getpid(), signal.SIGINT)
        assert preemption.asked(2)
        assert preemption.name == "SIGINT"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
