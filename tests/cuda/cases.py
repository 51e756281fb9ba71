"""The cases of the rig: commands with the architecture and precision, and what each must leave behind."""
import ctypes.util
import json
import os
import pathlib
import re
import subprocess

HERE = pathlib.Path(__file__).resolve().parent


class Case:
    """One command in the rig. `check` examines its folder afterwards and returns the problems; what it passes to its
    second argument is printed. `selects` is whether mrcnn-backends opens the device and configures CubeCL; tests of the
    kernels open it themselves."""

    def __init__(self, name, sm, precision, command, mode="exec", seconds=300, env=None, check=None, cuda="12", selects=True):
        self.selects = selects
        self.name, self.sm, self.precision, self.command = name, sm, precision, command
        self.mode, self.seconds, self.env, self.check, self.cuda = mode, seconds, env or {}, check, cuda


def read_lines(path):
    return path.read_text(errors="replace").splitlines() if path.exists() else []


def find_tests(target):
    """The test binaries by name: the newest of each."""
    found = {}
    for path in sorted((target / "release/deps").glob("*"), key=lambda p: p.stat().st_mtime):
        if path.is_file() and os.access(path, os.X_OK) and "." not in path.name and "-" in path.name:
            found[path.name.rsplit("-", 1)[0]] = path
    return found


def read_steps(path):
    return [row for row in map(json.loads, read_lines(path)) if row.get("kind") == "step"]


def compare_with(reference, tolerances):
    """Losses and gradient norm of the run on CUDA beside those of the run in the folder `reference`, step by step."""

    def check(out, note):
        wrong = []
        pairs = list(zip(read_steps(out / reference / "metrics.jsonl"), read_steps(out / "cuda/metrics.jsonl")))
        if len(pairs) < len(tolerances):
            return [f"{len(pairs)} steps of {len(tolerances)}"]
        for (expected, cuda), allowed in zip(pairs, tolerances):
            for key in expected:
                if not (key.startswith("loss") or key == "grad_norm") or not isinstance(expected[key], float):
                    continue
                off = abs(expected[key] - cuda[key]) / max(abs(expected[key]), 1e-12)
                note(f"step {cuda['step']} {key:>18}: {reference} {expected[key]:.7g}, CUDA {cuda[key]:.7g}, relative difference {off:.1e}")
                if off > allowed:
                    wrong.append(f"step {cuda['step']}: {key} is {cuda[key]}, in the run `{reference}` {expected[key]}")
        return wrong

    return check


def check_overlap(out, note, ranks, steps):
    """In each step, each rank must launch the backward pass of the backbone after it has enqueued the exchange of the
    gradients of the heads, and before it waits for it."""
    found = []
    for path in sorted(out.glob("*/launches.tsv")):
        # Launches after each exchange of gradients, until the next one or until the host waits for it.
        launches, after = 0, []
        rows = [line.split("\t") for line in read_lines(path)]
        streams = {row[3] for row in rows if row[0] == "nccl"}
        is_open = False
        for kind, *values in rows:
            launches += is_open and kind == "launch"
            # The sample counts are three numbers.
            is_sent = kind == "nccl" and values[0] == "AllReduce" and int(values[1]) > 3
            if is_open and (is_sent or kind == "sync" and values[0] in streams):
                after.append(launches)
                is_open = False
            if is_sent:
                launches, is_open = 0, True
        if streams:
            # Two exchanges per step, first the gradients of the heads: a bucket for each in a network of this size.
            found.append(after[::2] if len(after) == 2 * steps else [])
            note(f"launches while the gradients of the heads travel, in each step: {found[-1]}")
    if len(found) != ranks or any(not counts or min(counts) < 20 for counts in found):
        return [f"launches between the exchanges of heads and backbone, of {ranks} ranks and {steps} steps: {found}"]
    return []


