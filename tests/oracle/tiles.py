"""Compares prediction in tiles with prediction of the whole image, on a rendered scene of 12,000 x 9,000 pixels.

    python3 tests/oracle/tiles.py target/release/mrcnn-cli runs/quickstart/run/best.safetensors /tmp/tiles

1,200 rendered images of 300 x 300 pixels become one (ffmpeg's filter `tile`), whose objects lie anywhere at the borders of the
tiles. Both runs shrink the scene by half and allow the same number of proposals per area. Printed are recall and mean mask
IoU of the objects (matched by class, best score first, at a mask IoU of 0.5), wall time, and peak memory of the process. Needs
ffmpeg, and 3 GB of memory for the whole image.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

CELL, COLUMNS, ROWS = 300, 40, 30
WIDTH, HEIGHT = CELL * COLUMNS, CELL * ROWS
TILE, OVERLAP = 2000, 0.25


def runs_of(counts):
    """The run lengths of a compressed COCO RLE, as in pycocotools' `rleFrString`."""
    found, at = [], 0
    while at < len(counts):
        value, shift, more = 0, 0, True
        while more:
            code = ord(counts[at]) - 48
            value |= (code & 31) << shift
            more, at, shift = code & 32, at + 1, shift + 5
            if not more and code & 16:
                value |= -1 << shift
        found.append(value + found[-2] if len(found) > 2 else value)
    return found


def columns_of(segmentation, x=0, y=0):
    """A mask as {column: [(first row, end row)]}, moved by x and y."""
    height, at, columns = segmentation["size"][0], 0, {}
    for index, run in enumerate(runs_of(segmentation["counts"])):
        end = at + run
        while index % 2 and at < end:
            column, row = divmod(at, height)
            length = min(end - at, height - row)
            columns.setdefault(column + x, []).append((row + y, row + y + length))
            at += length
        at = end
    return columns


def area_of(mask):
    return sum(end - start for spans in mask.values() for start, end in spans)


def iou_of(a, b):
    shared = 0
    for column in a.keys() & b.keys():
        for start, end in a[column]:
            shared += sum(max(0, min(end, other) - max(start, first)) for first, other in b[column])
    return shared / (area_of(a) + area_of(b) - shared)


