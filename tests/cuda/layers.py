"""The layer of R50-FPN that each launch of a training step computes, from the sizes of its buffers and the order of the
launches."""
import collections
import itertools
import math
import re

FLOAT = 4
# Launches that prepare the operands of the product of a gradient of 3x3 weights, and that add its parts.
PREPARE, ADD = re.compile(r"^spread_(two|and_sum|pixels)"), re.compile(r"^reduce_(e|and_sum)")
# The first launch of the backward pass. Losses of the RPN are computed before the heads.
BACKWARD = re.compile(r"^spread_derivatives")


def list_products(layer, size, is_backward):
    """The passes of a layer with the sizes of left operand, right operand and result of the product of each."""
    weights = layer.weights * (FLOAT if layer.name.startswith("stem") else size)
    if not is_backward:
        return [("output", (layer.input, weights, layer.output))]
    gradient = FLOAT * layer.weights
    operands = [(layer.input, layer.spread, gradient), (layer.spread, layer.input, gradient)]
    found = [("gradient of weights", sizes) for sizes in operands]
    return found + [("gradient of input", (layer.spread, weights, layer.input))] * layer.needs_gradient


def count_splits(layer):
    """The maximum number of parts of the sum of a gradient of 3x3 weights (`splits` in
    cubecl-kernels/src/conv3x3/product.rs)."""
    tiles = math.ceil(math.sqrt(layer.weights / 9) / 128)
    return math.ceil(256 / (9 * tiles * tiles))


def compare(sizes, layer, of_pass, wanted):
    """The distance of `sizes` from those of a product. Padding makes activations larger, not weights."""
    parts = 1
    if of_pass == "gradient of weights" and "3x3" in layer.name:
        parts = min(max(round(sizes[2] / wanted[2]), 1), count_splits(layer))
    wanted = (wanted[0], wanted[1], parts * wanted[2])
    off = [abs(math.log(size / other)) for size, other in zip(sizes, wanted)]
    weights = off[2 if of_pass == "gradient of weights" else 1]
    return round(sum(off) + (weights > 0.02), 2)


def attribute(rows, layers, size, is_product):
    """The name of the layer of each launch, or None, and the number of products found per pass of each layer.

    Layers of equal sizes are computed in the order of the network, and backward in the reverse order."""
    names, waiting, last, is_backward = [], [], None, False
    found = collections.Counter()
    for row in rows:
        is_backward |= bool(BACKWARD.match(row[7]))
        names.append(None)
        sizes = [int(part) for part in row[8].split(",") if part]
        if is_product(row[7]) and len(sizes) > 2:
            # The operands of an epilogue are at most as large as the result.
            sizes = [*sizes[:2], max(sizes[2:])]
            candidates = [
                (compare(sizes, layer, of_pass, wanted), found[index, of_pass], -index if is_backward else index, of_pass)
                for index, layer in enumerate(layers)
                if layer.trained or not is_backward
                for of_pass, wanted in list_products(layer, size, is_backward)
            ]
            *_, index, of_pass = min(candidates)
            found[abs(index), of_pass] += 1
            last = names[-1] = layers[abs(index)].name
            for before in waiting:
                names[before] = last
            waiting = []
        elif PREPARE.match(row[7]):
            waiting.append(len(names) - 1)
        elif ADD.match(row[7]):
            names[-1] = last
    return names, found


def find_unexpected(layers, found):
    """A line for each layer that does not have one or two products per pass. A layer with two outputs, such as the
    logits and deltas of the RPN, can be two products."""
    for index, layer in enumerate(layers):
        passes = ["output"] + ["gradient of weights"] * layer.trained
        passes += ["gradient of input"] * (layer.trained and layer.needs_gradient)
        counts = [found[index, of_pass] for of_pass in passes]
        if not all(count in (1, 2) for count in counts):
            yield f"{layer.name}: {dict(zip(passes, counts))}"


def print_layers(rows, layers, size, is_product, kind):
    """Prints launches and bytes per layer beside its floor. Layers of one name are added."""
    launches, moved, floor, flops = (collections.Counter() for _ in range(4))
    for layer in layers:
        floor[layer.name] += layer.bytes
        flops[layer.name] += layer.flops
    names, found = attribute(rows, layers, size, is_product)
    for row, name in zip(rows, names):
        name = name or kind(row[7])
        launches[name] += 1
        moved[name] += sum(int(part) for part in row[8].split(",") if part)
    print("| layer | launches | MB | floor MB | GFLOP |\n|---|---|---|---|---|")
    others = (name for name in launches if name not in floor)
    for name in itertools.chain(floor, others):
        least = (f"{floor[name] / 1e6:,.0f}", f"{flops[name] / 1e9:,.1f}") if name in floor else ("", "")
        print(f"| {name} | {launches[name]} | {moved[name] / 1e6:,.0f} | {least[0]} | {least[1]} |")
    print("\nlayers without one product per pass:", "; ".join(find_unexpected(layers, found)) or "none", end="\n\n")