def list_cases(args, folder):
    cli, built = args.target / "release/mrcnn-cli", find_tests(args.target)
    # Cases of the random tests: enough for every kind of input, few enough for the CPU.
    few = {"MRCNN_CASES": "300"}
    # With an empty cache, compilation alone takes ten minutes.
    make_kernel_case = lambda name, sm, *more, seconds=1800, **env: Case(f"kernels:{name}", sm, "f32", [built[name], "--test-threads=1", *more], env={**few, **env}, seconds=seconds, selects=False)
    names = ["top_k", "decode", "nms", "matching", "mask_targets", "paste", "roi_align", "layouts"]
    # Left out: long ones, and those whose inputs are empty, for which Burn itself asks the driver for 0 bytes.
    for name in names:
        yield make_kernel_case(name, 75, "--skip", "long_segments", "--skip", "large_", "--skip", "no_slots")
    # f32 by the project's own kernels on sm_75; on sm_80 by the fastest of them and CubeK's TF32 kernels, then the epilogue.
    yield make_kernel_case("layouts", 80, MOCK_SEED="7")
    yield make_kernel_case("conv3x3", 75, "whole_numbers", "two_runs", MRCNN_CASES="20")
    lists = ["fused_product::", "conv1x1::", "bottleneck::", "squares::", "prepare::", "update::", "class_loss::", "matching::", "boxes::", "sampling::", "decode::", "rpn_outputs::", "overwrite::"]
    yield make_kernel_case("mrcnn_kernels", 80, "epilogue", "every_candidate", "declines_is_replaced", "product_over_taps", "product_also_sums", "channel_sums", "without_elements", *lists)
    # The driver refuses tensor maps whose boxes are too large. Nothing executes them.
    yield Case("tensor-maps", 90, "f16", [built["mrcnn_kernels"], "--test-threads=1", "--nocapture", "no_candidate_is_refused"], mode="dry", seconds=900, check=check_candidate_launches, selects=False)
    # Sums in f16 or bf16 would round. Not on sm_75, where CubeCL's probe of bf16 does not compile.
    yield make_kernel_case("conv3x3", 80, "summed_in_f32")
    yield Case("old-driver", 80, "f32", [built["layouts"], "--test-threads=1", "convolution"], cuda="old", seconds=900, check=check_tuning, selects=False)
    yield Case("doctor", 80, "-", [cli, "doctor"], mode="dry", check=check_no_advice)
    golden = pathlib.Path(os.environ.get("MRCNN_GOLDEN") or HERE.parents[2] / "shared/golden").resolve()
    make_library_case = lambda name, *more, seconds: Case(name, 75, "f32", [built["library"], "--test-threads=1", *more], env={"MRCNN_REQUIRE": "golden", "MRCNN_GOLDEN": str(golden)}, seconds=seconds)
    if golden.is_dir():
        yield make_library_case("golden-model", "model::tiny", "slots::", "kernels::", "stages::", "survival::a_step", seconds=900)
    else:
        print(f"SKIPPED: the golden model in the rig: {golden} is missing")
    if not ctypes.util.find_library("cuda"):
        yield make_no_driver_case(cli)
    for sm in [75, 80] if args.full else []:
        yield Case("precision", sm, "f16" if sm == 75 else "f16, bf16, tf32", [built["library"], "--test-threads=1", "--nocapture", "precision::inference"], seconds=900)
    yield make_wrong_toolchain_case(cli)
    yield make_kept_kernels_case(cli)
    yield make_graph_case(cli, "inference")
    yield make_graph_case(cli, "train")
    yield make_recorded_case(cli, folder)
    yield make_resume_case(cli, folder, "f32")
    yield make_train_case(cli, 75, "f32", folder, [1e-5, 1e-5], gpus=2, settings=ALL_CANDIDATES)
    yield make_kernel_benchmark_case(cli)
    # The network of the quickstart with the channels of the FPN of R50-FPN, at the size of R50-FPN.
    large = ["--config", "quickstart", "--set", "image.min_size=800", "--set", "image.max_size=1344", "--set", "model.fpn_channels=256"]
    for sm in [75, 80]:
        yield make_dry_case("inference-quickstart", cli, sm, "f16", "inference", 1, *large, seconds=900)
    if args.full:
        yield make_resume_case(cli, folder, "f16")
        yield make_train_case(cli, 75, "f32", folder, [1e-5, 1e-4])
        # Measured: 5.1e-7 at most.
        yield make_train_case(cli, 75, "f32", folder, [1e-5] * 20, settings=WITHOUT_TIES)
        for gpus in [2, 4]:
            yield make_train_case(cli, 75, "f32", folder, [1e-5, 1e-5], gpus=gpus, reference="one-gpu", settings=ALL_CANDIDATES)
        # On the CPU backend the losses and the gradient norm of this step are off by 2e-4 at most in f16, 8e-4 in bf16.
        for precision, tolerance in {"f16": 1e-3, "bf16": 5e-3, "tf32": 1e-3}.items():
            yield make_train_case(cli, 80, precision, folder, [tolerance], settings=ALL_SAMPLED)
            # Layers with biases and frozen norms, whose kernels apply masks of ReLUs. AdamW would hide a wrong scale of
            # the gradients.
            yield make_train_case(cli, 80, precision, folder, [tolerance], settings=[*ALL_SAMPLED, *LINKED], name="linked")
        # Ranks with micro-batches, whose gradients are f16 and sent as f16.
        wire = ["train.wire=f16", "train.batch_size=4", "train.accumulate=2"]
        yield make_train_case(cli, 80, "f16", folder, [2e-3], gpus=2, settings=[*ALL_SAMPLED, *wire], name="wire")
        if golden.is_dir():
            yield make_library_case("golden-step", "train_step::losses", seconds=3600)
        for sm in [70, 80, 86, 90]:
            for name in names:
                yield make_kernel_case(name, sm, MOCK_SEED=str(sm))
        for sm, precisions in {70: ["f32", "f16"], 75: ["f32", "f16"], 80: ["tf32", "f16", "bf16"], 86: ["tf32", "f16", "bf16"], 90: ["tf32", "f16", "bf16"]}.items():
            for precision in precisions:
                for batch in [1, 8]:
                    yield make_dry_case(f"inference-{batch}", cli, sm, precision, "inference", batch)
                yield make_dry_case("train-4", cli, sm, precision, "train", 4)


