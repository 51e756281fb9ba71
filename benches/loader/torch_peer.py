"""Images per second of a PyTorch DataLoader; prints one line of JSON.

    python benches/loader/torch_peer.py DIR PASSES WORKERS [--decode torchvision]

The same work as `loader batches`: decode, masks, flip, resize to 800/1333, normalize, batches of 2 padded to a
multiple of 32. Resizing, normalization and padding are torchvision's GeneralizedRCNNTransform. Polygons are
converted to run lengths once at the start, as in mrcnn, and masks are decoded by pycocotools.
"""

import argparse
import json
import pathlib
import random
import resource
import time

import numpy
import torch
import torchvision
from PIL import Image
from pycocotools import mask as rle
from pycocotools.coco import COCO
from torchvision.models.detection.transform import GeneralizedRCNNTransform


class CocoImages(torch.utils.data.Dataset):
    def __init__(self, folder, decode):
        coco = COCO(folder / "annotations.json")
        self.images = [coco.imgs[key] for key in sorted(coco.imgs)]
        self.folder, self.decode = folder / "images", decode
        self.objects = {}
        for image in self.images:
            annotations = coco.loadAnns(coco.getAnnIds(image["id"], iscrowd=False))
            boxes = [[x, y, x + w, y + h] for x, y, w, h in (a["bbox"] for a in annotations)]
            masks = [coco.annToRLE(annotation) for annotation in annotations]
            labels = [annotation["category_id"] for annotation in annotations]
            self.objects[image["id"]] = boxes, labels, masks
        self.transform = GeneralizedRCNNTransform(
            800, 1333, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
        ).train()

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        entry = self.images[index]
        path = self.folder / entry["file_name"]
        if self.decode == "torchvision":
            pixels = torchvision.io.decode_jpeg(
                torchvision.io.read_file(str(path)), torchvision.io.ImageReadMode.RGB
            )
        else:
            array = numpy.array(Image.open(path).convert("RGB"))
            pixels = torch.from_numpy(array).permute(2, 0, 1)
        image = pixels.float().div_(255)
        boxes, labels, masks = self.objects[entry["id"]]
        boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
        if masks:
            masks = torch.from_numpy(rle.decode(masks)).permute(2, 0, 1)
        else:
            masks = torch.zeros(0, *image.shape[1:], dtype=torch.uint8)
        if random.random() < 0.5:
            image, masks = image.flip(-1), masks.flip(-1)
            boxes[:, [0, 2]] = image.shape[-1] - boxes[:, [2, 0]]
        target = {"boxes": boxes, "labels": torch.tensor(labels), "masks": masks}
        image, target = self.transform.resize(self.transform.normalize(image), target)
        return image, target


def decode_all(dataset, rounds):
    fastest = float("inf")
    for _ in range(rounds):
        used = time.process_time()
        for entry in dataset.images:
            data = torchvision.io.read_file(str(dataset.folder / entry["file_name"]))
            torchvision.io.decode_jpeg(data, torchvision.io.ImageReadMode.RGB)
        fastest = min(fastest, time.process_time() - used)
    print(json.dumps({"decode_ms": round(fastest * 1e3 / len(dataset.images), 2)}))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("passes", type=int)
    parser.add_argument("workers", type=int, help="0 loads in this process")
    parser.add_argument("--decode", choices=["pil", "torchvision"], default="pil")
    parser.add_argument("--only-decode", action="store_true", help="time the decoder of torchvision.io alone")
    args = parser.parse_args()
    # A DataLoader worker has one thread, so this process gets one as well.
    torch.set_num_threads(1)
    dataset = CocoImages(args.folder, args.decode)
    if args.only_decode:
        return decode_all(dataset, args.passes)

    def collate(samples):
        images, targets = zip(*samples)
        return dataset.transform.batch_images(list(images), 32), targets

    loader = torch.utils.data.DataLoader(
        dataset, 2, shuffle=True, num_workers=args.workers, collate_fn=collate
    )
    count = objects = 0
    for number in range(args.passes + 1):
        if number == 1:
            started, count = time.perf_counter(), 0
            used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
        for images, targets in loader:
            count += len(targets)
            objects += sum(len(target["labels"]) for target in targets)
    seconds = time.perf_counter() - started
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2]) - used
    # Workers end with their pass, so CPU time is known only without workers.
    used = None if args.workers else round(used, 2)
    print(json.dumps({"images": count, "seconds": round(seconds, 3), "cpu_seconds": used, "objects": objects}))


if __name__ == "__main__":
    main()
