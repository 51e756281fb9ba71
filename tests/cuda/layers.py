"""Which layer of R50-FPN a launch of a training step computes, from the sizes of its buffers."""
import collections
import itertools
import math
import re

FLOAT = 4
# Launches before and after the product of a gradient of 3x3 weights that prepare its operands and add its parts.
BEFORE, AFTER = re.compile(r"^spread_(two|and_sum|pixels)"), re.compile(r"^reduce_(e|and_sum)")
LOSSES = re.compile(r"^(class_losses|cross_entropies|divide_sum)")


def distance(sizes, wanted):
    return sum(abs(math.log(size / other)) for size, other in zip(sizes, wanted))


def passes(layer, size, is_backward):
    """Sizes of left operand, right operand and result of each product of a layer."""
    weights = layer.weights * (FLOAT if layer.name.startswith("stem") else size)
    if not is_backward:
        return [(layer.input, weights, layer.output)]
    gradient = FLOAT * layer.weights
    return [(layer.output, weights, layer.input), (layer.input, layer.output, gradient), (layer.output, layer.input, gradient)]


def difference(sizes, layer, size, is_backward):
    """How far `sizes` are from those of a product of `layer`. Padding makes some of them larger, and gradients of 3x3 weights are
    computed in up to 32 parts, which are added afterwards."""

    def of_pass(wanted):
        parts = 1
        if wanted[2] == FLOAT * layer.weights and "3x3" in layer.name:
            parts = min(max(round(sizes[2] / wanted[2]), 1), 32)
        return distance(sizes, (wanted[0], wanted[1], parts * wanted[2]))

    return min(map(of_pass, passes(layer, size, is_backward)))


def attributed(rows, layers, size, kind):
    """For each launch the name of its layer, or None."""
    names, waiting, last, is_backward = [], [], None, False
    # Layers of equal sizes are computed in turn.
    used = collections.Counter()
    for row in rows:
        is_backward |= bool(LOSSES.match(row[7]))
        names.append(None)
        if "products" in kind(row[7]):
            # The operands of an epilogue are at most as large as the result.
            left, right, *others = map(int, row[8].split(","))
            sizes = [left, right, max(others)]
            candidates = [index for index, layer in enumerate(layers) if layer.trained or not is_backward]
            found = min(candidates, key=lambda at: (round(difference(sizes, layers[at], size, is_backward), 2), used[at]))
            used[found] += 1
            last = names[-1] = layers[found].name
            for index in waiting:
                names[index] = last
            waiting = []
        elif BEFORE.match(row[7]):
            waiting.append(len(names) - 1)
        elif AFTER.match(row[7]):
            names[-1] = last
    return names


def print_layers(rows, layers, size, kind):
    """Launches and bytes per layer beside its floor. Layers of one name are added."""
    launches, moved, floor, flops = (collections.Counter() for _ in range(4))
    for layer in layers:
        floor[layer.name] += layer.bytes
        flops[layer.name] += layer.flops
    for row, name in zip(rows, attributed(rows, layers, size, kind)):
        name = name or kind(row[7])
        launches[name] += 1
        moved[name] += sum(int(part) for part in row[8].split(",") if part)
    print("| layer | launches | MB | floor MB | GFLOP |\n|---|---|---|---|---|")
    others = (name for name in launches if name not in floor)
    for name in itertools.chain(floor, others):
        least = (f"{floor[name] / 1e6:,.0f}", f"{flops[name] / 1e9:,.1f}") if name in floor else ("", "")
        print(f"| {name} | {launches[name]} | {moved[name] / 1e6:,.0f} | {least[0]} | {least[1]} |")
    print()