def make_dry_case(name, cli, sm, precision, mode, batch, *more, seconds=3600):
    """A step of the benchmark, not executed."""
    command = [cli, "benchmark", mode, "--batch-size", batch, *more, "--backend", "cuda", "--precision", precision, "--warmup", 0, "--steps", 1]
    return Case(name, sm, precision, command, mode="dry", seconds=seconds)


SMALL = ["--config", "quickstart", "--set", "image.min_size=64", "--set", "image.max_size=96"]


def make_kernel_benchmark_case(cli):
    """The benchmark of single kernels, as a GPU machine runs it."""

    def check(out, note):
        kernels = json.loads((out / "kernels.json").read_text())["results"][0]["report"]["kernels"]
        note(f"{len(kernels)} kernels timed")
        return [] if len(kernels) > 50 else [f"only {len(kernels)} kernels were timed"]

    command = [cli, "benchmark", "kernels", *SMALL, "--backend", "cuda", "--precision", "f32", "--warmup", 0, "--steps", 1, "--json", "kernels.json"]
    # Not executed: the square product that measures the GPU's rate would take minutes.
    return Case("benchmark-kernels", 75, "f32", command, mode="dry", seconds=900, check=check)


def make_graph_case(cli, mode):
    """A step of `mode` recorded as a graph; the benchmark fails if the replay returns other detections, losses or
    gradients than launched kernels."""

    def check(out, note):
        totals = [line for line in read_lines(out / "report.tsv") if line.startswith("TOTAL")]
        captured = sum(int(line.split("captured ")[1].split(",")[0]) for line in totals)
        note(f"{captured} launches recorded")
        return [] if captured > 100 else [f"{captured} launches were recorded"]

    command = [cli, "benchmark", mode, "--graph", *SMALL, "--set", "model.roi.score_threshold=0.0", "--batch-size", 2, "--backend", "cuda", "--precision", "f32", "--warmup", 0, "--steps", 2]
    return Case(f"graph-{mode}", 75, "f32", command, seconds=900, check=check)


# Numbers of a step that differ between equal runs.
MEASURED = {"images_per_second", "data_wait", "seconds", "memory_mb", "device_memory_mb", "exchange"}


