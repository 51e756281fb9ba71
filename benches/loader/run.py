"""The loader of mrcnn beside a PyTorch DataLoader with the same work, alternating, one worker each.

    cargo build --release --workspace --all-targets
    python benches/loader/run.py target/release/examples/loader ../shared/data/coco_ccby

Prints images per second of wall time and of CPU time; on a shared machine CPU time is the fair comparison.
Needs torch, torchvision, pycocotools and Pillow.
"""

import argparse
import json
import pathlib
import subprocess
import sys

PEER = pathlib.Path(__file__).with_name("torch_peer.py")


def measure(command):
    process = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(process.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    common = [args.folder, args.passes]
    sides = {
        "mrcnn": [args.binary, "batches", *common, 1],
        "DataLoader, Pillow": [sys.executable, PEER, *common, 0],
        "DataLoader, torchvision.io": [sys.executable, PEER, *common, 0, "--decode", "torchvision"],
    }
    results = {name: [] for name in sides}
    for _ in range(args.rounds):
        for name, command in sides.items():
            results[name].append(measure(command))
    assert len({r["objects"] for runs in results.values() for r in runs}) == 1, "the sides processed different objects"

    def best(name, key):
        return max(run["images"] / run[key] for run in results[name])

    print("| side | img/s | images per CPU second | ratio of mrcnn to it |\n|---|---|---|---|")
    for name in sides:
        per_core = best(name, "cpu_seconds")
        ratio = best("mrcnn", "cpu_seconds") / per_core
        print(f"| {name} | {best(name, 'seconds'):.1f} | {per_core:.1f} | {ratio:.2f} |")
    decoded = {
        "mrcnn": measure([args.binary, "decode", args.folder, 5]),
        "libjpeg-turbo": measure([sys.executable, PEER, args.folder, 5, 0, "--only-decode"]),
    }
    resized = measure([args.binary, "resize", 20])
    print(json.dumps({"decode": decoded, "resize": resized, "runs": results}, indent=1))


if __name__ == "__main__":
    main()
