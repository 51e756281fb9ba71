"""Counts the launches of one step on a GPU: a dry run in the rig, of which the last step is counted.

usage: count.py --rig DIR --target DIR [--sm 80] [--precision f16] [--batch-size 4] [--out DIR] train|inference [-- OPTIONS]

OPTIONS are those of `mrcnn-cli benchmark`. Kernels are tuned at the lowest level, so the convolution kernels can differ
from those that a GPU selects. `MB` is the size of the buffers that the launches have as arguments: a buffer that is
only written in part, or is read and written, counts once and whole."""
import argparse
import collections
import json
import os
import pathlib
import re
import subprocess
import sys

from cases import Case, read_lines
from floor import compute_floor
from layers import print_layers
from run import CUBECL, make_environment

PRODUCTS = "convolutions and matrix products"
KINDS = {
    "weights and optimizer": r"^(cast|fold|restore|sgd|adamw)_step|^add_squares",
    "losses": r"^(class_losses|cross_entropies|spread_derivatives|divide_sum|add_each)",
    PRODUCTS: r"matmul|conv|gemm|im2col|col2im|dgrad|wgrad",
    "operands of gradients of 3x3 weights": r"^spread_(two|and_sum|pixels)|^reduce_(e|and_sum)",
    "copies between layouts": r"copy|contiguous",
    "casts": r"^cast",
    "fills": r"^full|zeros|^fill|_init",
    "reductions": r"reduce|cumulative|sum",
    "element by element": r"binop|unary|scalar|elemwise|^fuse|clamp|mask_|where|_grad|add_to_pixels|relu|powf",
    "gather, scatter, slice, concatenate": r"gather|scatter|slice|select|cat|flip|repeat",
}


def find_kind(name):
    return next((kind for kind, pattern in KINDS.items() if re.search(pattern, name)), "detection operators and others")


def select_work(log):
    """Launches, reads and allocations, without launches by which CubeCL measures the device."""
    is_probe = re.compile(r"throughput|launch_overhead|prime_buffer")
    return [row for row in (line.split("\t") for line in log) if row[0] != "launch" or not is_probe.search(row[7])]


# Reads per step. A training step reads losses and gradient norm together, and the update of the weights is counted in
# the next step.
# The prediction of an image reads its boxes, then the bits of its masks.
READS = {"train": 1, "inference": 2}


def select_last_step(rows, mode):
    """The launches and reads of the last step."""
    ends = [i for i, row in enumerate(rows) if row[0] == "d2h"]
    if len(ends) <= READS[mode]:
        sys.exit(f"{len(ends)} reads: there is no whole step")
    return rows[ends[-1 - READS[mode]] + 1 : ends[-1] + 1]


def find_kernels_without_tensor_cores(rows, functions):
    """Names of the kernels of convolutions and matrix products that have no instruction of tensor cores."""
    heads, *functions = [line.split("\t") for line in functions]
    columns = [heads.index(name) for name in ("mma", "wmma")]
    has_tensor_cores = {row[heads.index("name")]: any(int(row[column]) for column in columns) for row in functions}
    names = {row[7] for row in rows if row[0] == "launch" and find_kind(row[7]) == PRODUCTS}
    return sorted(name for name in names if not has_tensor_cores.get(name))


# Published GB/s and TFLOP/s of tensor cores in f16 with f32 sums, dense, of the SXM or largest variant.
GPUS = {"V100": (900, 125), "T4": (320, 65), "A100 40 GB": (1555, 312), "H100": (3350, 989)}


