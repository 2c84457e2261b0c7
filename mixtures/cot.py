"""Mixtures of the nine chain-of-thought sets.

    cot                   all of the three below; weights by the number of examples, up to 100,000 a set
    cot.with_rationale    question -> rationale and answer
    cot.answer_only       question -> answer
    cot.inverted          the four inversions

In `cot` a set's inverted examples weigh 0.3 of one of its other types, as in Flan 2022 (Longpre et al. 2023). A set
whose file is missing is left out and counted in a line; none at all is an error.
"""

import flanx
from flanx.tasks import cot

CAP = 100_000
TYPES = ("zs_opt", "fs_opt")

flanx.mixture(
    "cot.with_rationale",
    [flanx.Part(f"cot.{name}.{kind}", present_only=True) for name in cot.SETS for kind in TYPES],
    cap=CAP,
)
flanx.mixture(
    "cot.answer_only",
    [flanx.Part(f"cot.{name}_direct", present_only=True) for name in cot.SETS],
    cap=CAP,
)
flanx.mixture(
    "cot.inverted",
    [flanx.Part(f"cot.{name}.inv", present_only=True) for name in cot.SETS],
    cap=CAP,
)
flanx.mixture(
    "cot",
    [
        flanx.Part(dataset, present_only=True)
        for name in cot.SETS
        for dataset in (f"cot.{name}", f"cot.{name}_direct")
    ],
    cap=CAP,
)
