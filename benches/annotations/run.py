#!/usr/bin/env python3
"""Opens an annotation file of COCO train2017's size with mrcnn and with pycocotools, in one run.

    pip install pycocotools
    cargo build --release --workspace --examples
    python benches/annotations/run.py target/release/examples/annotations /tmp/coco_size

Prints the medians over three alternating rounds: wall time of opening, CPU time of the whole process (on all cores,
user and system) and its largest resident memory. On a shared machine the CPU time is the fair comparison.
"""
import json
import os
import platform
import statistics
import subprocess
import sys

PEER = "import time, sys; from pycocotools.coco import COCO; t = time.time(); COCO(sys.argv[1]); " \
    "print(time.time() - t, file=sys.stderr)"


def cpu_model():
    try:
        with open("/proc/cpuinfo") as info:
            names = [line.split(":", 1)[1].strip() for line in info if line.startswith("model name")]
        return names[0]
    except (OSError, IndexError):
        return platform.processor()


def measured(command):
    """Standard output, standard error, CPU seconds and peak memory in GB of a command."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    out, err = process.stdout.read(), process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"{command}: {err}")
    return out, err, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e9


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    binary, folder = sys.argv[1:]
    file = os.path.join(folder, "annotations.json")
    if not os.path.exists(file):
        subprocess.run([binary, "generate", folder], check=True)
    print(f"{os.path.getsize(file) / 1e6:.0f} MB, {os.cpu_count()} cores of {cpu_model()}, "
          f"load {os.getloadavg()[0]:.1f} at the start")
    found = {"this project": [], "pycocotools": []}
    for _ in range(3):
        out, _, cpu_time, memory = measured([binary, "open", folder])
        found["this project"].append((json.loads(out)["seconds"], cpu_time, memory))
        _, err, cpu_time, memory = measured([sys.executable, "-c", PEER, file])
        found["pycocotools"].append((float(err.split()[-1]), cpu_time, memory))
    for name, runs in found.items():
        seconds, cpu_time, memory = (statistics.median(values) for values in zip(*runs))
        print(f"{name}: {seconds:.1f} s, {cpu_time:.1f} s of CPU time, {memory:.2f} GB")


if __name__ == "__main__":
    main()
