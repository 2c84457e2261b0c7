"""Mixtures of Natural Instructions v2: `niv2.train` (756 tasks) and `niv2.test` (119), the official default split.

Weights are by the number of instances, up to 5,000 (Chung et al. 2022, table 11). Few have the whole collection on
disk, so a task whose file is missing is left out and counted in a line; none at all is an error. Instances of training
tasks that were held out are `niv2.train`'s split `validation`.
"""

import flanx
from flanx.tasks import niv2

CAP = 5_000

for split in ("train", "test"):
    flanx.mixture(
        f"niv2.{split}",
        [
            flanx.Part(niv2.dataset(task), present_only=True)
            for task, its_split, _ in niv2.tasks()
            if its_split == split
        ],
        cap=CAP,
    )
