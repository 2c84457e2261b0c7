"""The playground's mixtures.

playground            what `quickstart.gin` trains on; each dataset by its exercise's weight
playground.held_out   the tasks that are never trained on
"""

import flanx
from flanx.tasks.playground import HELD_OUT
from flanx.tasks.playground_parts.every import EXERCISES

flanx.mixture(
    "playground",
    [
        flanx.Part(f"playground.{one.name}", rate=one.weight)
        for one in EXERCISES
        if not one.held_out
    ],
)
flanx.mixture("playground.held_out", [flanx.Part(name, rate=1.0) for name in HELD_OUT])
