"""Everything that a GPU is asked about mrcnn, beside PyTorch, in one call.

    cargo build --release --workspace --all-targets --features mrcnn-cli/cuda    # elsewhere
    python benches/gpu/run.py --binary mrcnn-cli [--kernels DIR] [--out results.json]

Parity with torchvision (`tests/oracle/compare.py`), the kernel benches (criterion binaries in DIR), and
inference and training of R50-FPN at 800x1344, each batch size and precision beside torchvision, eager
and compiled. Prints ratios; a number above 1 is ours ahead. Needs no Rust toolchain, only the binaries,
torch and torchvision. `--dry-run` does the same on the processor with small pictures, in minutes.
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
    parser.add_argument("--out", type=pathlib.Path, help="writes all figures as JSON")
    parser.add_argument("--dry-run", action="store_true", help="small, on the processor")
    args = parser.parse_args()
    args.size, args.device, args.warmup = (800, 1344), "cuda", 5
    args.precisions, args.compiled = PRECISIONS, [False, True]
    if args.dry_run:
        args.size, args.device, args.warmup = (64, 96), "cpu", 1
        args.backend, args.steps, args.batch_sizes = "cpu", 2, "1,2"
        args.precisions, args.compiled = ["f32", "bf16"], [False]
    return args


def run(command, **options):
    """The finished command; its error output goes to ours."""
    return subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, text=True, **options)


def card():
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        return run(query).stdout.strip()
    except FileNotFoundError:
        return "no NVIDIA driver"


def parity(args):
    """The comparison with torchvision in every precision."""
    found = {"passed": True}
    for precision in available(args):
        command = [sys.executable, ROOT / "tests/oracle/compare.py", args.binary]
        done = run([*command, "--backend", args.backend, "--precision", precision])
        print(f"== parity, {precision}\n{done.stdout}")
        found[precision] = done.stdout.splitlines()
        found["passed"] &= done.returncode == 0
    return found


def kernels(args):
    """The output of each bench: times beside bytes or floating-point operations."""
    found = {}
    for bench in sorted(args.kernels.glob("gpu_*")) if args.kernels else []:
        if bench.suffix == "" and bench.is_file():
            print(f"== {bench.name}")
            done = run([bench, "--bench"])
            print(done.stdout)
            found[bench.name] = done.stdout.splitlines()
    return found


def available(args):
    """The precisions that our binary has on this device: f32 without TF32 is not there on all."""
    done = run([args.binary, "doctor", "--format", "json"])
    backends = {backend["kind"]: backend for backend in json.loads(done.stdout)["backends"]}
    devices = backends.get(args.backend, {}).get("devices", [])
    mine = devices[0]["precisions"] if devices else []
    return [precision for precision in args.precisions if precision in mine]


def benchmark(args, mode, size, *options):
    """What `mrcnn-cli benchmark` prints, and its JSON; None for both where it failed, out of memory for
    one."""
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "result.json"
        command = [args.binary, "benchmark", mode, "--backend", args.backend, "--json", out]
        command += ["--batch-size", size, "--warmup", args.warmup, "--steps", args.steps]
        command += ["--set", f"image.min_size={min(args.size)}"]
        command += ["--set", f"image.max_size={max(args.size)}"]
        done = run([*command, *options])
        if done.returncode != 0:
            return None, None
        return done.stdout, json.loads(out.read_text())["results"][0]


def ours(args, mode, precision):
    """Pictures a second by batch size; None where it failed."""
    found = {}
    for size in args.batch_sizes.split(","):
        _, result = benchmark(args, mode, size, "--precision", precision)
        found[size] = result and result["images_per_second"]
    return found


def graph(args):
    """Inference launched and replayed as a graph, by batch size; None where none was recorded."""
    found = {}
    print("\ninference launched kernel by kernel and replayed as a graph")
    for size in args.batch_sizes.split(","):
        shown, found[size] = benchmark(args, "inference", size, "--graph")
        print(shown or f"batch {size}: no graph, see the error above")
    return found


def peer(args, mode, precision, compiled):
    found = {}
    for size in args.batch_sizes.split(","):
        command = [sys.executable, HERE / "torch_peer.py", mode, "--device", args.device]
        command += ["--batch-size", size, "--dtype", precision, "--steps", args.steps]
        command += ["--height", args.size[0], "--width", args.size[1], "--warmup", args.warmup]
        done = run(command + (["--compile"] if compiled else []))
        line = done.stdout.splitlines()[-1:] if done.returncode == 0 else []
        found[size] = json.loads(line[0])["images_per_second"] if line else None
    return found


def table(title, sizes, mine, others):
    """Rows of pictures a second; behind theirs, ours of the same precision over theirs."""
    shown = lambda value: "failed" if value is None else f"{value:.2f}"
    print(f"\n{title}, images/s (ratio of ours to theirs)")
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
    results = {"date": datetime.date.today().isoformat(), "card": card(), "command": sys.argv}
    print(f"{results['date']}, {results['card']}")
    results["parity"] = parity(args)
    results["kernels"] = kernels(args)
    for mode in ["inference", "train"]:
        results[mode] = throughput(args, mode)
    results["graph"] = graph(args)
    if args.out:
        args.out.write_text(json.dumps(results, indent=2))
    figures = [row for mode in ["inference", "train"] for row in results[mode]["mrcnn"].values()]
    is_whole = bool(figures) and all(value is not None for row in figures for value in row.values())
    if not args.dry_run:
        # The processor records no graph; a GPU must.
        is_whole = is_whole and all(value is not None for value in results["graph"].values())
    else:
        torch = [row for mode in ["inference", "train"] for row in results[mode]["torch"].values()]
        is_whole = is_whole and all(value is not None for row in torch for value in row.values())
    sys.exit(0 if results["parity"]["passed"] and is_whole else 1)


if __name__ == "__main__":
    main()