def find_differing_steps(runs, names):
    """A line for each step in which two runs have other values."""
    for one, other in zip(*runs, strict=True):
        differ = [key for key in one if key not in MEASURED and one[key] != other.get(key)]
        if differ:
            yield f"step {one['step']} of the {names[1]} run has other values than that of the {names[0]} one: {differ}"


def read_tensors(path):
    """The tensors of a safetensors file, without its header, which may have the time."""
    file = path.read_bytes()
    return file[8 + int.from_bytes(file[:8], "little") :]


def make_recorded_case(cli, folder):
    """A run whose steps are recorded as graphs and replayed is bit-equal to one that launches kernels one by one."""
    script = """rm -rf launched recorded; cli=$1; shift
"$cli" train "$@" --backend cuda --out launched || exit
exec "$cli" train "$@" --set train.graph=true --backend cuda --out recorded"""
    options = [*SMALL, "--precision", "f32", "--data", str(render_shapes(cli, folder))]
    for setting in ["train.steps=8", "train.batch_size=2", "train.replicas=1", "train.warmup_steps=4", "train.ema=0.5"]:
        options += ["--set", setting]

    def check(out, note):
        names = ["launched", "recorded"]
        totals = [line for line in read_lines(out / "report.tsv") if line.startswith("TOTAL")]
        replays = sum(int(line.split(" graphs ")[1].split()[0]) for line in totals)
        note(f"{replays} replays")
        # Two of eight steps are launched before the third is recorded, if all have one size.
        wrong = [] if replays >= 3 else [f"{replays} steps were replayed"]
        wrong += find_differing_steps([read_steps(out / name / "metrics.jsonl") for name in names], names)
        launched, replayed = (read_tensors(out / name / "last.safetensors") for name in names)
        return wrong + ([] if launched == replayed else ["the weights of both runs differ"])

    return Case("recorded", 75, "f32", ["bash", "-c", script, "recorded", cli, *options], seconds=1800, check=check)


def make_resume_case(cli, folder, precision):
    """A run that is resumed ends with the same bits. In f16 it starts from a loss scale that is four times too large: the
    classifier's bias has a gradient of 0.6 at first, and the largest f16 value is 65504. Two steps are skipped without a change, and the
    run is resumed after them."""
    overflows = precision == "f16"
    script = """rm -rf whole resumed kernels; cli=$1; shift
# The second process tunes nothing.
export MRCNN_KERNEL_CACHE=$PWD/kernels
"$cli" train "$@" --backend cuda --out whole || exit
cp -r whole resumed && rm -r resumed/checkpoints/0000000[3-9] resumed/best.safetensors resumed/last.safetensors
exec "$cli" train --backend cuda --resume resumed"""
    settings = ["train.steps=4", "train.batch_size=2", "train.replicas=1", "train.warmup_steps=0", "train.checkpoint_every=1", "train.keep_checkpoints=9", "train.ema=0.5"] + ["train.loss_scale=262144"] * overflows
    options = [*SMALL, "--precision", precision, "--data", str(render_shapes(cli, folder))]
    for setting in settings:
        options += ["--set", setting]

    def check(out, note):
        whole, resumed = (read_steps(out / run / "metrics.jsonl") for run in ["whole", "resumed"])
        skipped = [bool(step.get("skipped")) for step in whole]
        note(f"{sum(skipped)} of {len(whole)} steps skipped; loss scales {[step.get('loss_scale') for step in whole]}")
        wrong = [] if len(whole) == 4 and skipped[0] == overflows and not all(skipped) else [f"skipped steps: {skipped}"]
        for before, after in zip(whole, whole[1:]):
            if overflows and after["loss_scale"] != before["loss_scale"] * (0.5 if before.get("skipped") else 1):
                wrong.append(f"step {after['step']}: a loss scale of {after['loss_scale']} after {before['loss_scale']}")
        wrong += find_differing_steps([whole, resumed], ["whole", "resumed"])
        first, last = (out / f"whole/checkpoints/{step:08}/weights.safetensors" for step in [1, 4])
        if read_tensors(first) == read_tensors(last):
            wrong.append("no weight changed")
        for name in ["weights.safetensors", "ema.safetensors", "optimizer.safetensors"]:
            one, other = (out / run / "checkpoints/00000004" / name for run in ["whole", "resumed"])
            if read_tensors(one) != read_tensors(other):
                wrong.append(f"{name} of the resumed run differs")
        return wrong

    return Case("resume", 75, precision, ["bash", "-c", script, "resume", cli, *options], seconds=3600 if overflows else 900, env={"MOCK_PER_PROCESS": "1"}, check=check)


