"""Measures mrcnn on a GPU beside PyTorch, in order of value, within a time budget; see README.md here.

    python benches/gpu/run.py --binary mrcnn-cli --out results.json [--budget-s 1700] [--limit-s 580]

Every result is written to the JSON file as soon as it is available. The same command continues where an earlier one stopped:
it exits with 75 while stages are left, 0 once all are done and parity holds, 1 if a comparison failed. `--dry-run` does the
same on the CPU with small images.
"""

import argparse
import datetime
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
EXIT_INCOMPLETE = 75


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default="mrcnn-cli", help="mrcnn-cli built with the feature cuda")
    parser.add_argument("--tests", type=pathlib.Path, help="folder of the built test binaries of mrcnn-kernels")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("results.json"))
    parser.add_argument("--budget-s", type=float, default=1700, help="seconds for all calls together")
    parser.add_argument("--limit-s", type=float, default=580, help="seconds for this call")
    parser.add_argument("--only", help="names of stages, separated by commas")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--dry-run", action="store_true", help="small images, on the CPU")
    args = parser.parse_args()
    args.backend, args.device, args.size, args.warmup = "cuda", "cuda", (800, 1344), 5
    if args.dry_run:
        args.backend, args.device, args.size, args.warmup, args.steps = "cpu", "cpu", (64, 96), 1, 2
    return args


class Runner:
    """Runs commands within the time left and keeps their results."""

    def __init__(self, args):
        self.args = args
        self.results = {"stages": {}, "seconds": 0.0}
        if args.out.exists():
            self.results = json.loads(args.out.read_text())
        self.start = time.monotonic()
        self.spent = self.results["seconds"]

    def left(self):
        passed = time.monotonic() - self.start
        return min(self.args.limit_s - passed, self.args.budget_s - self.spent - passed)

    def save(self):
        self.results["seconds"] = self.spent + time.monotonic() - self.start
        partial = self.args.out.with_suffix(".partial")
        partial.write_text(json.dumps(self.results, indent=1))
        partial.replace(self.args.out)

    def command(self, command, env=None):
        """Exit code and standard output; the code is None if time ran out."""
        command = [str(part) for part in command]
        try:
            process = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=max(self.left(), 1), env={**os.environ, **(env or {})})
            return process.returncode, process.stdout
        except subprocess.TimeoutExpired as error:
            output = error.stdout or b""
            return None, output.decode(errors="replace") if isinstance(output, bytes) else output

    def stage(self, name, seconds, work):
        """Runs a stage that is not done and fits the time left. A stage that ran out of time is run once more by the next
        call; kernels that it tuned are in CubeCL's cache."""
        done = self.results["stages"].get(name)
        if self.args.only and name not in self.args.only.split(","):
            return
        if done and (done["finished"] or done["tries"] > 1):
            return
        if self.left() < min(seconds, self.args.limit_s - 20):
            self.results["stages"].setdefault(name, {"finished": False, "tries": 0, "result": None})
            self.save()
            return
        print(f"== {name} ({self.left():.0f} s left)", flush=True)
        start = time.monotonic()
        finished, result = work()
        tries = (done or {"tries": 0})["tries"] + 1
        took = round(time.monotonic() - start, 1)
        self.results["stages"][name] = {"finished": finished, "tries": tries, "seconds": took, "result": result}
        self.save()
        print(json.dumps(result, indent=1)[:3000], flush=True)


def gpu_name():
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,clocks.max.sm", "--format=csv,noheader"]
    try:
        return subprocess.run(query, stdout=subprocess.PIPE, text=True).stdout.strip()
    except FileNotFoundError:
        return "no NVIDIA driver"


def precisions(runner):
    """Precisions to measure, of which the first is compared with torchvision first: those of the device as `doctor` lists
    them, TF32 or f32 before the others."""
    if runner.args.dry_run:
        return ["f32", "bf16"]
    _, output = runner.command([runner.args.binary, "doctor", "--format", "json"])
    backend = next(backend for backend in json.loads(output)["backends"] if backend["kind"] == runner.args.backend)
    return sorted(backend["devices"][0]["precisions"], key=["tf32", "f32", "f16", "bf16"].index)


def doctor(runner):
    code, output = runner.command([runner.args.binary, "doctor"])
    return code is not None, {"passed": code == 0, "output": output.splitlines()}


def kernel_tests(runner):
    """Every kernel beside its CPU version."""
    results = {"passed": True}
    names = ["layouts", "top_k", "decode", "nms", "matching", "mask_targets", "roi_align", "paste", "conv3x3"]
    for name in names:
        binaries = sorted(runner.args.tests.glob(f"{name}-*")) if runner.args.tests else []
        binaries = [path for path in binaries if path.suffix == "" and os.access(path, os.X_OK)]
        if not binaries:
            results[name] = "not built"
            continue
        env = {"MRCNN_TEST_BACKEND": "cuda", "MRCNN_CASES": "1000"}
        code, output = runner.command([binaries[-1], "--test-threads=1"], env)
        results[name] = {"code": code, "output": output.splitlines()[-30:]}
        results["passed"] &= code == 0
        if code is None:
            return False, results
    return True, results


def parity(runner, precision):
    """Detections, one training step and weights beside torchvision's."""
    args = runner.args
    command = [sys.executable, ROOT / "tests/oracle/compare.py", args.binary]
    code, output = runner.command([*command, "--backend", args.backend, "--precision", precision])
    return code is not None, {"passed": code == 0, "output": output.splitlines()}


