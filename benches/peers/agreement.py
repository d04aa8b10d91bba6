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


# Rounding explains 1e-5 at the sizes of `cases.py`; a wrong factor or a missing term is far more than this.
TOLERANCE = 1e-3
TOLERANCES = {
    # A step moves them little.
    "weights": 1e-5,
    # Adam's first step is a sign: gradients that are rounding only may have another, which is an error of 2 in one of 224.
    "alpha_step": 0.3,
    # A finite difference, and not continuous: wherever a displaced weight brings a ReLU to its kink or two pixels of a max pool to
    # a tie, rounding decides. (In double precision, PyTorch is as far from itself.)
    "implicit": 0.5,
}
# With the finite difference in it.
SECOND_ORDER_ALPHA_GRADIENT = 0.05


def tolerance(work, group):
    if work == "second" and group == "alpha_gradient":
        return SECOND_ORDER_ALPHA_GRADIENT
    return TOLERANCES.get(group, TOLERANCE)


def differences(work, ours, theirs):
    """Compares two files of results; they must hold the same tensors."""
    ours, theirs = load_file(ours), load_file(theirs)
    if ours.keys() != theirs.keys():
        raise ValueError(f"only one side has {sorted(ours.keys() ^ theirs.keys())}")
    groups = collections.defaultdict(list)
    for name in theirs:
        groups[name.split("/")[0]].append(name)
    return [difference(work, group, names, ours, theirs) for group, names in groups.items()]


def difference(work, group, names, ours, theirs):
    distances = numpy.array([norm(ours[name].reshape(-1) - theirs[name].reshape(-1)) for name in names])
    norms = numpy.array([norm(theirs[name]) for name in names])
    relative = distances / numpy.maximum(norms, 0.01 * numpy.median(norms))
    worst = int(relative.argmax())
    return Difference(
        group, norm(distances) / norm(norms), float(relative[worst]), names[worst], tolerance(work, group)
    )


def norm(values):
    return float(numpy.linalg.norm(values.astype(numpy.float64).reshape(-1)))
