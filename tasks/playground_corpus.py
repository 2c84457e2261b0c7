"""Text to pre-train the playground's base model on: `playground_corpus.statements`, made as it is read.

Plain statements about the playground's world, as T5 reads text (`playground_parts.corpus` says how): with spans to fill
in, and cut in two to be continued. No instruction and no question of a task is among them.
"""

import flanx
from flanx.tasks.playground_parts import corpus

ROWS = 1_000_000

flanx.register(
    "playground_corpus.statements",
    source=flanx.Generated(corpus.row, train=ROWS, validation=2000),
    fields=lambda row: row,
    templates=[flanx.Template("{inputs}", "{targets}")],
    template_types=("zs_noopt",),
    category="pre-training",
    metrics=[flanx.metrics.accuracy],
    vocabulary="pkg://flanx.tasks/playground_parts/vocabulary.model",
)