def check_tuning(out, note):
    """Tuning reads the clock of the driver, through a function that CUDA 12.8 renamed."""
    count = len(read_lines(out / "decisions.jsonl"))
    note(f"{count} operations were tuned")
    return [] if count else ["no operation was tuned"]


def check_candidate_launches(out, note):
    texts = [(out / name).read_text() for name in ["stdout", "stderr"] if (out / name).exists()]
    found = re.search(r"(\d+) candidates were launched", "".join(texts))
    note(found[0] if found else "the test did not run")
    return [] if found and int(found[1]) else ["no candidate was launched"]


def check_no_advice(out, note):
    text = (out / "stdout").read_text()
    return [] if "NVRTC 12" in text and "cannot" not in text else [f"doctor prints: {text[-400:]}"]


def is_one_error(text, words):
    """Whether a program printed one error, which has all of `words`, and ended with exit code 1."""
    errors = [line for line in text.splitlines() if line.startswith("error: ")]
    return len(errors) == 1 and all(word in errors[0] for word in words) and "exit code 1" in text and "panicked" not in text


def make_no_driver_case(cli):
    """A program with CUDA on a machine without a driver: `auto` takes another device, `cuda` is one error."""
    script = """unset LD_LIBRARY_PATH CUDA_PATH
run="$1 benchmark inference --config quickstart --warmup 0 --steps 1"
$run > auto 2>&1 || exit
$run --backend cuda > cuda 2>&1; echo "exit code $?" >> cuda"""

    def check(out, note):
        auto, cuda = (out / "auto").read_text(), (out / "cuda").read_text()
        wrong = [] if "backend: cpu" in auto else [f"auto prints: {auto[-300:]}"]
        return wrong + ([] if is_one_error(cuda, ["NVIDIA"]) else [f"--backend cuda prints: {cuda[-300:]}"])

    return Case("no-driver", 80, "-", ["bash", "-c", script, "no-driver", cli], mode="dry", check=check)


def make_wrong_toolchain_case(cli):
    """Headers, NVRTC and driver that do not fit together: one error with the fix, before a kernel is compiled."""
    wanted = {
        "no-header": ("CUDA_PATH=$PWD/empty", ["cuda_fp16.h", "nvidia-cuda-runtime-cu12"]),
        "newer-nvrtc": ("MOCK_DRIVER=12040", ["NVRTC is of CUDA 12.8", "CUDA 12.4"]),
        "volta": ("MOCK_SM=70 MOCK_DRIVER=13000 MOCK_NVRTC_VERSION=13.0", ["sm_70", "nvidia-cuda-nvrtc-cu12"]),
    }
    # A process that opens the GPU writes reports into the folder of MOCK_OUT.
    script = "rm -rf empty; mkdir -p empty/include\n" + "\n".join(
        f'env {environment} MOCK_OUT=$PWD/{name} "$1" benchmark inference --config quickstart --backend cuda > {name}.log 2>&1; echo "exit code $?" >> {name}.log'
        for name, (environment, _) in wanted.items()
    )

    def check(out, note):
        wrong = []
        for name, (_, words) in wanted.items():
            text = (out / f"{name}.log").read_text()
            if not is_one_error(text, words):
                wrong.append(f"{name} prints: {text[-400:]}")
        return wrong

    return Case("wrong-toolchain", 80, "-", ["bash", "-c", script, "wrong-toolchain", cli], mode="dry", check=check)


