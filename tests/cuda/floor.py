"""The floor of a training step of R50-FPN: bytes and FLOPs that any implementation moves and computes.

Each activation is written once and read once by each layer that uses it, and so is each gradient; weights are read in
the dtype of the activations, and their gradients are written in f32. The optimizer reads parameter, gradient and
momentum and writes parameter and momentum; parameters are read once more and written in the dtype of the activations;
the gradient norm reads the gradients. Proposals, samples, losses and targets are left out: they are below 1 %."""
import dataclasses

FLOAT = 4


@dataclasses.dataclass
class Work:
    """Bytes of the forward pass, of the backward pass and of other operations, FLOPs, and the number of parameters."""

    forward: float = 0
    backward: float = 0
    other: float = 0
    flops: float = 0
    parameters: float = 0

    @property
    def bytes(self):
        return self.forward + self.backward + self.other


@dataclasses.dataclass
class Layer:
    """A convolution or fully connected layer: bytes of its input and output, the number of its weights, and its floor.
    `spread` are the bytes of the gradient of the output at the pixels of the input."""

    name: str
    input: int
    weights: int
    output: int
    spread: int
    trained: bool
    needs_gradient: bool
    bytes: float
    flops: float


class Step:
    """Adds layers of a step whose activations have `size` bytes per value."""

    def __init__(self, size, part="", layers=None):
        self.size = size
        self.work = Work()
        # The part of the network whose layers are added.
        self.part = part
        self.layers = [] if layers is None else layers

    def add_layer(self, pixels, inputs, outputs, taps=1, stride=1, trained=True, needs_gradient=True, added=0, masked=True):
        """Adds a convolution or fully connected layer with `pixels` outputs. `added` values are added to its output;
        the gradient of its input is `masked` by a ReLU."""
        work, size = self.work, self.size
        moved, flops = work.bytes, work.flops
        x, y, weights = pixels * stride * stride * inputs, pixels * outputs, taps * inputs * outputs
        work.forward += size * (x + y + weights + added)
        work.flops += 2 * pixels * weights
        if trained:
            work.parameters += weights
            # Gradient of the weights.
            work.backward += size * (x + y) + FLOAT * weights
            work.flops += 2 * pixels * weights
        if trained and needs_gradient:
            # Gradient of the input; the gradients of two paths are added in it.
            work.backward += size * (y + weights + x * (2 if masked else 1) + added)
            work.flops += 2 * pixels * weights
        kernel = {1: "1x1", 9: "3x3", 49: "7x7"}[taps]
        name = f"{self.part} {kernel} {inputs} to {outputs}" + (", stride 2" if stride > 1 else "")
        spread = size * y * stride * stride
        self.layers.append(Layer(name, size * x, weights, size * y, spread, trained, needs_gradient, work.bytes - moved, work.flops - flops))

    def add_pool(self, forward, backward=0):
        self.work.other += self.size * (forward + backward)


def add_backbone(step, n, height, width, frozen):
    """The stem, which computes in f32, and four stages of bottlenecks, of which the first `frozen` are frozen."""
    pixels = lambda stride: n * -(-height // stride) * -(-width // stride)
    stem = Step(FLOAT, "stem", step.layers)
    stem.add_layer(pixels(2), 3, 64, taps=49, stride=2, trained=False)
    step.work.forward += stem.work.forward
    step.work.flops += stem.work.flops
    step.add_pool(64 * (pixels(2) + pixels(4)))
    inputs = 64
    for stage, blocks in enumerate([3, 4, 6, 3]):
        hidden, outputs, cells = 64 << stage, 256 << stage, pixels(4 << stage)
        step.part = f"C{stage + 2}"
        for block in range(blocks):
            trained = stage >= frozen
            stride = 2 if block == 0 and stage > 0 else 1
            # The first trained layers need no gradient of their input.
            is_inner = trained and (stage > frozen or block > 0)
            options = dict(trained=trained, needs_gradient=is_inner)
            if block == 0:
                # Reads every second pixel.
                step.add_layer(cells, inputs, outputs, **options)
            step.add_layer(cells * stride * stride, inputs, hidden, **options)
            step.add_layer(cells, hidden, hidden, taps=9, stride=stride, trained=trained)
            step.add_layer(cells, hidden, outputs, trained=trained, added=cells * outputs)
            inputs = outputs


def add_pyramid(step, n, height, width, frozen):
    sides = [(-(-height // s), -(-width // s)) for s in (4, 8, 16, 32, 64)]
    cells = [n * h * w for h, w in sides]
    step.part = "FPN"
    for level in range(4):
        # The lateral adds the level above; the gradient of that one is a sum over four cells.
        above = cells[level + 1] * 256 if level < 3 else 0
        step.add_layer(cells[level], 256 << level, 256, needs_gradient=level >= frozen, added=above)
        step.add_layer(cells[level], 256, 256, taps=9, masked=False)
    step.add_pool(2 * 256 * cells[4])
    return cells


def add_heads(step, n, cells, rois=512, anchors=256, classes=81):
    masks = rois // 4
    # The RPN over the pyramid without a graph, then over the windows of the sampled anchors.
    step.part = "RPN"
    for level in cells:
        step.add_layer(level, 256, 256, taps=9, trained=False)
        step.add_layer(level, 256, 15, trained=False)
    sampled = n * anchors
    step.part = "RPN, sampled"
    step.add_layer(sampled, 9 * 256, 256, masked=False)
    step.add_layer(sampled, 256, 15)
    # RoIAlign reads the pyramid and writes the bins; its gradient reads the bins and writes the pyramid, once for all.
    pyramid = 256 * sum(cells[:4])
    bins = 256 * n * (rois * 49 + masks * 196 + anchors * 9)
    step.add_pool(3 * pyramid + bins, pyramid + bins)
    step.part = "box head"
    step.add_layer(n * rois, 256 * 49, 1024, masked=False)
    step.add_layer(n * rois, 1024, 1024)
    step.add_layer(n * rois, 1024, 5 * classes)
    step.part = "mask head"
    for index in range(4):
        step.add_layer(n * masks * 196, 256, 256, taps=9, masked=index > 0)
    step.add_layer(n * masks * 196, 256, 4 * 256)
    step.add_layer(n * masks * 784, 256, classes)


def compute_floor(n, height, width, size, frozen=1):
    """The floor of a step of `n` images with activations of `size` bytes, in all and per layer."""
    step = Step(size)
    add_backbone(step, n, height, width, frozen)
    cells = add_pyramid(step, n, height, width, frozen)
    add_heads(step, n, cells)
    work = step.work
    # Optimizer, prepared weights, gradient norm.
    work.other += work.parameters * (5 * FLOAT + FLOAT + size + FLOAT)
    return work, step.layers
