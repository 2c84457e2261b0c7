"""Flan 2022's sources by their published shares (Chung et al. 2022, section 2 and table 11), those that flanx has.

    flan2022.niv2_cot           shares of the main runs: NIv2 24.2, CoT 1.8
    flan2022.niv2_cot_scaling   shares of the scaling runs and the CoT ablations: NIv2 30, CoT 3

Shares are relative: the sources named in a mixture divide the whole among them. Within a source weights are by the
number of examples, up to the source's cap.
"""

import flanx

CAPS = {"niv2.train": 5_000, "cot": 100_000}
SHARES = {
    "flan2022.niv2_cot": {"niv2.train": 24.2, "cot": 1.8},
    "flan2022.niv2_cot_scaling": {"niv2.train": 30.0, "cot": 3.0},
}

for name, shares in SHARES.items():
    flanx.mixture(
        name,
        [flanx.Part(source, cap=CAPS[source], share=share) for source, share in shares.items()],
    )
