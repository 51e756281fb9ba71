"""Runs mrcnn's CUDA backend in the rig and prints the results case by case.

usage: run.py --rig DIR --target DIR [--full] [--only NAME,...] [--sm NUMBER,...] [--precision NAME,...]
              [--jobs N] [--out DIR]

DIR of --target has the release binaries: mrcnn-cli and the test binaries of mrcnn-kernels and mrcnn-tests, built with
flex,cuda,fusion and without wgpu. `executed` cases run every kernel on the CPU and compare numbers; `dry` cases
compile, assemble and check every kernel and launch, and no kernel of the project may spill registers. Exits with 1 if a case fails."""
import argparse
import csv
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from cases import list_cases, read_lines

HERE = pathlib.Path(__file__).resolve().parent
# "enforced": every tensor has its own allocation, so that executed runs detect accesses beyond it and dry runs know the
# size of each buffer.
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
persistent_memory = "enforced"
"""


def make_environment(rig, case, out):
    """The rig's environment, as the file env sets it."""
    script = f'. "{HERE}/env" "{rig}"; env -0'
    text = subprocess.run(["bash", "-c", script], env={**os.environ, "MOCK_CUDA": case.cuda}, stdout=subprocess.PIPE, check=True).stdout
    env = dict(line.split("=", 1) for line in text.decode().split("\0") if "=" in line)
    env.update(MOCK_SM=str(case.sm), MOCK_OUT=str(out), MOCK_LAUNCH_LOG="1", MRCNN_TEST_BACKEND="cuda", RUST_BACKTRACE="0", MRCNN_WATCHDOG_S="0", MRCNN_KERNEL_CACHE="off", XDG_CACHE_HOME=str(out / "usual"))
    # Every dry run assembles; executed kernels are compiled by the host's compiler instead.
    env.update({"MOCK_EXEC": "1", "MOCK_PTXAS": ""} if case.mode == "exec" else {"MOCK_EXEC": "0", "MOCK_PTXAS": env["MOCK_ASSEMBLER"]})
    if case.mode != "exec":
        env["MOCK_MEMORY_GB"] = "400"
    env.update(case.env)
    return env


def read_reports(out, name):
    """The lines of a report of all processes of a case."""
    return [line for path in sorted(out.glob(f"**/{name}")) for line in read_lines(path)]


def find_own_kernels():
    """Names of the project's kernels."""
    kernels = HERE.parents[1] / "cubecl-kernels/src"
    pattern = re.compile(r"#\[cube\(launch[^)]*\)\]\s*(?:#\[[^\]]*\]\s*)*(?:pub(?:\([a-z]+\))? )?fn (\w+)")
    return {name for path in kernels.rglob("*.rs") for name in pattern.findall(path.read_text())}


def find_spills(out):
    """Kernels of the project whose registers ptxas spilled, of those that were launched."""
    own, wrong = find_own_kernels(), []
    for row in csv.DictReader(read_reports(out, "functions.tsv"), delimiter="\t"):
        name = re.sub(r"_(e_\w+_)?[0-9a-f]{8}$", "", row["name"])
        if (name in own or any(name.startswith(f"{kernel}_e_") for kernel in own)) and int(row["launches"] or 0) and int(row["spill_store"]) + int(row["spill_load"]):
            wrong.append(f"{row['name']} spills {row['spill_store']} bytes of registers with {row['regs']} registers")
    return wrong


def measure_coverage(out, precision):
    """Number of tuned convolutions and matrix products in the dtype of tensor cores, how many of them have a candidate on tensor
    cores that compiled and fits, and messages: one per operation without such a candidate, and one per matrix product that also
    has candidates without tensor cores, each of which NVRTC compiles for up to a minute."""
    total = covered = 0
    missing = []
    # Of f32 tensors, tensor cores multiply the first 11 bits, which is TF32.
    dtype = "T?F32" if precision == "tf32" else "B?F16"
    is_counted = re.compile(rf'"(dtype|elem_lhs)": (\{{"Float": )?"{dtype}"')
    for line in read_lines(out / "decisions.jsonl"):
        try:
            decision = json.loads(line)
        except ValueError:
            continue
        key = json.dumps(decision.get("key"))
        if not is_counted.search(key) or not any(part in key for part in ['"Conv', '"definition"', '"pass"']):
            continue
        names = [r["outcome"]["Ok"]["name"] for r in decision.get("results", []) if "Ok" in r.get("outcome", {})]
        if names == ["fused_matmul_fallback"]:
            # The product without the operations fused to it, which is tuned itself.
            continue
        total += 1
        if any("mma" in name.lower() for name in names):
            covered += 1
        else:
            missing.append(f"no candidate on tensor cores: {key[:400]}: {names}")
        if '"definition"' in key and any("unit" in name for name in names):
            missing.append(f"a candidate without tensor cores is compiled: {key[:400]}: {names}")
    return total, covered, missing


