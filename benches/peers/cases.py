"""Cases: what is to be done, at which size, from which state. A case's file is safetensors with its description in the metadata;
`benches/examples/peer/case.rs` reads the same."""

import dataclasses
import json
import logging

import torch
from safetensors import safe_open
from safetensors.torch import save_file

import networks

CLASSES = 10
# Weights' and α's optimizers, as in the paper; `benches/examples/peer` has the same numbers.
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY, GRADIENT_CLIP = 0.025, 0.9, 3e-4, 5.0
ALPHA_LEARNING_RATE, ALPHA_BETAS, ALPHA_WEIGHT_DECAY = 3e-4, (0.5, 0.999), 1e-3


@dataclasses.dataclass(frozen=True)
class Case:
    """`work` is gradient (forward and backward of the search network), first or second (search step of that order), train
    (training step of the derived network) or infer."""

    work: str
    channels: int
    layers: int
    input: tuple  # [C, H, W]
    batch: int
    threads: int

    @property
    def searching(self):
        return self.work in ("gradient", "first", "second")

    def __str__(self):
        size = "x".join(map(str, self.input))
        return (
            f"{self.work}, C={self.channels}, {self.layers} cells, {size}, batch {self.batch}, {self.threads} thread"
            + ("s" if self.threads > 1 else "")
        )

    def network(self, original=False):
        size = (self.input[0], self.channels, self.layers, CLASSES)
        if self.searching:
            return networks.search_network(*size, original)
        return networks.derived_network(networks.DARTS_V2, *size)


def cases(work, quick, threads=None, batch=None):
    """The cases of `search`, `train` or `infer`, at full size or small."""
    large, small = (3, 32, 32), (1, 28, 28)
    if work == "search":
        sizes = [(4, 3, (1, 14, 14), 6)] if quick else [(16, 8, large, 64), (8, 5, small, 64)]
        kinds, usual = ("gradient", "first", "second"), 2
    elif work == "train":
        sizes = [(8, 3, (3, 16, 16), 8)] if quick else [(36, 20, large, 96), (16, 8, large, 96)]
        kinds, usual = ("train",), 2
    else:
        sizes = [(8, 5, (1, 14, 14), 1)] if quick else [(36, 20, large, 1), (8, 5, small, 1)]
        kinds, usual = ("infer",), 1
    return [
        Case(kind, channels, layers, shape, batch or images, threads or usual)
        for channels, layers, shape, images in sizes
        for kind in kinds
    ]


def initial_network(case):
    """The network at a random state in which no two norms do the same.

    Affine norms push every other channel far above zero and the rest far below. Where that is left to chance, so many values lie
    within rounding of a ReLU's kink that gradients of 20 cells differ by a tenth between two ways to round."""
    torch.manual_seed(1)
    network = case.network()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d) and module.affine:
                module.weight.uniform_(0.4, 0.6)
                module.bias.uniform_(1.5, 2.5)
                module.bias[1::2] *= -1
        if case.work == "infer":
            collect_statistics(network, case)
    return network


def collect_statistics(network, case):
    """Running statistics are those of one random batch, so that activations keep their scale."""
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    network.train()(torch.randn(16, *case.input))


def random_batch(case, name):
    labels = torch.randint(CLASSES, (case.batch,)).float()
    return {f"{name}/images": torch.randn(case.batch, *case.input), f"{name}/labels": labels}


def write(case, path):
    """Writes the file of a case; returns its network."""
    network = initial_network(case)
    state = network.state_dict()
    tensors = {f"state/{name}": value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    for name in ("train", "valid") if case.searching else ("train",) if case.work == "train" else ("test",):
        tensors |= random_batch(case, name)
    if case.searching:
        # Far from uniform, so that every primitive's weight is another.
        for name in ("normal", "reduce"):
            tensors[f"alpha/{name}"] = 0.5 * torch.randn(networks.EDGES, len(networks.PRIMITIVES))
    description = dataclasses.asdict(case) | {
        "classes": CLASSES,
        "genotype": "" if case.searching else networks.genotype_text(networks.DARTS_V2),
        "learning_rate": LEARNING_RATE,
    }
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, {"case": json.dumps(description)})
    return network


def read(path):
    """The case and the tensors of a file."""
    with safe_open(path, framework="pt") as file:
        description = json.loads(file.metadata()["case"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    fields = {field.name: description[field.name] for field in dataclasses.fields(Case)}
    return Case(**fields | {"input": tuple(description["input"])}), tensors


def write_onnx(case, network, path):
    """Exports `network` for inference of the case's batch."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    images = torch.zeros(case.batch, *case.input)
    names = {"input_names": ["images"], "output_names": ["logits"]}
    torch.onnx.export(network.eval(), (images,), path, verbose=False, **names)
