#!/usr/bin/env python3
"""Opens an annotation file of COCO train2017's size here and with pycocotools, in one run.

    pip install pycocotools
    cargo build --release --workspace --examples
    benches/annotations/run.py target/release/examples/annotations /tmp/coco_size

Prints the median wall time and the largest resident memory of each over three rounds.
"""
import json
import os
import statistics
import subprocess
import sys

PEER = "import time, sys; t = time.time(); from pycocotools.coco import COCO; t = time.time(); COCO(sys.argv[1]); " \
    "print(time.time() - t, file=sys.stderr)"


def measured(command):
    """Standard output, standard error and peak memory in GB of a command."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    out, err = process.stdout.read(), process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"{command}: {err}")
    return out, err, usage.ru_maxrss * 1024 / 1e9


def main():
    binary, folder = sys.argv[1:3]
    file = os.path.join(folder, "annotations.json")
    if not os.path.exists(file):
        subprocess.run([binary, "generate", folder], check=True)
    print(f"{os.path.getsize(file) / 1e6:.0f} MB, {os.cpu_count()} cores")
    found = {"this project": [], "pycocotools": []}
    for _ in range(3):
        out, _, memory = measured([binary, "open", folder])
        found["this project"].append((json.loads(out)["seconds"], memory))
        _, err, memory = measured([sys.executable, "-c", PEER, file])
        found["pycocotools"].append((float(err.split()[-1]), memory))
    for name, runs in found.items():
        seconds, memory = (statistics.median(values) for values in zip(*runs))
        print(f"{name}: {seconds:.1f} s, {memory:.2f} GB")


if __name__ == "__main__":
    main()
