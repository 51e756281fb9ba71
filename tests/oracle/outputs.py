"""Reads the results of `mrcnn-cli predict --save ...` with the tools for which they are written.

    pip install pycocotools pillow numpy [labelme]
    mrcnn-cli predict photos --save coco-dataset,labelme,yolo,csv,label-maps,cutouts --out found
    python tests/oracle/outputs.py found

Checks that pycocotools, labelme, csv and PIL find the objects of detections.json. The exit status is 1 if one does not.
labelme's own loader is used if it is installed, and otherwise the fields that it requires are checked.
"""

import contextlib
import csv
import json
import pathlib
import sys

import numpy as np
from PIL import Image
from pycocotools import mask as masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

# Polygons for editing are simplified: an outline moves by at most a pixel, and pixels that it cuts fall to either side.
NEAR = 2


def grown(mask):
    """The mask and the pixels up to NEAR from it in rows and columns."""
    padded = np.pad(mask.astype(bool), NEAR)
    height, width = mask.shape
    places = range(2 * NEAR + 1)
    return np.any([padded[y : y + height, x : x + width] for y in places for x in places], axis=0)


def is_close(found, wanted):
    """Whether a simplified polygon has the mask: other pixels are near its outline, and it is not lost."""
    outline = grown(wanted) & grown(1 - wanted)
    return not np.any((found != wanted) & ~outline) and bool(found.any())


def coco(folder, results):
    dataset = COCO(str(folder / "coco_dataset.json"))
    assert len(dataset.anns) == len(results), (len(dataset.anns), len(results))
    for annotation, result in zip(dataset.loadAnns(sorted(dataset.anns)), results):
        assert annotation["category_id"] == result["category_id"]
        found = dataset.annToMask(annotation)
        assert is_close(found, masks.decode(result["segmentation"])), annotation["id"]
    found = dataset.loadRes(str(folder / "detections.json"))
    scores = COCOeval(dataset, found, "segm")
    with contextlib.redirect_stdout(None):
        scores.evaluate()
        scores.accumulate()
        scores.summarize()
    return f"{len(results)} objects, AP50 of the results against their polygons {scores.stats[1]:.3f}"


def labelme_loader():
    """labelme's function that reads a file, of version 6 or before; None without labelme."""
    try:
        from labelme._label_file import read_label_file

        return read_label_file
    except ImportError:
        pass
    try:
        from labelme.label_file import LabelFile

        return LabelFile
    except ImportError:
        return None


def labelme(folder, by_image):
    load = labelme_loader()
    files = sorted((folder / "labelme").glob("*.json"))
    assert len(files) == len(by_image), files
    for path, objects in zip(files, by_image):
        if load:
            shapes = load(str(path)).shapes
        else:
            data = json.loads(path.read_text())
            for key in ["version", "imageData", "imagePath", "shapes", "flags", "imageHeight", "imageWidth"]:
                assert key in data, key
            size = Image.open(path.parent / data["imagePath"]).size
            assert size == (data["imageWidth"], data["imageHeight"])
            shapes = data["shapes"]
        groups = {}
        for index, shape in enumerate(shapes):
            assert shape["shape_type"] == "polygon" and len(shape["points"]) >= 3
            groups.setdefault(shape["group_id"] or f"alone {index}", []).append(shape["points"])
        assert len(groups) == len(objects), (path, len(groups), len(objects))
        for polygons, result in zip(groups.values(), objects):
            height, width = result["segmentation"]["size"]
            rings = [np.ravel(ring).tolist() for ring in polygons]
            found = masks.decode(masks.merge(masks.frPyObjects(rings, height, width)))
            assert is_close(found, masks.decode(result["segmentation"])), path
    return f"{len(files)} files, {'with its loader' if load else 'its fields (labelme is not installed)'}"


def yolo(folder, by_image):
    names = sorted((folder / "yolo/labels/train").glob("*.txt"))
    for path, objects in zip(names, by_image, strict=True):
        lines = path.read_text().splitlines()
        assert len(lines) == len(objects), path
        for line, result in zip(lines, objects):
            height, width = result["segmentation"]["size"]
            points = np.array([float(v) for v in line.split()[1:]]).reshape(-1, 2)
            assert points.min() >= 0 and points.max() <= 1
            ring = (points * [width, height]).ravel().tolist()
            found = masks.decode(masks.merge(masks.frPyObjects([ring], height, width)))
            assert is_close(found, masks.decode(result["segmentation"])), path
    return f"{len(names)} files"


def table(folder, results):
    with open(folder / "detections.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row, result in zip(rows, results, strict=True):
        assert int(row["category_id"]) == result["category_id"]
        assert int(row["area"]) == int(masks.area(result["segmentation"]))
        assert abs(float(row["x1"]) - result["bbox"][0]) < 0.01
    return f"{len(rows)} rows"


def rasters(folder, by_image):
    count = 0
    for path, objects in zip(sorted((folder / "label_maps").glob("*.png")), by_image, strict=True):
        numbers = np.array(Image.open(path))
        assert numbers.dtype in (np.uint16, np.int32), numbers.dtype
        wanted = np.zeros_like(numbers)
        for index, result in reversed(list(enumerate(objects))):
            wanted[masks.decode(result["segmentation"]) == 1] = index + 1
        assert (numbers == wanted).all(), path
        for index, result in enumerate(objects):
            cutouts = list((folder / "cutouts").glob(f"{path.stem}_{index + 1:03}_*.png"))
            area = int(masks.area(result["segmentation"]))
            assert len(cutouts) == (area > 0), cutouts
            for cutout in cutouts:
                alpha = np.array(Image.open(cutout).getchannel("A"))
                assert (alpha == 255).sum() == area and set(np.unique(alpha)) <= {0, 255}
                count += 1
    return f"{len(by_image)} label maps, {count} cut-outs"


def main():
    folder = pathlib.Path(sys.argv[1])
    results = json.loads((folder / "detections.json").read_text())
    images = [image["id"] for image in json.loads((folder / "images.json").read_text()) if "error" not in image]
    by_image = [[result for result in results if result["image_id"] == image] for image in images]
    for name, summary in [
        ("pycocotools", coco(folder, results)),
        ("labelme", labelme(folder, by_image)),
        ("YOLO-seg", yolo(folder, by_image)),
        ("csv", table(folder, results)),
        ("PIL", rasters(folder, by_image)),
    ]:
        print(f"{name}: {summary}")


main()
