"""Runs mrcnn's CUDA backend in the rig and prints the results case by case.

usage: run.py --rig DIR --target DIR [--full] [--only NAME,...] [--out DIR]

DIR of --target has the release binaries: mrcnn-cli and the test binaries of mrcnn-kernels and mrcnn-tests, built with
flex,cuda,fusion and without wgpu. `executed` cases run every kernel on the CPU and compare numbers; `dry` cases
compile, assemble and check every kernel and launch. Exits with 1 if a case fails."""
import argparse
import ctypes.util
import json
import os
import pathlib
import re
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
CUBECL = """[autotune]
level = "{level}"
disable_short_circuit = {exhaustive}
[autotune.decisions]
file = "{out}/decisions.jsonl"
[autotune.bench]
min_samples = 1
max_samples = 1
short_circuit_samples = 1
[memory]
persistent_memory = "{memory}"
"""


class Case:
    """One command in the rig. `check` examines its folder afterwards and returns the problems. `selects` says whether
    mrcnn-backends opens the device and configures CubeCL; tests of the kernels open it themselves."""

    def __init__(self, name, sm, precision, command, mode="exec", seconds=300, env=None, check=None, cuda="12", selects=True):
        self.selects = selects
        self.name, self.sm, self.precision, self.command = name, sm, precision, command
        self.mode, self.seconds, self.env, self.check, self.cuda = mode, seconds, env or {}, check, cuda


def environment(rig, case, out):
    """The rig's environment, as the file env sets it."""
    script = f'. "{HERE}/env" "{rig}"; env -0'
    text = subprocess.run(["bash", "-c", script], env={**os.environ, "MOCK_CUDA": case.cuda}, stdout=subprocess.PIPE, check=True).stdout
    env = dict(line.split("=", 1) for line in text.decode().split("\0") if "=" in line)
    env.update(MOCK_SM=str(case.sm), MOCK_OUT=str(out), MOCK_LAUNCH_LOG="1", MRCNN_TEST_BACKEND="cuda", RUST_BACKTRACE="0", MRCNN_WATCHDOG_S="0", MRCNN_KERNEL_CACHE="off", XDG_CACHE_HOME=str(out / "usual"))
    # Every dry run assembles; executed kernels are compiled by the host's compiler instead.
    env.update({"MOCK_EXEC": "1", "MOCK_PTXAS": ""} if case.mode == "exec" else {"MOCK_EXEC": "0", "MOCK_PTXAS": env["MOCK_ASSEMBLER"]})
    env.update(case.env)
    return env


def lines(path):
    return path.read_text(errors="replace").splitlines() if path.exists() else []


def reports(out, name):
    """The lines of a report of all processes of a case."""
    return [line for path in sorted(out.glob(f"**/{name}")) for line in lines(path)]


def coverage(out):
    """Number of tuned convolutions and matrix products in half precision, how many of them have a candidate on tensor
    cores that compiled and fits, and a description of the others."""
    total = covered = 0
    missing = []
    for line in lines(out / "decisions.jsonl"):
        try:
            decision = json.loads(line)
        except ValueError:
            continue
        key = json.dumps(decision.get("key"))
        is_half = re.search(r'"(dtype|elem_lhs)": (\{"Float": )?"B?F16"', key)
        if not is_half or not ("Conv" in key or '"definition"' in key):
            continue
        names = [r["outcome"]["Ok"]["name"] for r in decision.get("results", []) if "Ok" in r.get("outcome", {})]
        total += 1
        if any("mma" in name.lower() for name in names):
            covered += 1
        else:
            missing.append(f"no candidate on tensor cores: {key[:400]}: {names}")
    return total, covered, missing

