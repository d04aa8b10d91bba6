"""The search network and the derived network of DARTS (arXiv 1806.09055) in PyTorch.

Parameters are called as in the original's state dict, which is what `darts` writes too, so that weights are carried over by
name. Images are [N, C, H, W].
"""

import torch
from torch import nn
from torch.nn import functional

NONE, MAX_POOL, AVG_POOL, SKIP = "none", "max_pool_3x3", "avg_pool_3x3", "skip_connect"
PRIMITIVES = [NONE, MAX_POOL, AVG_POOL, SKIP, "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5"]
NODES = 4
EDGES = sum(node + 2 for node in range(NODES))

# The cells that second-order search found on CIFAR-10: two (primitive, source state) a node.
DARTS_V2 = {
    "normal": [
        ("sep_conv_3x3", 0), ("sep_conv_3x3", 1), ("sep_conv_3x3", 0), ("sep_conv_3x3", 1),
        ("sep_conv_3x3", 1), ("skip_connect", 0), ("skip_connect", 0), ("dil_conv_3x3", 2),
    ],
    "reduce": [
        ("max_pool_3x3", 0), ("max_pool_3x3", 1), ("skip_connect", 2), ("max_pool_3x3", 1),
        ("max_pool_3x3", 0), ("skip_connect", 2), ("skip_connect", 2), ("max_pool_3x3", 1),
    ],
}  # fmt: skip


def genotype_text(cells):
    """A genotype as the original prints it."""
    concat = f"range(2, {NODES + 2})"
    return (
        f"Genotype(normal={cells['normal']}, normal_concat={concat}, reduce={cells['reduce']}, reduce_concat={concat})"
    )


class Chain(nn.Module):
    """Layers in a row, under the name `op`."""

    def __init__(self, *layers):
        super().__init__()
        self.op = nn.Sequential(*layers)

    def forward(self, x):
        return self.op(x)


def pointwise(inputs, outputs, stride=1):
    return nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)


def separable(channels, kernel, stride, dilation, affine):
    """ReLU, depthwise and 1×1 convolution, batch norm."""
    padding = dilation * (kernel - 1) // 2
    depthwise = nn.Conv2d(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False)
    return nn.ReLU(), depthwise, pointwise(channels, channels), nn.BatchNorm2d(channels, affine=affine)