def compare_with_floor(rows, args, size):
    """Prints the bytes of a training step of R50-FPN beside its floor, for images of `size`, and their time on GPUs."""
    value = 4 if args.precision in ("f32", "tf32") else 2
    floor, layers = compute_floor(args.batch_size, *size, value)
    moved = sum(int(size) for row in rows if row[0] == "launch" for size in row[8].split(",") if size)
    print(f"images of {size[0]}x{size[1]}: floor {floor.bytes / 1e6:,.0f} MB, {floor.flops / 1e9:,.0f} GFLOP; {moved / floor.bytes:.2f} times the floor\n")
    print("| at published rates | ms for bytes | of the floor | ms for FLOPs | img/s, both one after the other |\n|---|---|---|---|---|")
    for gpu, (gigabytes, teraflops) in GPUS.items():
        counted, least, compute = moved / gigabytes / 1e6, floor.bytes / gigabytes / 1e6, floor.flops / teraflops / 1e9
        print(f"| {gpu} | {counted:.1f} | {least:.1f} | {compute:.1f} | {1e3 * args.batch_size / (counted + compute):.0f} |")
    print()
    launches = [row for row in rows if row[0] == "launch"]
    print_layers(launches, layers, value, lambda name: find_kind(name) == PRODUCTS, find_kind)


def print_table(rows):
    launches, megabytes, kernels = (collections.Counter() for _ in range(3))
    for row in rows:
        if row[0] == "launch":
            size = sum(int(size) for size in row[8].split(",") if size) / 1e6
            name = re.sub(r"_[0-9a-f]{8}$", "", row[7])
            launches[find_kind(name)] += 1
            megabytes[find_kind(name)] += size
            kernels[name] += 1
    print("| kernels | launches | MB |\n|---|---|---|")
    for name, count in launches.most_common():
        print(f"| {name} | {count} | {megabytes[name]:,.0f} |")
    reads, allocations = (sum(row[0] == what for row in rows) for what in ("d2h", "alloc"))
    print(f"| **all** | **{sum(launches.values())}** | **{sum(megabytes.values()):,.0f}** |\n\n{reads} reads by the host, {allocations} allocations\n")
    for name, count in kernels.most_common(60):
        print(f"{count:6} {name}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rig", type=pathlib.Path, required=True)
    parser.add_argument("--target", type=pathlib.Path, required=True)
    parser.add_argument("--sm", type=int, default=80)
    parser.add_argument("--precision", default="f16")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("mode", choices=["train", "inference"])
    parser.add_argument("options", nargs="*")
    args = parser.parse_args()
    out = (args.out or args.rig / "reports/count").resolve()
    out.mkdir(parents=True, exist_ok=True)
    (out / "cubecl.toml").write_text(CUBECL.format(out=out, level="minimal", exhaustive="false"))
    command = [args.target.resolve() / "release/mrcnn-cli", "benchmark", args.mode, "--backend", "cuda", "--precision", args.precision, "--batch-size", args.batch_size, "--warmup", 1, "--steps", 2]
    # The classes of COCO, unless OPTIONS sets others.
    command += ["--json", out / "benchmark.json", "--set", "model.num_classes=81", *args.options]
    case = Case("count", args.sm, args.precision, command, mode="dry")
    # The size of each tensor is known only if each has its own allocation. Counting needs no assembly.
    env = {**make_environment(args.rig.resolve(), case, out), "MOCK_LAUNCH_LOG": "2", "MOCK_PTXAS": "", "MOCK_MEMORY_GB": "400"}
    subprocess.run([str(part) for part in command], cwd=out, env=env, stdout=subprocess.DEVNULL, check=True)
    all_rows = select_work(read_lines(out / "launches.tsv"))
    rows = select_last_step(all_rows, args.mode)
    print_table(rows)
    live = max(int(row[2]) for row in all_rows if row[0] == "alloc")
    print(f"\n{live / 1e6:,.0f} MB of device memory at its peak, tuning included, with an allocation per tensor\n")
    if args.mode == "train" and not args.options:
        size = json.loads((out / "benchmark.json").read_text())["results"][0]["padded"]
        compare_with_floor(rows, args, size)
    print("without tensor cores:", ", ".join(find_kernels_without_tensor_cores(rows, read_lines(out / "functions.tsv"))) or "none")


if __name__ == "__main__":
    main()