def run(case, rig, folder):
    out = folder / f"{case.name}-sm{case.sm}-{case.precision}"
    out.mkdir(parents=True, exist_ok=True)
    for old in [*out.glob("*"), *out.glob("*/*.tsv")]:
        if old.is_file():
            old.unlink()
    executed = case.mode == "exec"
    # In executed runs every tensor has its own allocation, so that accesses beyond it are detected.
    settings = dict(level="minimal" if executed else "balanced", exhaustive="false" if executed else "true", memory="enforced" if executed else "enabled")
    (out / "cubecl.toml").write_text(CUBECL.format(out=out, **settings))
    start = time.monotonic()
    with open(out / "stdout", "wb") as stdout, open(out / "stderr", "wb") as stderr:
        try:
            code = subprocess.run([str(part) for part in case.command], cwd=out, env=environment(rig, case, out), stdout=stdout, stderr=stderr, timeout=case.seconds).returncode
        except subprocess.TimeoutExpired:
            code = "timeout"
    took = time.monotonic() - start
    report, compiled = reports(out, "report.tsv"), reports(out, "nvrtc.tsv")
    count = lambda kind, where: sum(line.startswith(kind) for line in where)
    totals = [line for line in report if line.startswith("TOTAL")]
    number = lambda word: sum(int(re.search(rf"\b{word} (\d+)", line).group(1)) for line in totals)
    tuned, covered, missing = coverage(out)
    seen = {
        "case": case.name, "sm": case.sm, "precision": case.precision, "mode": case.mode, "exit": code, "seconds": round(took, 1),
        "modules": number("modules"), "compiled": count("compiled", compiled), "refused": count("REFUSED", compiled),
        "problems": count("PROBLEM", report), "launches": number("launches"), "executed": number("executed"),
        "not_executed": count("NOEXEC", report), "tuned": tuned, "tensor_cores": covered,
    }
    wrong = []
    if code != 0:
        wrong.append(f"exit code {code}")
    wrong += [line.split("\t", 1)[1][:300] for line in report if line.startswith("PROBLEM")][:3]
    if case.selects and (out / "usual").exists():
        wrong.append("the usual folder for caches was written, although nothing is kept there")
    wrong += [f"NVRTC refuses {line.split(chr(9))[-1]}" for line in compiled if line.startswith("REFUSED")][:3]
    if executed and code == 0 and not seen["executed"]:
        wrong.append("no kernel was executed")
    if not executed and not case.check:
        wrong += missing[:3]
        if not seen["launches"]:
            wrong.append("no kernel was launched")
    if code == 0 and case.check:
        wrong += case.check(out)
    seen["wrong"], seen["uncovered"] = wrong, missing
    return seen


def tests(target):
    """The test binaries by name: the newest of each."""
    found = {}
    for path in sorted((target / "release/deps").glob("*"), key=lambda p: p.stat().st_mtime):
        if path.is_file() and os.access(path, os.X_OK) and "." not in path.name and "-" in path.name:
            found[path.name.rsplit("-", 1)[0]] = path
    return found


def steps(path):
    return [row for row in map(json.loads, lines(path)) if row.get("kind") == "step"]


def follows_cpu(tolerances):
    """Losses and gradient norm of the run on CUDA beside those on the CPU, step by step."""

    def check(out):
        wrong = []
        pairs = list(zip(steps(out / "cpu/metrics.jsonl"), steps(out / "cuda/metrics.jsonl")))
        if len(pairs) < len(tolerances):
            return [f"{len(pairs)} steps of {len(tolerances)}"]
        for (cpu, cuda), allowed in zip(pairs, tolerances):
            for key in cpu:
                if not (key.startswith("loss") or key == "grad_norm") or not isinstance(cpu[key], float):
                    continue
                off = abs(cpu[key] - cuda[key]) / max(abs(cpu[key]), 1e-12)
                print(f"    step {cpu['step']} {key:>18}: CPU {cpu[key]:.7g}, CUDA {cuda[key]:.7g}, relative difference {off:.1e}")
                if allowed is not None and off > allowed:
                    wrong.append(f"step {cpu['step']}: {key} is {cuda[key]}, on the CPU {cpu[key]}")
        return wrong

    return check


