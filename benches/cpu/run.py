"""This project, torchvision and ONNX Runtime side by side on a CPU, in one call.

    cargo build --release --workspace --bins
    python benches/cpu/run.py --binary target/release/mrcnn-cli [--out results.json]

Every side gets the same weights, image, frozen layers and number of threads, and takes its turn in each
round; ratios are of medians, and above 1 mrcnn is faster. Detections of all sides are compared
one by one before anything is timed. Needs torch, torchvision, onnx and onnxruntime.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile

import numpy as np
from PIL import Image, ImageDraw

HERE = pathlib.Path(__file__).resolve().parent
PEER = [sys.executable, HERE / "torch_peer.py"]
SHAPES = {400: (400, 667), 800: (800, 1333), 1600: (1600, 2667)}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default="mrcnn-cli", type=str)
    parser.add_argument("--image", type=pathlib.Path, help="a photo; by default an image is rendered")
    parser.add_argument("--sizes", default="800", help="shorter sides: 400,800,1600")
    parser.add_argument("--batch-sizes", default="1", help="images per training step: 1,2")
    parser.add_argument("--threads", default="2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2, help="timed steps per turn")
    parser.add_argument("--sides", default="ours,nchw,nhwc,compiled,ort")
    parser.add_argument("--before", help="an older binary, timed as one more side")
    parser.add_argument("--modes", default="inference,train")
    parser.add_argument("--out", type=pathlib.Path, help="writes all figures as JSON")
    return parser.parse_args()


def run(command, threads):
    """Standard output and peak memory in MiB of a command that must succeed."""
    environment = {**os.environ, "RAYON_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    with tempfile.TemporaryFile() as output:
        command = [str(part) for part in command]
        child = subprocess.Popen(command, stdout=output, env=environment)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            raise subprocess.CalledProcessError(child.returncode, command)
        output.seek(0)
        return output.read().decode(), usage.ru_maxrss / 1024


def render(path, width=1333, height=800):
    """Overlapping shapes on a gradient, the same in every call."""
    random = np.random.default_rng(7)
    y, x = np.mgrid[0:height, 0:width]
    pixels = np.stack([x * 255 / width, y * 255 / height, (x + y) % 256], axis=2).astype(np.uint8)
    image = Image.fromarray(pixels)
    draw = ImageDraw.Draw(image)
    for index in range(60):
        cx, cy = random.integers(0, [width, height])
        rx, ry = random.integers(10, 150, 2)
        color = tuple(int(value) for value in random.integers(0, 256, 3))
        shape = draw.ellipse if index % 2 else draw.rectangle
        shape([cx - rx, cy - ry, cx + rx, cy + ry], fill=color)
    image.save(path)


def prepare(args, folder):
    """A dataset of one image with eight objects, and the weights for both sides."""
    data = folder / "data"
    (data / "images").mkdir(parents=True)
    photo = data / "images" / "photo.png"
    if args.image:
        Image.open(args.image).convert("RGB").save(photo)
    else:
        render(photo)
    width, height = Image.open(photo).size
    annotations = []
    for index in range(8):
        w, h = width // 8 + index * 11, height // 7 + index * 7
        x, y = (index * width // 9), (index * 3 % 8) * height // 10
        polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
        annotations.append({
            "id": index + 1, "image_id": 1, "category_id": index + 1, "iscrowd": 0,
            "bbox": [x, y, w, h], "area": w * h, "segmentation": [polygon],
        })
    coco = {
        "images": [{"id": 1, "file_name": "photo.png", "width": width, "height": height}],
        "annotations": annotations,
        "categories": [{"id": k, "name": f"class {k}"} for k in range(1, 91)],
    }
    (data / "annotations.json").write_text(json.dumps(coco))
    run([*PEER, "weights", "--out", folder / "weights.pth"], 2)
    (folder / "classes.txt").write_text("".join(f"class {k}\n" for k in range(1, 91)))
    weights = folder / "weights.safetensors"
    run([args.binary, "convert", folder / "weights.pth", "--out", weights,
         "--classes", folder / "classes.txt", "--set", "model.norm_eps=1e-5"], 2)
    return data, photo, weights


class Sides:
    """The command of each side."""

    def __init__(self, args, folder):
        self.args, self.folder = args, folder
        self.data, self.photo, self.weights = prepare(args, folder)
        self.onnx = {}

    def image_options(self, size):
        least, most = SHAPES[size]
        return ["--set", f"image.min_size={least}", "--set", f"image.max_size={most}"]

    def turn(self, side, mode, size, batch, threads):
        """Times in seconds, peak memory in MiB, and the other reports of the side."""
        if side in ("ours", "before"):
            return self.ours(side, mode, size, batch, threads)
        common = ["--image", self.photo, "--size", *SHAPES[size], "--threads", threads]
        common += ["--batch-size", batch, "--steps", self.args.steps]
        if side == "ort":
            command = ["ort", "--onnx", self.exported(size)]
        else:
            command = [mode, "--layout", "nchw" if side == "nchw" else "nhwc"]
            command += ["--compile", "--warmup", 2] if side == "compiled" else []
            command += ["--annotations", self.data / "annotations.json"]
        text, memory = run([*PEER, *command, *common], threads)
        found = json.loads(text.splitlines()[-1])
        return found["step_s"], memory, found

    def ours(self, side, mode, size, batch, threads):
        binary = self.args.binary if side == "ours" else self.args.before
        out = self.folder / "ours.json"
        command = [binary, "benchmark", mode, "--backend", "cpu", "--json", out]
        command += ["--weights", self.weights, "--data", self.data, "--batch-size", batch]
        command += ["--warmup", 1, "--steps", self.args.steps, *self.image_options(size)]
        if mode == "train":
            command += ["--set", "train.flip=0", "--set", "model.freeze_at=2"]
        _, memory = run(command, threads)
        result = json.loads(out.read_text())["results"][0]
        return [result["step_ms"]["p50"] / 1000], memory, result

    def exported(self, size):
        """The whole detector as ONNX, boxes and pasted masks included."""
        if size not in self.onnx:
            self.onnx[size] = self.folder / f"model-{size}.onnx"
            command = ["onnx", "--image", self.photo, "--size", *SHAPES[size]]
            run([*PEER, *command, "--out", self.onnx[size]], 2)
        return self.onnx[size]

    def detections(self, side, size, threads):
        if side != "ours":
            return self.turn(side, "inference", size, 1, threads)[2]["detections"]
        command = [self.args.binary, "predict", self.photo, "--weights", self.weights]
        command += ["--backend", "cpu", "--score", "0.05", "--format", "json"]
        command += ["--out", self.folder / "predict", *self.image_options(size)]
        text, _ = run(command, threads)
        return detections_of(text)


def detections_of(text):
    """The detections that `predict --format json` prints, with boxes as corners."""
    corners = lambda box: [box[0], box[1], box[0] + box[2], box[1] + box[3]]
    return [
        {"bbox": corners(each["bbox"]), "label": each["category_id"], "score": each["score"]}
        for each in json.loads(text)
    ]


def compare(ours, theirs, name):
    """Fails unless every detection has a match: equal label, score within 1e-3, corners within half a pixel."""
    if len(ours) != len(theirs):
        raise SystemExit(f"{name}: {len(theirs)} detections, ours {len(ours)}")
    rest = list(ours)
    for each in theirs:
        near = [
            other for other in rest
            if other["label"] == each["label"]
            and abs(other["score"] - each["score"]) < 1e-3
            and max(abs(a - b) for a, b in zip(other["bbox"], each["bbox"])) < 0.5
        ]
        if not near:
            raise SystemExit(f"{name}: no detection of ours is {each}")
        rest.remove(near[0])
    print(f"{name}: the same {len(theirs)} detections")


def settings(args):
    for mode in args.modes.split(","):
        for size in map(int, args.sizes.split(",")):
            for threads in map(int, args.threads.split(",")):
                batches = args.batch_sizes.split(",") if mode == "train" else ["1"]
                for batch in map(int, batches):
                    yield mode, size, threads, batch


def measure(args, sides, mode, size, threads, batch):
    names = [side for side in args.sides.split(",") if mode == "inference" or side != "ort"]
    names += ["before"] if args.before else []
    times, memory = {name: [] for name in names}, {name: 0 for name in names}
    for _ in range(args.rounds):
        for name in list(names):
            try:
                found, peak, _ = sides.turn(name, mode, size, batch, threads)
            except subprocess.CalledProcessError as error:
                print(f"{name}: left out, exit code {error.returncode}")
                names.remove(name)
                continue
            times[name] += found
            memory[name] = max(memory[name], peak)
    print(f"\n{mode}, shorter side {size}, batch {batch}, {threads} threads")
    print(f"{'side':>10}{'s per step':>24}{'median':>9}{'peak MiB':>10}{'theirs / ours':>15}")
    ours = statistics.median(times["ours"])
    rows = {}
    for name in names:
        median = statistics.median(times[name])
        spread = f"{min(times[name]):.3f} to {max(times[name]):.3f}"
        print(f"{name:>10}{spread:>24}{median:>9.3f}{memory[name]:>10.0f}{median / ours:>15.2f}")
        rows[name] = {"step_s": times[name], "peak_mib": memory[name], "ratio": median / ours}
    return {"mode": mode, "size": size, "batch": batch, "threads": threads, "sides": rows}


def cpu_model():
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except FileNotFoundError:
        return platform.processor()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    fields = {key.strip(): value.strip() for key, value in fields.items()}
    model = f"family {fields.get('cpu family')} model {fields.get('model')}"
    return f"{fields.get('model name', 'unknown')}, {model}, {os.cpu_count()} cores"


def main():
    args = arguments()
    # A run can take hours, so each result is printed at once.
    sys.stdout.reconfigure(line_buffering=True)
    print(f"{datetime.date.today()}, {cpu_model()}")
    with tempfile.TemporaryDirectory() as folder:
        sides = Sides(args, pathlib.Path(folder))
        size = int(args.sizes.split(",")[0])
        if "inference" in args.modes:
            mine = sides.detections("ours", size, 2)
            for side in args.sides.split(","):
                if side not in ("ours", "compiled"):
                    compare(mine, sides.detections(side, size, 2), side)
        results = []
        for setting in settings(args):
            results.append(measure(args, sides, *setting))
            if args.out:
                found = {"date": str(datetime.date.today()), "cpu": cpu_model(), "results": results}
                args.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
