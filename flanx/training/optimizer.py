"""Optimizers as frozen dataclasses: Adafactor with T5X's numbers, and AdamW for ablations.

`build(schedule, stack_axis=None)` gives an `optax.GradientTransformation` whose update is what gets added to the
parameters. A parameter of a scanned stack holds all its layers in one array; `stack_axis` maps the parameter's path
(`("encoder", "encoder", "mlp", "wi_0", "kernel")`) to the axis along which layers are stacked, or None. Adafactor then
treats every layer by itself, as if the stack had been a list of layers: what is factored, the clipping by RMS and the
parameter scale never see across layers (T5X: `FactorDim.BATCH` for the axis "layers").
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from flanx.training.schedules import ScheduleFn

if TYPE_CHECKING:
    import optax

StackAxis = Callable[[tuple[str, ...]], int | None]


class AdafactorState(NamedTuple):
    """Second moments: `v_row` and `v_col` for factored parameters, `v` for the others; (1,) zeros stand where unused.

    `count` is an int32 scalar; the three trees have the parameters' structure, float32. `m` is the first moment where
    the optimizer keeps one, else None.
    """

    count: Any
    v_row: Any
    v_col: Any
    v: Any
    m: Any = None


@dataclass(frozen=True)
class Adafactor:
    """Adafactor (Shazeer & Stern 2018) with the defaults of T5X's `adafactor.Adafactor`.

    update = -lr(t) * max(RMS(parameter), epsilon2) * clip(g / sqrt(v)), where v decays at 1 - (t+1)^-decay_rate and is
    kept as a product of row and column means where the two largest axes of a parameter are at least
    `min_dim_size_to_factor`.

    Attributes:
      decay_rate: exponent of the second moment's decay.
      clipping_threshold: largest RMS of a parameter's scaled gradient; None for no clipping.
      factored: whether second moments are factored at all.
      min_dim_size_to_factor: smallest axis worth factoring.
      multiply_by_parameter_scale: whether the rate is relative to the parameter's RMS.
      epsilon1: added to the squared gradient.
      epsilon2: least parameter scale.
      beta1: decay of a first moment, None to keep none.
      weight_decay: share of the parameter taken off a step, times the learning rate; None for none.
      step_offset: subtracted from the count before the decay rate is computed.
    """

    decay_rate: float = 0.8
    clipping_threshold: float | None = 1.0
    factored: bool = True
    min_dim_size_to_factor: int = 128
    multiply_by_parameter_scale: bool = True
    epsilon1: float = 1e-30
    epsilon2: float = 1e-3
    beta1: float | None = None
    weight_decay: float | None = None
    step_offset: int = 0

    def build(
        self, schedule: ScheduleFn, stack_axis: StackAxis | None = None
    ) -> "optax.GradientTransformation":
        """The transformation; its state is an `AdafactorState`."""
        import jax
        import jax.numpy as jnp
        import optax

        moments = optax.scale_by_factored_rms(
            factored=self.factored,
            decay_rate=self.decay_rate,
            step_offset=self.step_offset,
            min_dim_size_to_factor=self.min_dim_size_to_factor,
            epsilon=self.epsilon1,
        )
        after = []
        if self.clipping_threshold is not None:
            after.append(optax.clip_by_block_rms(self.clipping_threshold))
        if self.multiply_by_parameter_scale:
            after.append(optax.scale_by_param_block_rms(self.epsilon2))
        rest = optax.chain(*after)
        zero = jnp.zeros((), jnp.int32)

        def init_leaf(param: Any) -> tuple[Any, Any, Any]:
            _, v_row, v_col, v = moments.init(param)
            return v_row, v_col, v

        def update_leaf(count: Any, grad: Any, slots: Any, param: Any) -> tuple[Any, Any]:
            scaled, new = moments.update(grad, optax.FactoredState(count, *slots), param)
            scaled, _ = rest.update(scaled, rest.init(param), param)
            return scaled, (new.v_row, new.v_col, new.v)

        def init(params: Any) -> AdafactorState:
            def leaf(path: Any, param: Any) -> Any:
                axis = _axis(stack_axis, path)
                return (init_leaf if axis is None else jax.vmap(init_leaf, axis, axis))(param)

            slots = jax.tree_util.tree_map_with_path(leaf, params)
            first = None if self.beta1 is None else jax.tree.map(jnp.zeros_like, params)
            v_row, v_col, v = _unzip(params, slots)
            return AdafactorState(zero, v_row, v_col, v, first)

        def update(grads: Any, state: AdafactorState, params: Any = None) -> Any:
            if params is None:
                raise ValueError("Adafactor needs the parameters to scale its update")
            rate = schedule(state.count)

            def leaf(path: Any, grad: Any, param: Any, *slots: Any) -> Any:
                axis, one = _axis(stack_axis, path), update_leaf
                if axis is not None:
                    one = jax.vmap(update_leaf, (None, axis, axis, axis), axis)
                return one(state.count, grad.astype(jnp.float32), slots, param)

            pairs = jax.tree_util.tree_map_with_path(
                leaf, grads, params, state.v_row, state.v_col, state.v
            )
            scaled, slots = _unzip(params, pairs)
            steps = jax.tree.map(lambda u: rate * u, scaled)
            first = state.m
            if self.beta1 is not None:
                b = self.beta1
                first = steps = jax.tree.map(lambda m, u: b * m + (1.0 - b) * u, first, steps)
            if self.weight_decay is not None:
                shrink = rate * self.weight_decay
                steps = jax.tree.map(lambda u, p: u + shrink * p, steps, params)
            v_row, v_col, v = _unzip(params, slots)
            new = AdafactorState(state.count + 1, v_row, v_col, v, first)
            return jax.tree.map(lambda u: -u, steps), new

        return optax.GradientTransformation(init, update)


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019), for ablations; element-wise, so stacks need no care.

    Attributes:
      b1, b2: decay of the first and second moment.
      eps: added to the root of the second moment.
      weight_decay: share of the parameter taken off a step, times the learning rate.
    """

    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0

    def build(
        self, schedule: ScheduleFn, stack_axis: StackAxis | None = None
    ) -> "optax.GradientTransformation":
        """The transformation, optax's own."""
        import optax

        del stack_axis
        return optax.adamw(
            schedule, b1=self.b1, b2=self.b2, eps=self.eps, weight_decay=self.weight_decay
        )


def _axis(stack_axis: StackAxis | None, path: Any) -> int | None:
    return None if stack_axis is None else stack_axis(tuple(str(key.key) for key in path))


def _unzip(params: Any, tree_of_tuples: Any) -> tuple[Any, ...]:
    """A parameter tree of k-tuples as k parameter trees."""
    import jax

    treedef: Any = jax.tree.structure(params)
    return tuple(
        treedef.unflatten(column)
        for column in zip(*treedef.flatten_up_to(tree_of_tuples), strict=True)
    )
