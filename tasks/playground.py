"""The playground: small text tasks over a world of a few hundred words, made as they are read. No files, no network.

    flanx tasks list 'playground.*'
    flanx tasks show playground.last_animal -n 3

Each of `playground_parts.every.EXERCISES` becomes one dataset `playground.<name>`; the mixtures `playground`, to train
on, and `playground.held_out`, never trained on, are in `flanx.mixtures.playground`. What is held out are whole tasks:
combinations, never seen, of operations and kinds that are each taught elsewhere ("the last animal", where the last
fruit and the first animal are taught), and new members of families ("the youngest", where the oldest is taught).
"""

import flanx
from flanx.evaluation.postprocess import after_the_answer_is
from flanx.registry.leaks import names_options
from flanx.tasks.playground_parts.every import EXERCISES
from flanx.tasks.playground_parts.exercise import Exercise

VOCABULARY = "pkg://flanx.tasks/playground_parts/vocabulary.model"

TRAINED = tuple(f"playground.{one.name}" for one in EXERCISES if not one.held_out)
HELD_OUT = tuple(f"playground.{one.name}" for one in EXERCISES if one.held_out)


def _chooses(exercise: Exercise) -> bool:
    """Whether the answer is one of given options."""
    return exercise.target == "{answer}" and "options" in exercise.row("validation", 0)


def _templates(exercise: Exercise) -> list[flanx.Template]:
    """Where there is something to choose from, the options may follow the question."""
    place = "{options_}" if _chooses(exercise) else ""
    return [flanx.Template(text + place, exercise.target) for text in exercise.prompts]


def _types(exercise: Exercise) -> tuple[str, ...] | None:
    """A question that names its options itself ("is 4 even or odd") has no form without them."""
    if not _chooses(exercise):
        return None
    options = exercise.row("validation", 0)["options"]
    names_them = any(names_options(text, options) for text in exercise.prompts)
    return ("zs_opt", "fs_opt") if names_them else None


def _register(exercise: Exercise) -> None:
    metric = flanx.metrics.rank_accuracy if _chooses(exercise) else flanx.metrics.accuracy
    explains = exercise.target != "{answer}"
    train, validation = exercise.rows
    counts = (
        {"validation": validation}
        if exercise.held_out
        else {"train": train, "validation": validation}
    )
    flanx.register(
        f"playground.{exercise.name}",
        source=flanx.Generated(exercise.row, **counts),
        fields=lambda row: row,
        templates=_templates(exercise),
        inverted=[flanx.Template(inputs, targets) for inputs, targets in exercise.inverted],
        category=exercise.category,
        metrics=[metric],
        postprocessor=after_the_answer_is if explains else None,
        template_types=_types(exercise),
        vocabulary=VOCABULARY,
    )


for _exercise in EXERCISES:
    _register(_exercise)