def cases(args, folder):
    cli, built = args.target / "release/mrcnn-cli", tests(args.target)
    # Cases of the random tests: enough for every kind of input, few enough for the CPU.
    few = {"MRCNN_CASES": "300"}
    kernel = lambda name, sm, *more, seconds=240, **env: Case(f"kernels:{name}", sm, "f32", [built[name], "--test-threads=1", *more], env={**few, **env}, seconds=seconds, selects=False)
    names = ["top_k", "decode", "nms", "matching", "mask_targets", "paste", "roi_align", "layouts"]
    # Left out: long ones, and those whose inputs are empty, for which Burn itself asks the driver for 0 bytes.
    for name in names:
        yield kernel(name, 75, "--skip", "long_segments", "--skip", "large_", "--skip", "no_slots", "--skip", "no_regions")
    # f32 by the project's own kernels on sm_75; by Burn's convolutions and the epilogue on sm_80.
    yield kernel("layouts", 80, MOCK_SEED="7")
    yield kernel("conv3x3", 75, "whole_numbers", "two_runs", MRCNN_CASES="20")
    yield kernel("mrcnn_kernels", 80, "epilogue")
    yield Case("old-driver", 80, "f32", [built["layouts"], "--test-threads=1", "convolution"], cuda="old", seconds=240, selects=False)
    yield Case("doctor", 80, "-", [cli, "doctor"], mode="dry", check=no_advice)
    golden = pathlib.Path(os.environ.get("MRCNN_GOLDEN") or HERE.parents[2] / "shared/golden").resolve()
    library = lambda name, *more, seconds: Case(name, 75, "f32", [built["library"], "--test-threads=1", *more], env={"MRCNN_REQUIRE": "golden", "MRCNN_GOLDEN": str(golden)}, seconds=seconds)
    if golden.is_dir():
        yield library("golden-model", "model::tiny", "slots::", "kernels::", "stages::", "survival::a_step", seconds=900)
    else:
        print(f"SKIPPED: the golden model in the rig: {golden} is missing")
    if not ctypes.util.find_library("cuda"):
        yield no_driver(cli)
    for sm in [75, 80] if args.full else []:
        yield Case("precision", sm, "f16" if sm == 75 else "f16, bf16, tf32", [built["library"], "--test-threads=1", "--nocapture", "precision::inference"], seconds=900)
    yield kept_kernels(cli)
    yield train_beside_cpu(cli, 75, "f32", folder, [1e-5, 1e-4], gpus=2)
    if args.full:
        yield train_beside_cpu(cli, 75, "f32", folder, [1e-5, 1e-4])
        # As the tests on the CPU: a loss may be off by twice what was measured of its precision (docs/precision.md).
        for precision, tolerance in {"f16": 3e-2, "bf16": 6e-2, "tf32": 3e-2}.items():
            yield train_beside_cpu(cli, 80, precision, folder, [tolerance])
        if golden.is_dir():
            yield library("golden-step", "train_step::losses", seconds=3600)
        for sm in [70, 80, 86, 90]:
            for name in names:
                yield kernel(name, sm, MOCK_SEED=str(sm))
        for sm, precisions in {70: ["f32", "f16"], 75: ["f32", "f16"], 80: ["f32", "tf32", "f16", "bf16"], 86: ["f16", "bf16"], 90: ["f16", "bf16"]}.items():
            for precision in precisions:
                common = ["--backend", "cuda", "--precision", precision, "--warmup", 0, "--steps", 1]
                for batch in [1, 8]:
                    yield Case(f"inference-{batch}", sm, precision, [cli, "benchmark", "inference", "--batch-size", batch, *common], mode="dry", seconds=3600)
                yield Case("train-4", sm, precision, [cli, "benchmark", "train", "--batch-size", 4, *common], mode="dry", seconds=3600)


def no_advice(out):
    text = (out / "stdout").read_text()
    return [] if "NVRTC 12" in text and "cannot" not in text else [f"doctor prints: {text[-400:]}"]


def no_driver(cli):
    """A program with CUDA on a machine without a driver: `auto` takes another device, `cuda` is one error."""
    script = """unset LD_LIBRARY_PATH CUDA_PATH
run="$1 benchmark inference --config quickstart --warmup 0 --steps 1"
$run > auto 2>&1 || exit
$run --backend cuda > cuda 2>&1; echo "exit code $?" >> cuda"""

    def check(out):
        auto, cuda = (out / "auto").read_text(), (out / "cuda").read_text()
        wrong = [] if "backend: cpu" in auto else [f"auto prints: {auto[-300:]}"]
        is_error = "error: " in cuda and "NVIDIA" in cuda and "panicked" not in cuda and "exit code 1" in cuda
        return wrong + ([] if is_error else [f"--backend cuda prints: {cuda[-300:]}"])

    return Case("no-driver", 80, "-", ["bash", "-c", script, "no-driver", cli], mode="dry", check=check)


