"""Time and memory of every pretrained Mask R-CNN for one image of 800x1333 pixels on a CPU, in one call.

    cargo build --release --workspace --bins
    python benches/cpu/models.py --binary target/release/mrcnn-cli [--models v1,v2] [--out models.json]

The weights are generated in the layouts of torchvision and Detectron2 (`tests/oracle`), because only the architecture
matters; a low score threshold gives the mask head 100 detections, the maximum. torchvision's networks take their turns in each
round.

The time of an image is the time of a call with three copies of the image minus that of a call with one, divided by two. It
includes decoding, prediction, pasting and the files of `predict`, and excludes starting and loading. CPU time (of all
threads) is compared and not wall time, which other processes lengthen. The smallest time of the rounds is taken for each
call. The memory is the largest resident size of the call with one image. Needs torch and torchvision.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time

from run import render

PEER = [sys.executable, pathlib.Path(__file__).with_name("models_peer.py")]
# Names of the registry that have the same architecture, and the extension of their files.
MODELS = {
    "v1": (["maskrcnn_resnet50_fpn"], "pth"),
    "v2": (["maskrcnn_resnet50_fpn_v2"], "pth"),
    "detectron2_r50": (["mask_rcnn_R_50_FPN_1x", "mask_rcnn_R_50_FPN_3x"], "pkl"),
    "detectron2_r101": (["mask_rcnn_R_101_FPN_3x"], "pkl"),
    "detectron2_x101": (["mask_rcnn_X_101_32x8d_FPN_3x"], "pkl"),
}
# The settings of `models_peer.py`.
SETTINGS = ["model.roi.score_threshold=0.005", "image.min_size=800", "image.max_size=1333"]
IMAGES = (1, 3)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default="mrcnn-cli")
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=pathlib.Path, help="writes all figures as JSON")
    return parser.parse_args()


def call(command, threads):
    """CPU and wall time in seconds, peak memory in MiB, and the output of a command that must succeed.

    The peak that the system reports includes the memory of this process before the command replaces it, so this process must
    be small.
    """
    # Threads of OpenMP that wait for others use CPU time unless they are passive.
    variables = {"RAYON_NUM_THREADS": threads, "OMP_NUM_THREADS": threads, "OMP_WAIT_POLICY": "passive"}
    environment = os.environ | {name: str(value) for name, value in variables.items()}
    start = time.perf_counter()
    with tempfile.TemporaryFile() as output:
        child = subprocess.Popen([str(part) for part in command], stdout=output, env=environment)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read().decode()
    if child.returncode != 0:
        sys.exit(f"{command} failed")
    return {
        "processor": usage.ru_utime + usage.ru_stime,
        "wall": time.perf_counter() - start,
        "memory": usage.ru_maxrss / 1024,
        "text": text,
    }


def ours(args, folder, weights, photos):
    """The calls of a turn of this program, and its number of detections."""
    out = pathlib.Path(tempfile.mkdtemp(dir=folder)) / "out"
    options = ["--backend", "cpu", "--precision", "f32", "--save", "csv", "--score", "0"]
    for setting in SETTINGS:
        options += ["--set", setting]
    command = [args.binary, "predict", "--weights", weights, *options]
    calls = [call([*command, *photos[:count], "--out", f"{out}-{count}"], args.threads) for count in IMAGES]
    return calls, len(json.loads(pathlib.Path(f"{out}-1", "detections.json").read_text()))


def torchvisions(args, model, photos):
    """The calls of a turn of torchvision, and its number of detections."""
    calls = [call([*PEER, "predict", model, photos[0], count], args.threads) for count in IMAGES]
    return calls, int(calls[0]["text"])


def combine(turns):
    """The figures of an image, from the smallest of the rounds of each call."""
    one, several = (
        {kind: min(turn[index][kind] for turn in turns) for kind in ("processor", "wall", "memory")}
        for index in range(len(IMAGES))
    )
    more = IMAGES[1] - IMAGES[0]
    figures = {kind: round((several[kind] - one[kind]) / more, 2) for kind in ("processor", "wall")}
    return {**figures, "memory": round(one["memory"]), "first_call": round(one["processor"], 2)}


def measure(args, model, folder, photos):
    """The row of a model."""
    names, extension = MODELS[model]
    weights = folder / f"{model}.{extension}"
    call([*PEER, "weights", model, weights], args.threads)
    sides = {"ours": lambda: ours(args, folder, weights, photos)}
    if extension == "pth":
        sides["torchvision"] = lambda: torchvisions(args, model, photos)
    rounds = [{side: turn() for side, turn in sides.items()} for _ in range(args.rounds)]
    weights.unlink()
    row = {"names": names}
    for side in sides:
        row[side] = combine([turns[side][0] for turns in rounds])
        row[side]["detections"] = rounds[0][side][1]
    return row


def processor_name():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.processor()


def main():
    args = arguments()
    torch, torchvision = call([*PEER, "versions"], args.threads)["text"].split()
    report = {
        "date": datetime.date.today().isoformat(),
        "processor": processor_name(),
        "threads": args.threads,
        "rounds": args.rounds,
        "program": call([args.binary, "--version"], 1)["text"].strip(),
        "torch": torch,
        "torchvision": torchvision,
        "models": [],
    }
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        photos = [folder / f"photo{index}.png" for index in range(IMAGES[1])]
        for photo in photos:
            render(photo)
        for model in args.models.split(","):
            report["models"].append(measure(args, model, folder, photos))
            print(json.dumps(report["models"][-1]), flush=True)
    report["load"] = round(os.getloadavg()[2], 1)
    if args.out:
        args.out.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