def weights(runner):
    """A file with the recipe's weights: both sides load it, so that both have the same detections."""
    path = runner.args.out.resolve().parent / "recipe-weights.safetensors"
    if not path.exists():
        code = "import recipe, sys; from safetensors.torch import save_file; save_file(recipe.model(\"v1\", 1, 91).state_dict(), sys.argv[1])"
        env = {"PYTHONPATH": str(ROOT / "tests/oracle")}
        runner.command([sys.executable, "-c", code, path], env)
    return path


def settings(args):
    values = [f"image.min_size={min(args.size)}", f"image.max_size={max(args.size)}", "model.norm_eps=1e-5", "model.roi.score_threshold=0.02"]
    return [part for value in values for part in ("--set", value)]


def ours(runner, mode, precision, sizes, *options):
    """Results of `mrcnn-cli benchmark`, one process for all batch sizes."""
    args = runner.args
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "result.json"
        command = [args.binary, "benchmark", mode, "--backend", args.backend, "--json", out, "--precision", precision]
        command += ["--weights", weights(runner), "--batch-size", sizes, "--warmup", args.warmup, "--steps", args.steps]
        code, output = runner.command([*command, *settings(args), *options])
        result = {"code": code, "output": output.splitlines()}
        if out.exists():
            result["results"] = json.loads(out.read_text())["results"]
    return code is not None, result


def peer(runner, mode, precision, sizes, compiled):
    """torchvision with the same weights, frozen layers and classes, one process per batch size."""
    args = runner.args
    results = {}
    for size in sizes.split(","):
        command = [sys.executable, HERE / "torch_peer.py", mode, "--device", args.device, "--weights", weights(runner)]
        command += ["--batch-size", size, "--dtype", precision, "--steps", args.steps]
        command += ["--height", args.size[0], "--width", args.size[1], "--warmup", args.warmup]
        code, output = runner.command(command + (["--compile"] if compiled else []))
        results[size] = json.loads(output.splitlines()[-1]) if code == 0 else {"code": code}
        if code is None:
            return False, results
    return True, results


def kernels(runner, precision, batch_size):
    """Each layer and operator of a training step alone, beside the time of its bytes and operations at the rates of the GPU."""
    args = runner.args
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "result.json"
        command = [args.binary, "benchmark", "kernels", "--backend", args.backend, "--json", out, "--precision", precision]
        code, output = runner.command([*command, "--batch-size", batch_size, "--warmup", args.warmup, "--steps", args.steps])
        result = {"code": code, "output": output.splitlines()}
        if out.exists():
            result["results"] = json.loads(out.read_text())["results"]
    return code is not None, result


def stages(runner):
    """All stages in order of value, with the minimum number of seconds for each."""
    is_dry = runner.args.dry_run
    exact, half, *others = precisions(runner)
    small, most = ("1", "1,2") if is_dry else ("4", "1,2,4,8,16")
    runner.stage("doctor", 5, lambda: doctor(runner))
    if not is_dry:
        runner.stage("kernel tests", 60, lambda: kernel_tests(runner))
    runner.stage(f"parity {exact}", 60, lambda: parity(runner, exact))
    runner.stage(f"parity {half}", 60, lambda: parity(runner, half))
    runner.stage(f"train {half} batch {small}", 120, lambda: ours(runner, "train", half, small))
    runner.stage(f"torch train {half} batch {small}", 60, lambda: peer(runner, "train", half, small, False))
    runner.stage(f"inference {half} batch 1", 60, lambda: ours(runner, "inference", half, "1"))
    runner.stage(f"torch inference {half} batch 1", 30, lambda: peer(runner, "inference", half, "1", False))
    if is_dry:
        return
    runner.stage(f"train {half} profile", 60, lambda: ours(runner, "train", half, small, "--profile"))
    for precision in others:
        runner.stage(f"parity {precision}", 60, lambda: parity(runner, precision))
    runner.stage("torch train f16 batch 4 compiled", 120, lambda: peer(runner, "train", "f16", "4", True))
    runner.stage("torch inference f16 batch 1 compiled", 60, lambda: peer(runner, "inference", "f16", "1", True))
    runner.stage(f"kernels {half}", 120, lambda: kernels(runner, half, small))
    for mode, sizes in [("train", "4"), ("inference", "1,8")]:
        runner.stage(f"{mode} graph", 60, lambda: ours(runner, mode, "f16", sizes, "--graph"))
    for mode in ["train", "inference"]:
        for precision in [half, exact, *others]:
            runner.stage(f"{mode} {precision} all batches", 120, lambda: ours(runner, mode, precision, most))
            runner.stage(f"torch {mode} {precision} all batches", 120, lambda: peer(runner, mode, precision, most, False))


def main():
    runner = Runner(arguments())
    runner.results.setdefault("date", datetime.date.today().isoformat())
    runner.results.setdefault("gpu", gpu_name())
    stages(runner)
    runner.save()
    all_stages = runner.results["stages"]
    failed = [name for name, stage in all_stages.items() if isinstance(stage["result"], dict) and stage["result"].get("passed") is False]
    failed += [name for name, stage in all_stages.items() if stage["finished"] and isinstance(stage["result"], dict) and stage["result"].get("code", 0) != 0]
    left = [name for name, stage in all_stages.items() if not stage["finished"] and stage["tries"] < 2]
    for name in failed:
        print(f"FAILED: {name}")
    if left and runner.args.budget_s > runner.results["seconds"] + 30:
        print(f"left: {', '.join(left)}; run the same command again")
        sys.exit(EXIT_INCOMPLETE)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