def kept_kernels(cli):
    """The same run twice: the second compiles and tunes nothing; then the kept kernels are deleted."""
    script = """rm -rf kernels first second
export MRCNN_KERNEL_CACHE=$PWD/kernels
for run in first second; do
    mkdir $run
    : > decisions.jsonl
    MOCK_OUT=$PWD/$run "$1" benchmark inference --config quickstart --backend cuda --precision f32 --warmup 0 --steps 1 || exit
    cp decisions.jsonl $run/
done
"$1" doctor --clear-kernels && ls kernels > left"""

    def check(out):
        wrong = []
        for what, of in {
            "compiled": lambda run: sum(not line.startswith("TOTAL") for line in lines(out / run / "nvrtc.tsv")),
            "tuned": lambda run: len(lines(out / run / "decisions.jsonl")),
        }.items():
            first, second = of("first"), of("second")
            print(f"    {what}: {first} in the first run, {second} in the second")
            if not first or second:
                wrong.append(f"{second} {what} in the second run, {first} in the first")
        return wrong + [f"--clear-kernels leaves {name}" for name in lines(out / "left")]

    return Case("kept-kernels", 75, "f32", ["bash", "-c", script, "kept-kernels", cli], mode="dry", seconds=1200, check=check)


def train_beside_cpu(cli, sm, precision, folder, tolerances, gpus=1):
    """Training steps of the quickstart network on the CPU backend, then the same in the rig, on one GPU or several."""
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "shapes"
    quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if not data.exists():
        subprocess.run([cli, "dataset", "shapes", "--out", data, "--train", "2", "--val", "2", "--size", "64", "96", "--seed", "1"], check=True, **quiet)
    options = ["--config", "quickstart", "--data", str(data)]
    for setting in ["image.min_size=64", "image.max_size=96", f"train.steps={len(tolerances)}", "train.batch_size=2", "train.replicas=1", "train.flip=0", "train.warmup_steps=0"]:
        options += ["--set", setting]
    script = 'rm -rf cpu cuda; cli=$1; shift; env -u LD_LIBRARY_PATH "$cli" train "$@" --precision f32 --backend cpu --out cpu > cpu.log 2>&1 && exec "$cli" train "$@" --precision "$PRECISION" --backend cuda --out cuda $GPUS'
    env = {"PRECISION": precision, "GPUS": f"--gpus {gpus}" if gpus > 1 else "", "MOCK_DEVICES": str(gpus), "MOCK_PER_PROCESS": str(int(gpus > 1))}
    name = "train" if gpus == 1 else f"train-{gpus}-ranks"
    return Case(name, sm, precision, ["bash", "-c", script, "train", cli, *options], seconds=1200, env=env, check=follows_cpu(tolerances))


def table(seen):
    heads = ["case", "sm", "precision", "mode", "seconds", "modules", "compiled", "refused", "problems", "launches", "executed", "not_executed", "tensor_cores"]
    rows = [[f"{row['tensor_cores']}/{row['tuned']}" if head == "tensor_cores" else str(row[head]) for head in heads] + ["ok" if not row["wrong"] else "FAILED"] for row in seen]
    widths = [max(len(row[i]) for row in [[*heads, "result"], *rows]) for i in range(len(heads) + 1)]
    for row in [[*heads, "result"], *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rig", type=pathlib.Path, required=True)
    parser.add_argument("--target", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--only", help="parts of names of cases, separated by commas")
    parser.add_argument("--full", action="store_true")
    args = parser.parse_args()
    args.rig, args.target = args.rig.resolve(), args.target.resolve()
    folder = (args.out or args.rig / "reports").resolve()
    seen = []
    for case in cases(args, folder):
        if args.only and not any(part in case.name for part in args.only.split(",")):
            continue
        print(f"-- {case.name} sm_{case.sm} {case.precision} ({case.mode})", flush=True)
        row = run(case, args.rig, folder)
        for wrong in row["wrong"]:
            print(f"    {wrong}")
        seen.append(row)
        (folder / "results.json").write_text(json.dumps(seen, indent=1))
    table(seen)
    failed = [row["case"] for row in seen if row["wrong"]]
    if failed or not seen:
        sys.exit(f"{len(failed)} of {len(seen)} cases failed: {', '.join(failed)} (reports in {folder})")


main()