def run(case, rig, folder):
    out = folder / f"{case.name}-sm{case.sm}-{case.precision}"
    out.mkdir(parents=True, exist_ok=True)
    for old in [*out.glob("*"), *out.glob("*/*.tsv")]:
        if old.is_file():
            old.unlink()
    executed = case.mode == "exec"
    settings = dict(level="minimal" if executed else "balanced", exhaustive="false" if executed else "true")
    (out / "cubecl.toml").write_text(CUBECL.format(out=out, **settings))
    start = time.monotonic()
    with open(out / "stdout", "wb") as stdout, open(out / "stderr", "wb") as stderr:
        process = subprocess.Popen([str(part) for part in case.command], cwd=out, env=make_environment(rig, case, out), stdout=stdout, stderr=stderr, start_new_session=True)
        try:
            code = process.wait(case.seconds)
        except subprocess.TimeoutExpired:
            code = "timeout"
            # With its children: the command may be a script.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    took = time.monotonic() - start
    report, compiled = read_reports(out, "report.tsv"), read_reports(out, "nvrtc.tsv")
    count = lambda kind, where: sum(line.startswith(kind) for line in where)
    totals = [line for line in report if line.startswith("TOTAL")]
    number = lambda word: sum(int(re.search(rf"\b{word} (\d+)", line).group(1)) for line in totals)
    tuned, covered, missing = measure_coverage(out, case.precision)
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
    if not executed:
        wrong += find_spills(out)[:3]
    if executed and code == 0 and not seen["executed"]:
        wrong.append("no kernel was executed")
    if not executed and not case.check:
        wrong += missing[:3]
        if not seen["launches"]:
            wrong.append("no kernel was launched")
    notes = []
    if code == 0 and case.check:
        wrong += case.check(out, notes.append)
    seen.update(wrong=wrong, uncovered=missing, notes=notes)
    return seen


def print_table(seen):
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
    parser.add_argument("--sm", help="architectures, separated by commas")
    parser.add_argument("--precision", help="precisions, separated by commas")
    parser.add_argument("--full", action="store_true")
    # Kernels are executed by one thread of a process.
    parser.add_argument("--jobs", type=int, default=min(os.cpu_count() or 1, 8), help="cases that run at the same time")
    args = parser.parse_args()
    args.rig, args.target = args.rig.resolve(), args.target.resolve()
    folder = (args.out or args.rig / "reports").resolve()
    chosen = [case for case in list_cases(args, folder) if not args.only or any(part in case.name for part in args.only.split(","))]
    chosen = [case for case in chosen if not args.sm or str(case.sm) in args.sm.split(",")]
    chosen = [case for case in chosen if not args.precision or case.precision in args.precision.split(",")]
    seen = []
    with ThreadPoolExecutor(args.jobs) as pool:
        for case, row in zip(chosen, pool.map(lambda case: run(case, args.rig, folder), chosen)):
            print(f"-- {case.name} sm_{case.sm} {case.precision} ({case.mode}): {row['seconds']} s", flush=True)
            for line in [*row["notes"], *row["wrong"]]:
                print(f"    {line}")
            seen.append(row)
            (folder / "results.json").write_text(json.dumps(seen, indent=1))
    print_table(seen)
    failed = [row["case"] for row in seen if row["wrong"]]
    if failed or not seen:
        sys.exit(f"{len(failed)} of {len(seen)} cases failed: {', '.join(failed)} (reports in {folder})")


if __name__ == "__main__":
    main()
