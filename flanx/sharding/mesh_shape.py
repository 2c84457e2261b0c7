"""Sizes of a mesh's axes, by arithmetic alone, and the numbers that would do where the given ones do not."""

import math

from flanx.errors import UserError
from flanx.sharding.config import MeshConfig

AXES = ("replica", "data", "model")


def mesh_shape(config: MeshConfig, devices: int, slices: int = 1) -> tuple[int, int, int]:
    """Replica, data and model for so many devices on so many slices.

    `replica=-1` is one a slice, `data=-1` what replica and model leave; with both data and model given, replica takes
    what they leave.

    Raises:
      UserError: the sizes do not make up the devices; it names those that would.
    """
    replica, data, model = config.replica, config.data, config.model
    if replica == -1:
        replica = slices if data == -1 else max(devices // (data * model), 1)
    if data == -1:
        data = max(devices // (replica * model), 1)
    if replica * data * model == devices:
        return replica, data, model
    sizes = f"replica={replica} x data={data} x model={model}"
    raise UserError(
        f"MeshConfig: {sizes} is {replica * data * model} devices, and there are {devices}: "
        + _mend(replica, model, devices)
    )


def over_slices(shape: tuple[int, int, int], slices: int) -> tuple[int, int] | None:
    """Over how many slices replica and data are spread, whose product is `slices`; None where model would be, too."""
    replica, data, _ = shape
    outer = math.gcd(replica, slices)
    rest = slices // outer
    return None if data % rest else (outer, rest)


def check_slices(shape: tuple[int, int, int], slices: int) -> None:
    """Tensor parallelism stays inside a slice of a TPU.

    Raises:
      UserError: `model` is spread over several.
    """
    if over_slices(shape, slices) is None:
        raise UserError(
            f"MeshConfig: model={shape[2]} would reach over slices, which no fast links join: give a divisor of the "
            f"{math.prod(shape) // slices} devices of one"
        )


def _mend(replica: int, model: int, devices: int) -> str:
    if devices % (replica * model) == 0:
        return f"set data={devices // (replica * model)}, or data=-1 for what is left"
    if devices % replica == 0:
        return f"with replica={replica}, model can be {_divisors(devices // replica)} (and data=-1)"
    if devices % model == 0:
        return f"with model={model}, replica can be {_divisors(devices // model)} (and data=-1)"
    return f"replica x model can be {_divisors(devices)} (and data=-1)"


def _divisors(number: int) -> str:
    *most, last = [str(n) for n in range(1, number + 1) if number % n == 0]
    return f"{', '.join(most)} or {last}" if most else last