class Object:
    def __init__(self, label, mask, score=1.0):
        rows = [row for spans in mask.values() for span in spans for row in span]
        self.label, self.mask, self.score = label, mask, score
        self.box = (min(mask), min(rows), max(mask) + 1, max(rows))

    def cells(self):
        x1, y1, x2, y2 = (int(side) // CELL for side in self.box)
        return [(x, y) for x in range(x1, x2 + 1) for y in range(y1, y2 + 1)]


def scene(program, folder):
    """Renders the scene and returns its objects."""
    shapes = ["dataset", "shapes", "--train", "1", "--val", str(COLUMNS * ROWS), "--seed", "7"]
    if not (folder / "scene.png").exists():
        subprocess.run([program, *shapes, "--size", "300", "300", "--out", folder / "shapes"], check=True)
        images = ["-i", folder / "shapes/val/%06d.png", "-vf", f"tile={COLUMNS}x{ROWS}", "-frames:v", "1"]
        subprocess.run(["ffmpeg", "-v", "error", *images, folder / "scene.png"], check=True)
    dataset = json.loads((folder / "shapes/annotations/instances_val.json").read_text())
    objects = []
    for entry in dataset["annotations"]:
        row, column = divmod(entry["image_id"] - 1, COLUMNS)
        objects.append(Object(entry["category_id"], columns_of(entry["segmentation"], column * CELL, row * CELL)))
    return objects


def predicted(program, weights, folder, name, options):
    """Runs `predict`, prints its time and its peak memory, and returns the detections."""
    out, started = folder / name, time.time()
    # A second run would write to another folder.
    shutil.rmtree(out, ignore_errors=True)
    command = [program, "predict", folder / "scene.png", "--weights", weights, "--backend", "cpu", "--save", "coco"]
    settings = [part for option in options[1:] for part in ("--set", option)]
    child = subprocess.Popen([*command, "--out", out, "--tile", options[0], "--overlap", str(OVERLAP), *settings])
    _, status, used = os.wait4(child.pid, 0)
    if status:
        sys.exit(f"{name}: mrcnn-cli failed")
    print(f"{name}: {time.time() - started:.0f} s, peak memory {used.ru_maxrss / 1e6:.2f} GB")
    records = json.loads((out / "detections.json").read_text())
    found = [(entry, columns_of(entry["segmentation"])) for entry in records]
    return [Object(entry["category_id"], mask, entry["score"]) for entry, mask in found if mask]


def matched(gt, found):
    """The mask IoU of each object with its detection; 0 without one."""
    places = {}
    for index, object in enumerate(gt):
        for cell in object.cells():
            places.setdefault(cell, []).append(index)
    best = [0.0] * len(gt)
    for object in sorted(found, key=lambda object: -object.score):
        near = {index for cell in object.cells() for index in places.get(cell, [])}
        near = [index for index in near if gt[index].label == object.label and not best[index]]
        ious = [(iou_of(gt[index].mask, object.mask), index) for index in near]
        iou, index = max(ious, default=(0, 0))
        if iou >= 0.5:
            best[index] = iou
    return best


def windows(length):
    """Start of the tiles along a side, as in core/src/predict/tiles/grid.rs."""
    step = TILE - round(TILE * OVERLAP)
    gaps = -(-(length - TILE) // step)
    return [(length - TILE) * index // gaps for index in range(gaps + 1)]


def tiles_of(object):
    """Number of tiles that have a part of an object."""
    x1, y1, x2, y2 = object.box
    columns = sum(x1 < x + TILE and x2 > x for x in windows(WIDTH))
    return columns * sum(y1 < y + TILE and y2 > y for y in windows(HEIGHT))


def is_cut(object):
    """Whether a tile border inside the scene cuts an object."""
    x1, y1, x2, y2 = object.box
    borders = [{x for start in windows(length) for x in (start, start + TILE)} for length in (WIDTH, HEIGHT)]
    return any(x1 < x < x2 for x in borders[0]) or any(y1 < y < y2 for y in borders[1])


def limits(proposals, detections):
    rpn = [f"model.rpn.{key}={proposals}" for key in ("pre_nms_test", "post_nms_test")]
    return [*rpn, f"model.roi.max_detections={detections}"]


def main():
    program, weights, folder = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve(), Path(sys.argv[3])
    folder.mkdir(parents=True, exist_ok=True)
    gt = scene(program, folder)
    # The preset has 200 proposals for images of up to 192 x 192 pixels, and 27 tiles have the area of the scene.
    runs = {
        "whole": ["0", "image.min_size=4500", "image.max_size=6000", *limits(97200, 16200)],
        "tiled": [str(TILE), "image.min_size=1000", "image.max_size=1000", *limits(3600, 600)],
    }
    tile_counts = [tiles_of(object) for object in gt]
    groups = {
        "all": [True] * len(gt),
        "cut by a border": [is_cut(object) for object in gt],
        "in one tile": [count == 1 for count in tile_counts],
        "in several tiles": [count > 1 for count in tile_counts],
    }
    for name in sys.argv[4:] or runs:
        found = predicted(program, weights, folder, name, runs[name])
        ious = matched(gt, found)
        print(f"{name}: {len(found)} detections")
        for group, chosen in groups.items():
            ious_of = [iou for iou, is_chosen in zip(ious, chosen) if is_chosen]
            hits = [iou for iou in ious_of if iou]
            recall, mean = len(hits) / len(ious_of), sum(hits) / len(hits)
            print(f"    {len(ious_of):5} objects {group:17} recall {recall:.4f}, mask IoU {mean:.4f}")


if __name__ == "__main__":
    main()
