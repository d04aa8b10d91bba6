"""PyTorch's process: `pytorch_side.py CASE [--channels-last] [--compile]`."""

import argparse

import torch
from safetensors.torch import save_file
from torch.nn import functional

import cases
from side import serve


class Network:
    """The case's network with its state and batches, in the memory format asked for."""

    def __init__(self, case, tensors, options):
        self.case = case
        self.tensors = tensors
        self.format = torch.channels_last if options.channels_last else torch.contiguous_format
        self.module = case.network()
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


class Search:
    """Forward and backward pass of the search network, or a step of the search; only the gradients that are used are asked for."""

    def __init__(self, network):
        self.network = network
        self.train, self.valid = network.batch("train"), network.batch("valid")
        self.alpha = [network.tensors[f"alpha/{name}"].requires_grad_() for name in ("normal", "reduce")]
        self.unrolled_terms = {}
        self.initial_alpha = flat(self.alpha).clone()
        self.sgd = network.sgd()
        self.adam = torch.optim.Adam(
            self.alpha, cases.ALPHA_LEARNING_RATE, cases.ALPHA_BETAS, weight_decay=cases.ALPHA_WEIGHT_DECAY
        )

    def gradients(self, batch, wanted):
        images, labels = batch
        loss = functional.cross_entropy(self.network.forward(images, *self.alpha), labels)
        return loss.detach(), torch.autograd.grad(loss, wanted)

    def run(self):
        weights, work = self.network.weights, self.network.case.work
        if work == "gradient":
            self.train_loss, gradients = self.gradients(self.train, self.alpha + weights)
            self.alpha_gradient, self.weight_gradient = gradients[:2], gradients[2:]
            return
        if work == "first":
            self.valid_loss, self.alpha_gradient = self.gradients(self.valid, self.alpha)
        else:
            self.valid_loss, self.alpha_gradient = self.unrolled()
        for alpha, gradient in zip(self.alpha, self.alpha_gradient):
            alpha.grad = gradient
        self.adam.step()
        self.train_loss, gradients = self.gradients(self.train, weights)
        self.network.weight_step(self.sgd, gradients)

    def unrolled(self):
        """L_val and the gradient of α through one step of the weights, the second derivative as a finite difference (equations
        7 and 8 of the paper)."""
        weights, rate = self.network.weights, cases.LEARNING_RATE
        buffers = [value for value in self.network.module.buffers() if value.is_floating_point()]
        saved = [weight.detach().clone() for weight in weights]
        _, step = self.gradients(self.train, weights)
        with torch.no_grad():
            step = torch._foreach_add(step, weights, alpha=cases.WEIGHT_DECAY)
            if self.sgd.state:
                momentum = [self.sgd.state[weight]["momentum_buffer"] for weight in weights]
                torch._foreach_add_(step, momentum, alpha=cases.MOMENTUM)
            torch._foreach_add_(weights, step, alpha=-rate)
        # The unrolled copy's running statistics are not the model's.
        statistics = [value.clone() for value in buffers]
        loss, gradients = self.gradients(self.valid, self.alpha + weights)
        direct, vector = gradients[:2], gradients[2:]
        torch._foreach_copy_(buffers, statistics)
        radius = 0.01 / torch.linalg.vector_norm(torch.stack(torch._foreach_norm(vector))).item()
        positive = self.displaced(saved, vector, radius)
        negative = self.displaced(saved, vector, -radius)
        with torch.no_grad():
            torch._foreach_copy_(weights, saved)
        implicit = [(plus - minus) / (2 * radius) for plus, minus in zip(positive, negative)]
        self.unrolled_terms = {"direct": flat(direct), "implicit": flat(implicit)}
        return loss, [first - rate * second for first, second in zip(direct, implicit)]

    def displaced(self, saved, vector, radius):
        """The gradient of α at the weights `saved` + `radius`·`vector`."""
        with torch.no_grad():
            torch._foreach_copy_(self.network.weights, saved)
            torch._foreach_add_(self.network.weights, vector, alpha=radius)
        return self.gradients(self.train, self.alpha)[1]

    def results(self):
        results = {"train_loss": self.train_loss, "alpha_gradient": flat(self.alpha_gradient)}
        if self.network.case.work == "gradient":
            return results | self.network.named("gradient", self.weight_gradient) | self.network.statistics()
        results |= {"valid_loss": self.valid_loss, "alpha_step": flat(self.alpha) - self.initial_alpha}
        return results | self.unrolled_terms | self.network.trained(self.sgd)


def flat(matrices):
    return torch.cat([matrix.detach().flatten() for matrix in matrices])


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
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    case, tensors = cases.read(options.case)
    torch.set_num_threads(case.threads)
    torch.set_num_interop_threads(1)
    network = Network(case, tensors, options)
    kind = Search if case.searching else Training if case.work == "train" else Inference
    serve(kind(network), write_results)


if __name__ == "__main__":
    main()
