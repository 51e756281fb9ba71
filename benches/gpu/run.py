"""All GPU measurements of mrcnn beside PyTorch, in one call.

    cargo build --release --workspace --all-targets --features mrcnn-cli/cuda    # on a build machine
    python benches/gpu/run.py --binary mrcnn-cli [--kernels DIR] [--out results.json]

Runs parity with torchvision (`tests/oracle/compare.py`), the kernel benchmarks (criterion binaries in DIR), and
inference and training of R50-FPN at 800x1344, for each batch size and precision beside torchvision, eager
and compiled. Prints ratios; above 1 means that mrcnn is faster. Needs no Rust toolchain, only the binaries,
torch and torchvision. `--dry-run` does the same on the CPU with small images, in minutes.
"""

import argparse
import datetime
import json
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PRECISIONS = ["f32", "tf32", "f16", "bf16"]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default="mrcnn-cli", help="mrcnn-cli built with the feature cuda")
    parser.add_argument("--kernels", type=pathlib.Path, help="folder of built gpu_* criterion benches")
    parser.add_argument("--batch-sizes", default="1,2,4,8,16")
    parser.add_argument("--backend", default="cuda")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--out", type=pathlib.Path, help="write all figures to this file as JSON")
    parser.add_argument("--dry-run", action="store_true", help="small images, on the CPU")
    args = parser.parse_args()
    args.size, args.device, args.warmup = (800, 1344), "cuda", 5
    args.precisions, args.compiled = PRECISIONS, [False, True]
    if args.dry_run:
        args.size, args.device, args.warmup = (64, 96), "cpu", 1
        args.backend, args.steps, args.batch_sizes = "cpu", 2, "1,2"
        args.precisions, args.compiled = ["f32", "bf16"], [False]
    return args


def run(command, **options):
    """Runs a command; its standard error is passed through."""
    return subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, text=True, **options)


def gpu_name():
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        return run(query).stdout.strip()
    except FileNotFoundError:
        return "no NVIDIA driver"


def parity(args):
    """Comparison with torchvision in every precision."""
    results = {"passed": True}
    for precision in available(args):
        command = [sys.executable, ROOT / "tests/oracle/compare.py", args.binary]
        process = run([*command, "--backend", args.backend, "--precision", precision])
        print(f"== parity, {precision}\n{process.stdout}")
        results[precision] = process.stdout.splitlines()
        results["passed"] &= process.returncode == 0
    return results


def kernels(args):
    """Output of each benchmark: times beside bytes or floating-point operations."""
    results = {}
    for bench in sorted(args.kernels.glob("gpu_*")) if args.kernels else []:
        if bench.suffix == "" and bench.is_file():
            print(f"== {bench.name}")
            process = run([bench, "--bench"])
            print(process.stdout)
            results[bench.name] = process.stdout.splitlines()
    return results


def available(args):
    """Precisions that the binary supports on this device; some devices have no f32 without TF32."""
    process = run([args.binary, "doctor", "--format", "json"])
    backends = {backend["kind"]: backend for backend in json.loads(process.stdout)["backends"]}
    devices = backends.get(args.backend, {}).get("devices", [])
    supported = devices[0]["precisions"] if devices else []
    return [precision for precision in args.precisions if precision in supported]


def benchmark(args, mode, size, *options):
    """Printed output and JSON of `mrcnn-cli benchmark`; None for both if it failed, for example out of
    memory."""
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "result.json"
        command = [args.binary, "benchmark", mode, "--backend", args.backend, "--json", out]
        command += ["--batch-size", size, "--warmup", args.warmup, "--steps", args.steps]
        command += ["--set", f"image.min_size={min(args.size)}"]
        command += ["--set", f"image.max_size={max(args.size)}"]
        process = run([*command, *options])
        if process.returncode != 0:
            return None, None
        return process.stdout, json.loads(out.read_text())["results"][0]


def ours(args, mode, precision):
    """Images per second by batch size; None where the benchmark failed."""
    results = {}
    for size in args.batch_sizes.split(","):
        _, result = benchmark(args, mode, size, "--precision", precision)
        results[size] = result and result["images_per_second"]
    return results


def graph(args):
    """Inference launched kernel by kernel and replayed as a graph, by batch size; None without a graph."""
    results = {}
    print("\ninference launched kernel by kernel and replayed as a graph")
    for size in args.batch_sizes.split(","):
        shown, results[size] = benchmark(args, "inference", size, "--graph")
        print(shown or f"batch {size}: no graph, see the error above")
    return results


def peer(args, mode, precision, compiled):
    results = {}
    for size in args.batch_sizes.split(","):
        command = [sys.executable, HERE / "torch_peer.py", mode, "--device", args.device]
        command += ["--batch-size", size, "--dtype", precision, "--steps", args.steps]
        command += ["--height", args.size[0], "--width", args.size[1], "--warmup", args.warmup]
        process = run(command + (["--compile"] if compiled else []))
        line = process.stdout.splitlines()[-1:] if process.returncode == 0 else []
        results[size] = json.loads(line[0])["images_per_second"] if line else None
    return results


def table(title, sizes, mine, others):
    """Rows of images per second; in parentheses mrcnn of the same precision over the peer."""
    shown = lambda value: "failed" if value is None else f"{value:.2f}"
    print(f"\n{title}, img/s (ratio of mrcnn to torch)")
    print(f"{'':>24}" + "".join(f"{'batch ' + size:>18}" for size in sizes))
    for precision, row in mine.items():
        print(f"{'mrcnn ' + precision:>24}" + "".join(f"{shown(row[size]):>18}" for size in sizes))
    for name, row in others.items():
        our_row = mine.get(name.split()[1], {})
        cells = []
        for size in sizes:
            both = our_row.get(size) is not None and row[size] is not None
            ratio = f" ({our_row[size] / row[size]:.2f})" if both else ""
            cells.append(f"{shown(row[size]) + ratio:>18}")
        print(f"{name:>24}" + "".join(cells))


def throughput(args, mode):
    mine = {precision: ours(args, mode, precision) for precision in available(args)}
    others = {}
    for precision in args.precisions:
        for compiled in args.compiled:
            name = f"torch {precision} {'compiled' if compiled else 'eager'}"
            others[name] = peer(args, mode, precision, compiled)
    height, width = args.size
    sizes = args.batch_sizes.split(",")
    table(f"{mode} of R50-FPN at {height}x{width}", sizes, mine, others)
    return {"mrcnn": mine, "torch": others}


def main():
    args = arguments()
    results = {"date": datetime.date.today().isoformat(), "gpu": gpu_name(), "command": sys.argv}
    print(f"{results['date']}, {results['gpu']}")
    results["parity"] = parity(args)
    results["kernels"] = kernels(args)
    for mode in ["inference", "train"]:
        results[mode] = throughput(args, mode)
    results["graph"] = graph(args)
    if args.out:
        args.out.write_text(json.dumps(results, indent=2))
    figures = [row for mode in ["inference", "train"] for row in results[mode]["mrcnn"].values()]
    is_complete = bool(figures) and all(value is not None for row in figures for value in row.values())
    if not args.dry_run:
        # The CPU records no graph; a GPU must.
        is_complete = is_complete and all(value is not None for value in results["graph"].values())
    else:
        torch = [row for mode in ["inference", "train"] for row in results[mode]["torch"].values()]
        is_complete = is_complete and all(value is not None for row in torch for value in row.values())
    sys.exit(0 if results["parity"]["passed"] and is_complete else 1)


if __name__ == "__main__":
    main()
