"""Whether both sides have computed the same numbers."""

import collections
import dataclasses

import numpy
from safetensors.numpy import load_file


@dataclasses.dataclass
class Difference:
    """How far a group of results (all gradients, say) is from the other side's."""

    group: str
    # ‖ours − theirs‖₂ / ‖theirs‖₂ of the whole group.
    whole: float
    # The same of the tensor that differs most, and its name. Norms far below the group's usual count as that: they are rounding.
    worst: float
    tensor: str
    tolerance: float

    @property
    def acceptable(self):
        # Comparisons with NaN are false.
        return self.whole <= self.tolerance and self.worst <= 10 * self.tolerance

    def __str__(self):
        return f"{self.group} {self.whole:.1e} (worst {self.worst:.1e}, {self.tensor}; at most {self.tolerance:.0e})"


# Rounding comes to 1e-4 in the gradients of 20 cells and to less elsewhere; a wrong factor or a missing term is far more.
TOLERANCE = 1e-3
TOLERANCES = {
    # A step moves them little.
    "weights": 1e-5,
    # Adam's first step is a sign: gradients that are rounding only may have another, which is an error of 2 in one of 224.
    "alpha_step": 0.3,
    # Finite differences, on their own and as a term. They are not continuous: wherever a displaced weight brings a ReLU to its
    # kink or two pixels of a max pool to a tie, rounding decides.
    "implicit": 0.5,
    "second/alpha_gradient": 0.05,
}
# The search network has no affine norms that keep values off the kinks, and at its full sizes some always lie within rounding of
# one: PyTorch in single precision is as far from itself in double precision. In the second order that goes through more passes.
FULL_SIZE_TOLERANCES = {
    "gradient/gradient": 0.01,
    "gradient/alpha_gradient": 0.01,
    "first/alpha_gradient": 0.01,
    "first/momentum": 0.01,
    "first/weights": 1e-4,
    "second/alpha_gradient": 0.3,
    # Measured: up to 0.61.
    "second/alpha_step": 0.7,
    "second/direct": 0.1,
    "second/momentum": 0.1,
    "second/weights": 1e-4,
}


def tolerance(work, group, quick):
    tolerances = TOLERANCES if quick else TOLERANCES | FULL_SIZE_TOLERANCES
    return tolerances.get(f"{work}/{group}", tolerances.get(group, TOLERANCE))


def differences(work, quick, ours, theirs):
    """Compares two files of results; they must hold the same tensors. `quick` says that the sizes are the small ones."""
    ours, theirs = load_file(ours), load_file(theirs)
    if ours.keys() != theirs.keys():
        raise ValueError(f"only one side has {sorted(ours.keys() ^ theirs.keys())}")
    groups = collections.defaultdict(list)
    for name in theirs:
        groups[name.split("/")[0]].append(name)
    return [difference(group, names, ours, theirs, tolerance(work, group, quick)) for group, names in groups.items()]


def difference(group, names, ours, theirs, tolerance):
    distances = numpy.array([norm(ours[name].reshape(-1) - theirs[name].reshape(-1)) for name in names])
    norms = numpy.array([norm(theirs[name]) for name in names])
    relative = distances / numpy.maximum(norms, 0.1 * numpy.median(norms))
    worst = int(relative.argmax())
    return Difference(group, norm(distances) / norm(norms), float(relative[worst]), names[worst], tolerance)


def norm(values):
    return float(numpy.linalg.norm(values.astype(numpy.float64).reshape(-1)))
