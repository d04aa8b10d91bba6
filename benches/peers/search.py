"""Passes and steps of the search in PyTorch, doing no more than they need."""

import torch
from torch.nn import functional

import cases


class Search:
    """Forward and backward pass of the search network, or a step of the search: what all ways of doing it have."""

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

    def results(self):
        results = {"train_loss": self.train_loss, "alpha_gradient": flat(self.alpha_gradient)}
        if self.network.case.work == "gradient":
            return results | self.network.named("gradient", self.weight_gradient) | self.network.statistics()
        results |= {"valid_loss": self.valid_loss, "alpha_step": flat(self.alpha) - self.initial_alpha}
        return results | self.unrolled_terms | self.network.trained(self.sgd)


class LeanSearch(Search):
    """Only the gradients that are used are asked for, and the unrolled step displaces the weights where they are."""

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


def flat(matrices):
    return torch.cat([matrix.detach().flatten() for matrix in matrices])
