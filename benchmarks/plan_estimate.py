"""How far `flanx plan --estimate` is from the compiler, for TPU slices: memory, FLOPs, HBM and link bytes.

    python benchmarks/plan_estimate.py                                  # ten settings, each compiled: some 15 minutes
    python benchmarks/plan_estimate.py --only small:v5e-16              # one of them

Needs libtpu (pip install 'flanx[plan]'). Prints one JSON line a setting, and a last one with the ratios of estimate to
compiler: the median and the range.
"""

import argparse
import json
import statistics

from flanx.cli import gin_edge
from flanx.plan import search, settings, topology
from flanx.plan.estimate import estimate
from flanx.plan.facts import Facts

SETTINGS = {
    "small:v5e-16": ("v5e-16", {"microbatches": 4, "remat": "full"}),
    "base:v5e-16": ("v5e-16", {"microbatches": 1, "remat": "full"}),
    "base:v5e-16:sharded": ("v5e-16", {"parameters": "fully_sharded", "remat": "minimal"}),
    "large:v5e-16": ("v5e-16", {"parameters": "fully_sharded", "remat": "full"}),
    "large:v5p-64": ("v5p-64", {"parameters": "fully_sharded", "remat": "none"}),
    "large:v5p-64:names": ("v5p-64", {"parameters": "fully_sharded", "remat": "names"}),
    "xl:v5p-64": ("v5p-64", {"parameters": "fully_sharded", "microbatches": 2, "remat": "minimal"}),
    "xl:v6e-256": ("v6e-256", {"parameters": "fully_sharded", "model": 4, "remat": "full"}),
    "xxl:v5p-64": ("v5p-64", {"parameters": "fully_sharded", "remat": "full"}),
    "xxl:v4-1024": ("v4-1024", {"parameters": "fully_sharded", "model": 8, "remat": "full"}),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", choices=SETTINGS, action="append", help="repeatable")
    args = parser.parse_args()
    topology.prepare_environment()
    ratios: dict[str, list[float]] = {"memory": [], "flops": [], "hbm": [], "links": []}
    for name in args.only or SETTINGS:
        where_text, changes = SETTINGS[name]
        where = topology.parse(where_text)
        config = settings.changed(_recipe(name.split(":")[0]), **changes)
        compiled, guessed = search.compile_apart(config, where), estimate(config, where)
        line = {
            "setting": name,
            **changes,
            "fits": compiled.memory.fits,
            "seconds_to_compile": round(compiled.seconds, 1),
            "compiled": _figures(compiled),
            "estimated": _figures(guessed),
        }
        print(json.dumps(line), flush=True)
        if compiled.memory.fits:
            for key, ratio in _ratios(guessed, compiled).items():
                ratios[key].append(ratio)
    spread = {
        key: {
            "median": round(statistics.median(r), 3),
            "least": round(min(r), 3),
            "most": round(max(r), 3),
        }
        for key, r in ratios.items()
        if r
    }
    print(json.dumps({"benchmark": "plan_estimate", "estimated_over_compiled": spread}))


def _recipe(size: str):
    from flanx.training.config import TrainConfig

    parser = argparse.ArgumentParser()
    gin_edge.add_arguments(parser)
    flags = [f"--gin_file=recipes/flan_t5_{size}.gin", "--gin_binding=T5Config.scan_layers=True"]
    unset = {"MODEL_DIR": ".", "INITIAL_CHECKPOINT_PATH": None}
    return gin_edge.build(TrainConfig, parser.parse_args(flags), defaults=unset)


def _figures(facts: Facts) -> dict[str, float]:
    return {
        "gib": round(facts.memory.total / 2**30, 3),
        "tflop": round(facts.flops / 1e12, 4),
        "hbm_gb": round(facts.hbm_bytes / 1e9, 3),
        "link_gb": round(facts.link_bytes / 1e9, 4),
    }


def _ratios(guessed: Facts, compiled: Facts) -> dict[str, float]:
    found = {
        "memory": guessed.memory.total / compiled.memory.total,
        "flops": guessed.flops / compiled.flops,
        "hbm": guessed.hbm_bytes / compiled.hbm_bytes,
    }
    if compiled.link_bytes:
        found["links"] = guessed.link_bytes / compiled.link_bytes
    return found


if __name__ == "__main__":
    main()