class FactorizedReduction(nn.Module):
    """Half the size by two 1×1 convolutions, the second one pixel further down and right."""

    def __init__(self, inputs, outputs, affine):
        super().__init__()
        self.conv_1 = pointwise(inputs, outputs // 2, stride=2)
        self.conv_2 = pointwise(inputs, outputs // 2, stride=2)
        self.bn = nn.BatchNorm2d(outputs, affine=affine)

    def forward(self, x):
        x = functional.relu(x)
        shifted = x[:, :, 1:, 1:]
        odd = (x.shape[3] % 2, x.shape[2] % 2)
        if any(odd):
            # Zeros at the bottom and right: both halves have the same size.
            shifted = functional.pad(shifted, (0, odd[0], 0, odd[1]))
        return self.bn(torch.cat([self.conv_1(x), self.conv_2(shifted)], dim=1))


class Zero(nn.Module):
    """The primitive `none`: the image at the stride's places, times zero."""

    def __init__(self, stride):
        super().__init__()
        self.stride = stride

    def forward(self, x):
        return (x if self.stride == 1 else x[:, :, :: self.stride, :: self.stride]) * 0


def primitive(name, channels, stride, searching):
    """The operation of an edge. In search, pools have a batch norm and no batch norm is affine."""
    affine = not searching
    if name == NONE:
        return Zero(stride)
    if name == SKIP and stride == 1:
        return nn.Identity()
    if name == SKIP:
        return FactorizedReduction(channels, channels, affine)
    if name in (MAX_POOL, AVG_POOL):
        average = nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)
        pool = nn.MaxPool2d(3, stride, padding=1) if name == MAX_POOL else average
        return nn.Sequential(pool, nn.BatchNorm2d(channels, affine=False)) if searching else pool
    kind, _, size = name.split("_")
    kernel = int(size[0])
    if kind == "dil":
        return Chain(*separable(channels, kernel, stride, 2, affine))
    return Chain(*separable(channels, kernel, stride, 1, affine), *separable(channels, kernel, 1, 1, affine))


class MixedEdge(nn.Module):
    """All primitives, weighted. `none` adds zero and is left out."""

    def __init__(self, channels, stride):
        super().__init__()
        self._ops = nn.ModuleList(primitive(name, channels, stride, searching=True) for name in PRIMITIVES)

    def forward(self, x, weights):
        terms = zip(PRIMITIVES, self._ops, weights)
        return sum(weight * operation(x) for name, operation, weight in terms if name != NONE)


class OriginalMixedEdge(MixedEdge):
    """As the authors' code has it: `none` is computed and added like the others."""

    def forward(self, x, weights):
        return sum(weight * operation(x) for operation, weight in zip(self._ops, weights))


class Cell(nn.Module):
    """What both cells have: two inputs brought to the same size and channels, four nodes, which are concatenated."""

    def __init__(self, inputs, channels, after_reduction, searching):
        super().__init__()
        affine = not searching
        if after_reduction:
            self.preprocess0 = FactorizedReduction(inputs[0], channels, affine)
        else:
            self.preprocess0 = preprocessing(inputs[0], channels, affine)
        self.preprocess1 = preprocessing(inputs[1], channels, affine)

    def forward(self, s0, s1, weights):
        states = [self.preprocess0(s0), self.preprocess1(s1)]
        for node in range(NODES):
            states.append(self.node(node, states, weights))
        return torch.cat(states[2:], dim=1)


def preprocessing(inputs, channels, affine):
    return Chain(nn.ReLU(), pointwise(inputs, channels), nn.BatchNorm2d(channels, affine=affine))


class SearchCell(Cell):
    """Every earlier state leads to every node by a mixed edge."""

    mixed_edge = MixedEdge

    def __init__(self, inputs, channels, after_reduction, reduction):
        super().__init__(inputs, channels, after_reduction, searching=True)
        sources = [source for node in range(NODES) for source in range(node + 2)]
        strides = [2 if reduction and source < 2 else 1 for source in sources]
        self._ops = nn.ModuleList(self.mixed_edge(channels, stride) for stride in strides)

    def node(self, node, states, weights):
        first = sum(earlier + 2 for earlier in range(node))
        return sum(self._ops[first + source](state, weights[first + source]) for source, state in enumerate(states))


class OriginalSearchCell(SearchCell):
    """A cell whose edges compute `none`, too."""

    mixed_edge = OriginalMixedEdge


class DerivedCell(Cell):
    """Every node is the sum of two operations."""

    def __init__(self, inputs, channels, after_reduction, reduction, edges):
        super().__init__(inputs, channels, after_reduction, searching=False)
        self.sources = [source for _, source in edges]
        self._ops = nn.ModuleList(
            primitive(name, channels, 2 if reduction and source < 2 else 1, searching=False) for name, source in edges
        )

    def node(self, node, states, weights):
        first, second = (self._ops[edge](states[self.sources[edge]]) for edge in (2 * node, 2 * node + 1))
        return first + second


class Network(nn.Module):
    """Stem, cells, of which those at a third and at two thirds of the depth reduce, global average, linear layer."""

    def __init__(self, input_channels, channels, layers, classes, make_cell):
        super().__init__()
        inputs = [3 * channels, 3 * channels]
        stem = nn.Conv2d(input_channels, 3 * channels, 3, padding=1, bias=False)
        self.stem = nn.Sequential(stem, nn.BatchNorm2d(3 * channels))
        self.reductions = [layer in (layers // 3, 2 * layers // 3) for layer in range(layers)]
        self.cells = nn.ModuleList()
        after_reduction = False
        for reduction in self.reductions:
            channels *= 2 if reduction else 1
            self.cells.append(make_cell(inputs, channels, after_reduction, reduction))
            inputs = [inputs[1], NODES * channels]
            after_reduction = reduction
        self.classifier = nn.Linear(inputs[1], classes)

    def forward(self, images, alpha_normal=None, alpha_reduce=None):
        """Logits [N, classes]; a search network takes its two matrices of α, [edges, primitives]."""
        weights = [alpha if alpha is None else alpha.softmax(dim=1) for alpha in (alpha_normal, alpha_reduce)]
        s0 = s1 = self.stem(images)
        for cell, reduction in zip(self.cells, self.reductions):
            s0, s1 = s1, cell(s0, s1, weights[reduction])
        return self.classifier(functional.adaptive_avg_pool2d(s1, 1).flatten(1))


def search_network(input_channels, channels, layers, classes, original=False):
    """The search network; `original` computes `none` as the authors' code does."""
    return Network(input_channels, channels, layers, classes, OriginalSearchCell if original else SearchCell)


def derived_network(cells, input_channels, channels, layers, classes):
    def make_cell(inputs, channels, after_reduction, reduction):
        edges = cells["reduce" if reduction else "normal"]
        return DerivedCell(inputs, channels, after_reduction, reduction, edges)

    return Network(input_channels, channels, layers, classes, make_cell)
