"""Mixture families: one file each. Installed as `flanx.mixtures`."""

import re


def scaled(
    base: str,
    num_tasks: int,
    seed: int = 0,
    *,
    name: str | None = None,
    data_dir: str | None = None,
) -> str:
    """Registers the mixture of `num_tasks` of the datasets of `base`, and returns its name.

    The subsets of one seed are nested: the datasets at N are among those at every N' > N. Weights are those of `base`.
    gin's NUM_TASKS takes the same subset without registering it.

    Args:
      base: mixture, or glob over datasets.
      num_tasks: number of datasets, of those with a train split; each comes with all its template types.
      seed: which datasets come first.
      name: name of the new mixture; unless given, `<base>.scaled_<num_tasks>_<seed>`.
      data_dir: where the files of a base of which only a part is there are looked for; None for FLANX_DATA_DIR.

    Raises:
      UserError: `base` is unknown, has fewer datasets, or the name is taken.
    """
    from flanx.registry import Part, mixture, resolve, specs_of

    chosen = {
        one.dataset for one in resolve(base, num_tasks=num_tasks, seed=seed, data_dir=data_dir)
    }
    others = dict.fromkeys(spec.dataset for spec in specs_of(base) if spec.dataset not in chosen)
    name = name or f"{re.sub('[^A-Za-z0-9_.]+', '_', base)}.scaled_{num_tasks}_{seed}"
    mixture(name, [Part(base, exclude=tuple(others))])
    return name
