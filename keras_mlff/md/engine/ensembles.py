"""A step of dynamics in each ensemble, in operations of Keras.

Time is in Å·sqrt(amu/eV) here. A step is a kick by half, a drift, new forces and a kick by half;
what a thermostat or barostat does stands in between.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from keras import ops

from keras_mlff import backend
from keras_mlff.graph import Tensor
from keras_mlff.md.engine.loop import State, Step, add, times
from keras_mlff.ops import geometry

CHAIN = 3  # thermostats in a Nosé-Hoover chain
# of Suzuki and Yoshida, fourth order
_OUTER = 1.0 / (2.0 - 2.0 ** (1 / 3))
_WEIGHTS = (_OUTER, 1.0 - 2.0 * _OUTER, _OUTER)
Inputs = Mapping[str, Tensor]


@dataclasses.dataclass(frozen=True)
class Ensemble:
    """What a name stands for.

    Attributes:
        thermostat: `"langevin"`, `"svr"`, `"nhc"` or none.
        barostat: `"isotropic"`, `"anisotropic"` or none.
    """

    thermostat: str | None = None
    barostat: str | None = None

    @property
    def step(self) -> Step:
        """The function that makes a step, see `keras_mlff.md.engine.loop.program`."""

        def step(state: State, inputs: Inputs, evaluate: Callable[[State], State]) -> State:
            dt = inputs["time_step"]
            if self.thermostat == "nhc":
                state = _chain(state, inputs)
            state = _kick(state, inputs)
            if self.thermostat == "langevin":
                state = _drift(_langevin(_drift(state, 0.5 * dt), inputs), 0.5 * dt)
            else:
                state = _drift(state, dt)
            if self.barostat is not None:
                state = _rescale_cell(state, inputs, self.barostat == "isotropic")
            state = _kick(evaluate(state), inputs)
            if self.thermostat == "svr":
                state = _rescale(state, inputs)
            return _chain(state, inputs) if self.thermostat == "nhc" else state

        return step


ENSEMBLES = {
    "nve": Ensemble(),
    "langevin": Ensemble("langevin"),
    "svr": Ensemble("svr"),
    "nhc": Ensemble("nhc"),
    "npt": Ensemble("svr", "isotropic"),
    "npt_anisotropic": Ensemble("svr", "anisotropic"),
}


def _kick(state: State, inputs: Inputs) -> State:
    change = 0.5 * inputs["time_step"] * inputs["inverse_masses"] * state["forces"]
    high, low = add(state["velocities"], state["velocities_low"], change)
    return {**state, "velocities": high, "velocities_low": low}


def _drift(state: State, time: Tensor) -> State:
    change = time * state["velocities"]
    low = state["positions_low"] + time * state["velocities_low"]
    high, low = add(state["positions"], low, change)
    return {**state, "positions": high, "positions_low": low}


def _scaled(state: State, factors: Tensor, inputs: Inputs) -> State:
    """Multiplies the velocities of each graph by a factor `(num_graphs,)`."""
    per_atom = ops.take(factors, inputs["graph_ids"], axis=0)[:, None]
    keys = ("velocities", "velocities_low")
    return {**state, **{key: state[key] * per_atom for key in keys}}


def _sum(values: Tensor, inputs: Inputs) -> Tensor:
    return backend.segment_sum(values, inputs["graph_ids"], inputs["freedom"].shape[0])


def _twice_kinetic(state: State, inputs: Inputs) -> Tensor:
    """Twice the kinetic energy of each graph: `(num_graphs,)`, eV."""
    return _sum(inputs["masses"][:, 0] * ops.sum(ops.square(state["velocities"]), axis=-1), inputs)


def _now(key: str, inputs: Inputs) -> Tensor:
    """Takes from what was drawn for all steps the part of this one."""
    return ops.take(inputs[key], inputs["index"], axis=0)


def _langevin(state: State, inputs: Inputs) -> State:
    """Lets friction and noise act for a step (the O of BAOAB).

    Reference: Leimkuhler and Matthews, 2013, https://doi.org/10.1093/amrx/abs010
    """
    kept = ops.exp(-inputs["friction"] * inputs["time_step"])
    heat = ops.take(_now("heat", inputs), inputs["graph_ids"], axis=0)[:, None]
    spread = ops.sqrt((1.0 - kept * kept) * heat * inputs["inverse_masses"])
    velocities = kept * state["velocities"] + spread * _now("normal", inputs)
    # a free system does not drift; zero for others
    drift = _sum(inputs["masses"] * velocities, inputs) * inputs["per_total_mass"][:, None]
    velocities = velocities - ops.take(drift, inputs["graph_ids"], axis=0)
    return {**state, "velocities": velocities, "velocities_low": ops.zeros_like(velocities)}


def _rescale(state: State, inputs: Inputs) -> State:
    """Rescales velocities by a random factor that gives the canonical kinetic energy.

    Reference: Bussi, Donadio and Parrinello, 2007, https://doi.org/10.1063/1.2408420, eq. A7
    """
    kept = ops.exp(-inputs["time_step"] / inputs["thermostat_time"])
    twice = ops.maximum(_twice_kinetic(state, inputs), 1e-30)
    normal, rest = _now("normal", inputs), _now("chi", inputs)
    share = (1.0 - kept) * _now("heat", inputs) / twice
    cross = normal * ops.sqrt(kept * share)
    square = kept + share * (normal * normal + rest) + 2.0 * cross
    sign = ops.where(normal * ops.sqrt(share) + ops.sqrt(kept) < 0.0, -1.0, 1.0)
    factor = ops.cast(sign, twice.dtype) * ops.sqrt(ops.maximum(square, 0.0))
    return _scaled(state, factor, inputs)


def _chain(state: State, inputs: Inputs) -> State:
    """Lets a Nosé-Hoover chain act for half a step.

    Reference: Martyna et al., 1996, https://doi.org/10.1080/00268979600100761
    """
    heat = _now("heat", inputs)
    time = inputs["thermostat_time"]
    inertia = [ops.maximum(inputs["freedom"], 1.0) * heat * time * time]
    inertia += [heat * time * time] * (CHAIN - 1)
    speeds = [state["chain"][:, i] for i in range(CHAIN)]
    twice = _twice_kinetic(state, inputs)
    factor = ops.ones_like(twice)
    wanted = [inputs["freedom"] * heat] + [heat] * (CHAIN - 1)

    def push(i: int, delta: Tensor) -> None:
        energy = twice if i == 0 else inertia[i - 1] * ops.square(speeds[i - 1])
        change = 0.5 * delta * (energy - wanted[i]) / inertia[i]
        if i == CHAIN - 1:
            speeds[i] = speeds[i] + change
        else:
            decay = ops.exp(-0.25 * delta * speeds[i + 1])
            speeds[i] = (speeds[i] * decay + change) * decay

    for weight in _WEIGHTS:
        delta = 0.5 * weight * inputs["time_step"]
        for i in reversed(range(CHAIN)):
            push(i, delta)
        scale = ops.exp(-delta * speeds[0])
        factor, twice = factor * scale, twice * scale * scale
        for i in range(CHAIN):
            push(i, delta)
    return _scaled({**state, "chain": ops.stack(speeds, axis=1)}, factor, inputs)


def _rescale_cell(state: State, inputs: Inputs, isotropic: bool) -> State:
    """Stretches the cell by the exponential of a random symmetric strain.

    The strain's mean follows from the pressure inside less that outside; its spread gives volumes
    the distribution exp(-(F + P V) / kT) dV. A strain without rotation is enough, since energies do
    not change by a rotation.

    Reference: Bernetti and Bussi, 2020, https://doi.org/10.1063/5.0020514; Del Tatto et al., 2022,
    https://doi.org/10.3390/app12031139
    """
    dtype = state["positions"].dtype
    eye = ops.eye(3, dtype=dtype)
    volumes = geometry.volumes(state["cell"])
    momenta = inputs["masses"] * state["velocities"]
    flow = _sum(momenta[:, :, None] * state["velocities"][:, None, :], inputs)
    inside = flow / volumes[:, None, None] - state["stress"]  # (num_graphs, 3, 3)
    pace = inputs["time_step"] * inputs["compressibility"] / inputs["barostat_time"]
    noise = _now("strain", inputs)
    heat = _now("heat", inputs)
    spread = ops.sqrt(2.0 * pace * heat / (3.0 * volumes))[:, None, None]
    outside = inputs["pressure"] * eye
    strain = pace / 3.0 * (inside - outside) + spread * 0.5 * (
        noise + ops.transpose(noise, (0, 2, 1))
    )
    if isotropic:
        strain = ops.trace(strain, axis1=1, axis2=2)[:, None, None] * eye / 3.0
    return stretch(state, strain, inputs)


def stretch(state: State, strain: Tensor, inputs: Inputs) -> State:
    """Stretches cells and positions by the exponential of a strain, and velocities by its inverse.

    Args:
        state: A state with `cell`, `strain` and `inverse_strain`, which count from the last search
            of neighbors.
        strain: `(num_graphs, 3, 3)`, symmetric and small.
        inputs: The inputs of the step.
    """
    forth, back = exponential(strain), exponential(-strain)
    ids = inputs["graph_ids"]
    forth_atoms, back_atoms = ops.take(forth, ids, axis=0), ops.take(back, ids, axis=0)
    new = dict(state)
    for key in ("positions", "positions_low"):
        new[key] = times(state[key], forth_atoms)
    for key in ("velocities", "velocities_low"):
        if key in state:
            new[key] = times(state[key], back_atoms)
    new["cell"] = ops.matmul(state["cell"], forth)
    new["strain"] = ops.matmul(state["strain"], forth)
    new["inverse_strain"] = ops.matmul(back, state["inverse_strain"])
    return new


def exponential(matrices: Tensor) -> Tensor:
    """Computes exponentials of small matrices `(n, 3, 3)`, by Taylor's series up to the fifth."""
    term = total = ops.eye(3, dtype=matrices.dtype) + ops.zeros_like(matrices)
    for order in range(1, 6):
        term = ops.matmul(term, matrices) / order
        total = total + term
    return total
