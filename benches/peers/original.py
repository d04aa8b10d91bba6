"""Passes and steps of the search as the authors' code does them (arXiv 1806.09055), which figures published elsewhere were measured
with: a backward pass for an optimizer computes all gradients there are, and the unrolled step makes a copy of the network."""

import copy

import torch
from torch.nn import functional

import cases
from search import Search, flat


class OriginalSearch(Search):
    """For `OriginalMixedEdge`s."""

    def loss(self, batch, module=None):
        images, labels = batch
        return functional.cross_entropy((module or self.network.forward)(images, *self.alpha), labels)

    def run(self):
        if self.network.case.work == "gradient":
            self.sgd.zero_grad()
            self.adam.zero_grad()
            self.train_loss = self.backward(self.train)
            self.alpha_gradient = [alpha.grad for alpha in self.alpha]
            self.weight_gradient = [weight.grad for weight in self.network.weights]
            return
        self.adam.zero_grad()
        if self.network.case.work == "first":
            self.valid_loss = self.backward(self.valid)
        else:
            self.valid_loss = self.unrolled()
        # The weights' step adds its own to these gradients.
        self.alpha_gradient = [alpha.grad.clone() for alpha in self.alpha]
        self.adam.step()
        self.sgd.zero_grad()
        self.train_loss = self.backward(self.train)
        torch.nn.utils.clip_grad_norm_(self.network.weights, cases.GRADIENT_CLIP)
        self.sgd.step()

    def backward(self, batch, module=None):
        """Adds the gradients of α and of all weights to those that are there; the loss."""
        loss = self.loss(batch, module)
        loss.backward()
        return loss.detach()

    def unrolled(self):
        """Equations 7 and 8 of the paper, with a network of its own for the weights after the step; L_val of that network."""
        copied = self.unrolled_network()
        loss = self.backward(self.valid, copied)
        direct = [alpha.grad.clone() for alpha in self.alpha]
        implicit = self.finite_difference([weight.grad for weight in copied.parameters()])
        for alpha, second in zip(self.alpha, implicit):
            alpha.grad.sub_(second, alpha=cases.LEARNING_RATE)
        self.unrolled_terms = {"direct": flat(direct), "implicit": flat(implicit)}
        return loss

    def unrolled_network(self):
        """A copy of the network with the weights after one step of SGD on the training batch."""
        weights = self.network.weights
        gradient = flat(torch.autograd.grad(self.loss(self.train), weights))
        theta = flat(weights)
        momentum = torch.zeros_like(theta)
        if self.sgd.state:
            momentum = cases.MOMENTUM * flat([self.sgd.state[weight]["momentum_buffer"] for weight in weights])
        theta = theta - cases.LEARNING_RATE * (momentum + gradient + cases.WEIGHT_DECAY * theta)
        copied = copy.deepcopy(self.network.module)
        # The copy starts without gradients.
        copied.zero_grad()
        parts = theta.split([weight.numel() for weight in weights])
        with torch.no_grad():
            for parameter, part in zip(copied.parameters(), parts):
                parameter.copy_(part.view(parameter.shape))
        return copied

    def finite_difference(self, vector):
        """The second derivative by α and the weights times `vector`: a central difference of the gradients of α."""
        weights = self.network.weights
        radius = 0.01 / flat(vector).norm()
        gradients = []
        with torch.no_grad():
            torch._foreach_add_(weights, torch._foreach_mul(vector, radius))
        gradients.append(torch.autograd.grad(self.loss(self.train), self.alpha))
        with torch.no_grad():
            torch._foreach_sub_(weights, torch._foreach_mul(vector, 2 * radius))
        gradients.append(torch.autograd.grad(self.loss(self.train), self.alpha))
        with torch.no_grad():
            torch._foreach_add_(weights, torch._foreach_mul(vector, radius))
        return [(plus - minus) / (2 * radius) for plus, minus in zip(*gradients)]
