"""Our loader beside a PyTorch DataLoader doing the same work, in turns, on one core each.

    cargo build --release --workspace --all-targets
    python benches/loader/run.py target/release/examples/loader ../shared/data/coco_ccby

Pictures a second by the clock and by seconds of the processor: on a machine that others use too the
second one is the fair one. Needs torch, torchvision, pycocotools and Pillow.
"""

import argparse
import json
import pathlib
import subprocess
import sys

PEER = pathlib.Path(__file__).with_name("torch_peer.py")


def measured(command):
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    common = [args.folder, args.passes]
    sides = {
        "ours": [args.binary, "batches", *common, 1],
        "DataLoader, Pillow": [sys.executable, PEER, *common, 0],
        "DataLoader, torchvision.io": [sys.executable, PEER, *common, 0, "--decode", "torchvision"],
    }
    found = {name: [] for name in sides}
    for _ in range(args.rounds):
        for name, command in sides.items():
            found[name].append(measured(command))
    assert len({r["objects"] for runs in found.values() for r in runs}) == 1, "not the same work"

    def best(name, key):
        return max(run["pictures"] / run[key] for run in found[name])

    print("| side | pictures/s | pictures per processor second | ours over it |\n|---|---|---|---|")
    for name in sides:
        per_core = best(name, "cpu_seconds")
        ratio = best("ours", "cpu_seconds") / per_core
        print(f"| {name} | {best(name, 'seconds'):.1f} | {per_core:.1f} | {ratio:.2f} |")
    decoded = {
        "ours": measured([args.binary, "decode", args.folder, 5]),
        "libjpeg-turbo": measured([sys.executable, PEER, args.folder, 5, 0, "--only-decode"]),
    }
    resized = measured([args.binary, "resize", 20])
    print(json.dumps({"decode": decoded, "resize": resized, "runs": found}, indent=1))


if __name__ == "__main__":
    main()
