"""All exercises of the playground, in the order they are registered."""

from flanx.tasks.playground_parts import dates, editing, kinds, lists, numbers, stories, word_forms

EXERCISES = tuple(
    exercise
    for part in (lists, word_forms, kinds, numbers, stories, dates, editing)
    for exercise in part.EXERCISES
)