def make_kept_kernels_case(cli):
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

    # Counts requests to NVRTC, because the rig's own cache may have every source.
    def count_compiled(path):
        total = re.compile(r"TOTAL\tcompiled (\d+) in .* from cache (\d+),")
        return sum(int(count) for line in read_lines(path) if (found := total.match(line)) for count in found.groups())

    def check(out, note):
        wrong = []
        for what, of in {
            "compiled": lambda run: count_compiled(out / run / "nvrtc.tsv"),
            "tuned": lambda run: len(read_lines(out / run / "decisions.jsonl")),
        }.items():
            first, second = of("first"), of("second")
            note(f"{what}: {first} in the first run, {second} in the second")
            if not first or second:
                wrong.append(f"{second} {what} in the second run, {first} in the first")
        return wrong + [f"--clear-kernels leaves {name}" for name in read_lines(out / "left")]

    return Case("kept-kernels", 75, "f32", ["bash", "-c", script, "kept-kernels", cli], mode="dry", seconds=1200, check=check)


def render_shapes(cli, folder):
    """The folder of two rendered images for training and two for validation."""
    data = folder / "shapes"
    if not data.exists():
        folder.mkdir(parents=True, exist_ok=True)
        quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        subprocess.run([cli, "dataset", "shapes", "--out", data, "--train", "2", "--val", "2", "--size", "64", "96", "--seed", "1"], check=True, **quiet)
    return data


# Samples every proposal, so that no near-tie of two scores decides which ones.
ALL_CANDIDATES = [
    "model.width=8", "model.fpn_channels=16", "model.box_head.hidden=32", "model.mask_head.convs=[16]",
    "model.mask_head.hidden=16", "model.rpn.pre_nms_train=20", "model.rpn.post_nms_train=40", "model.roi.batch_per_image=256",
]


# For runs of many steps: nothing that amplifies rounding errors (tests/tests/mpi/main.rs has the reasons).
WITHOUT_TIES = ["train.optimizer=sgd", "train.learning_rate=0.002", *ALL_CANDIDATES]


# Bottlenecks, and layers that mask the gradients of their inputs.
LINKED = [
    "model.backbone=resnet50", "model.width=8", "model.norm=frozen_bn", "model.head_norm=none", "model.mask_head.convs=[32,32]",
    "train.optimizer=sgd", "train.learning_rate=0.002",
]

# For precisions that round: every anchor is a proposal and every proposal is sampled, so that no rounded score selects
# them. With the usual sampling, the box loss of the CPU backend in bf16 is up to 9 % off its f32 loss (12 seeds), in
# the rig 18 %.
ALL_SAMPLED = [
    "image.min_size=32", "image.max_size=48", "model.rpn.pre_nms_train=512", "model.rpn.post_nms_train=512",
    "model.rpn.nms_iou=1.0", "model.roi.batch_per_image=512",
]


def make_train_case(cli, sm, precision, folder, tolerances, gpus=1, reference="cpu", settings=(), name="train"):
    """Training steps of the quickstart network on the CPU backend or on one simulated GPU (`reference`), then the same steps
    on `gpus` simulated GPUs."""
    options = [*SMALL, "--data", str(render_shapes(cli, folder))]
    for setting in [f"train.steps={len(tolerances)}", f"train.batch_size={max(gpus, 2)}", "train.replicas=1", "train.flip=0", "train.warmup_steps=0", *settings]:
        options += ["--set", setting]
    first = {
        "cpu": 'env -u LD_LIBRARY_PATH "$cli" train "$@" --precision f32 --backend cpu',
        "one-gpu": 'MOCK_DEVICES=1 "$cli" train "$@" --precision "$PRECISION" --backend cuda',
    }[reference]
    script = f'rm -rf {reference} cuda; cli=$1; shift; {first} --out {reference} > {reference}.log 2>&1 && exec "$cli" train "$@" --precision "$PRECISION" --backend cuda --out cuda $GPUS'
    env = {"PRECISION": precision, "GPUS": f"--gpus {gpus}" if gpus > 1 else "", "MOCK_DEVICES": str(gpus), "MOCK_PER_PROCESS": str(int(gpus > 1 or reference != "cpu"))}
    compare = compare_with(reference, tolerances)
    check = compare if gpus == 1 else lambda out, note: compare(out, note) + check_overlap(out, note, gpus, len(tolerances))
    name = f"{name}-{len(tolerances)}-steps" if gpus == 1 else f"{name}-{gpus}-ranks"
    return Case(f"{name}-beside-{reference}", sm, precision, ["bash", "-c", script, "train", cli, *options], seconds=1800, env=env, check=check)
