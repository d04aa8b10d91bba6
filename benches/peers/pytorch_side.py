"""PyTorch's process: `pytorch_side.py CASE [--original] [--channels-last] [--compile]`."""

import argparse

import torch
from safetensors.torch import save_file
from torch.nn import functional

import cases
from original import OriginalSearch
from search import LeanSearch
from side import serve


class Network:
    """The case's network with its state and batches, in the memory format asked for."""

    def __init__(self, case, tensors, options):
        self.case = case
        self.tensors = tensors
        self.format = torch.channels_last if options.channels_last else torch.contiguous_format
        self.module = case.network(original=options.original)
        state = {name.removeprefix("state/"): value for name, value in tensors.items() if name.startswith("state/")}
        # Only the counters of batches are not in the file.
        self.module.load_state_dict(state, strict=False)
        self.module.to(memory_format=self.format)
        self.forward = torch.compile(self.module) if options.compile else self.module
        self.weights = list(self.module.parameters())

    def batch(self, name):
        images = self.tensors[f"{name}/images"].contiguous(memory_format=self.format)
        return images, self.tensors[f"{name}/labels"].long()

    def sgd(self):
        return torch.optim.SGD(self.weights, cases.LEARNING_RATE, cases.MOMENTUM, weight_decay=cases.WEIGHT_DECAY)

    def weight_step(self, sgd, gradients):
        for weight, gradient in zip(self.weights, gradients):
            weight.grad = gradient
        torch.nn.utils.clip_grad_norm_(self.weights, cases.GRADIENT_CLIP)
        sgd.step()

    def named(self, prefix, values):
        names = [name for name, _ in self.module.named_parameters()]
        return {f"{prefix}/{name}": value.detach() for name, value in zip(names, values)}

    def statistics(self):
        buffers = self.module.named_buffers()
        return {f"statistics/{name}": value for name, value in buffers if value.is_floating_point()}

    def trained(self, sgd):
        """Everything that a weight step has moved."""
        momentum = [sgd.state[weight]["momentum_buffer"] for weight in self.weights]
        return self.named("weights", self.weights) | self.named("momentum", momentum) | self.statistics()


class Training:
    """Forward pass, cross-entropy, backward pass, SGD."""

    def __init__(self, network):
        self.network = network
        self.images, self.labels = network.batch("train")
        self.sgd = network.sgd()

    def run(self):
        self.logits = self.network.forward(self.images)
        self.loss = functional.cross_entropy(self.logits, self.labels)
        self.network.weight_step(self.sgd, torch.autograd.grad(self.loss, self.network.weights))

    def results(self):
        results = {"train_loss": self.loss.detach(), "logits": self.logits.detach()}
        return results | self.network.trained(self.sgd)


class Inference:
    """A forward pass with running statistics."""

    def __init__(self, network):
        self.network = network
        network.module.eval()
        self.images, _ = network.batch("test")

    def run(self):
        with torch.inference_mode():
            self.logits = self.network.forward(self.images)

    def results(self):
        return {"logits": self.logits}


def write_results(results, path):
    save_file({name: value.reshape(-1).contiguous() for name, value in results.items()}, path)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("case")
    parser.add_argument("--original", action="store_true", help="search as the authors' code does")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    case, tensors = cases.read(options.case)
    torch.set_num_threads(case.threads)
    torch.set_num_interop_threads(1)
    network = Network(case, tensors, options)
    searching = OriginalSearch if options.original else LeanSearch
    kind = searching if case.searching else Training if case.work == "train" else Inference
    serve(kind(network), write_results)


if __name__ == "__main__":
    main()
