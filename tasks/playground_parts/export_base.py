"""Makes base/, the checkpoint that quickstart.gin starts from, of a finished run of recipes/playground_base.gin:

    python -m flanx.tasks.playground_parts.export_base runs/playground_base [FOLDER]

Parameters alone, in bfloat16.
"""

import sys
from functools import partial
from pathlib import Path

OUT = Path(__file__).parent / "base"


def main(model_dir: str, out: Path) -> None:
    """Writes the newest checkpoint of `model_dir` to `out`, a folder that is not there yet."""
    import jax

    from flanx.models import build, init_params
    from flanx.models.t5.config import T5Config
    from flanx.training import initial, params_io

    facts = params_io.read_facts(params_io.find_params(model_dir))
    model = build(T5Config.from_dict(facts["model"]))
    shapes = jax.eval_shape(partial(init_params, model), jax.random.key(0))
    params = initial.restore_params(initial.open_initial(model_dir), shapes)
    kept = {name: facts[name] for name in ("model", "vocabulary")}
    params_io.export_params(out, params, "bfloat16", facts=kept)
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    print(f"{out}: {model.config.num_parameters():,} parameters, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]) if len(sys.argv) > 2 else OUT)
