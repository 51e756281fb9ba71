"""The quickstart's network on a CPU, trained by this project and by torchvision, in one call.

    mrcnn-cli quickstart --out /tmp/quickstart
    python benches/cpu/small.py --binary target/release/mrcnn-cli --quickstart /tmp/quickstart

The quickstart's weights have torchvision's names and are loaded with strict=True, so that both sides have the same layers; before anything is timed, both must find the same objects. Every side takes its turn in each round, with
batches of 4 images of the quickstart's dataset, AdamW and clipped gradients; a ratio above 1 is ours ahead. Needs torch,
torchvision and pycocotools.
"""

import argparse
import json
import pathlib
import statistics
import sys
import tempfile
import time

import numpy as np
import run as full
import torch
from PIL import Image
from torch import nn
from torchvision.models.detection import MaskRCNN, backbone_utils, faster_rcnn, mask_rcnn, rpn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.resnet import BasicBlock

WIDTH, CHANNELS, CLASSES, SIZE = 20, 32, 5, (128, 192)


def norm(channels):
    """Group norm with the largest number of groups up to 32 that divides the channels."""
    return nn.GroupNorm(max(groups for groups in range(1, 33) if channels % groups == 0), channels)


class Body(nn.Sequential):
    """ResNet-18 with `WIDTH` channels in place of 64."""

    def __init__(self):
        super().__init__()
        self.add_module("conv1", nn.Conv2d(3, WIDTH, 7, 2, 3, bias=False))
        self.add_module("bn1", norm(WIDTH))
        self.add_module("relu", nn.ReLU(inplace=True))
        self.add_module("maxpool", nn.MaxPool2d(3, 2, 1))
        channels = WIDTH
        for stage in range(4):
            planes, stride = WIDTH << stage, 1 if stage == 0 else 2
            shortcut = None
            if stride != 1:
                shortcut = nn.Sequential(nn.Conv2d(channels, planes, 1, stride, bias=False), norm(planes))
            first = BasicBlock(channels, planes, stride, shortcut, norm_layer=norm)
            self.add_module(f"layer{stage + 1}", nn.Sequential(first, BasicBlock(planes, planes, norm_layer=norm)))
            channels = planes


def model(args):
    torch.manual_seed(0)
    layers = {f"layer{stage + 1}": str(stage) for stage in range(4)}
    backbone = backbone_utils.BackboneWithFPN(
        Body(), layers, [WIDTH << stage for stage in range(4)], CHANNELS, norm_layer=norm
    )
    found = MaskRCNN(
        backbone,
        min_size=SIZE[0], max_size=SIZE[1], image_mean=[0.5] * 3, image_std=[0.25] * 3,
        rpn_anchor_generator=AnchorGenerator(tuple((size,) for size in (16, 32, 64, 96, 128)), ((0.5, 1.0, 2.0),) * 5),
        rpn_head=rpn.RPNHead(CHANNELS, 3),
        rpn_pre_nms_top_n_train=200, rpn_pre_nms_top_n_test=200,
        rpn_post_nms_top_n_train=200, rpn_post_nms_top_n_test=100,
        rpn_batch_size_per_image=128, box_batch_size_per_image=64,
        box_head=faster_rcnn.TwoMLPHead(CHANNELS * 49, 128),
        box_predictor=faster_rcnn.FastRCNNPredictor(128, CLASSES),
        mask_head=mask_rcnn.MaskRCNNHeads(CHANNELS, (CHANNELS, CHANNELS), 1, norm_layer=norm),
        mask_predictor=mask_rcnn.MaskRCNNPredictor(CHANNELS, CHANNELS, CLASSES),
    )
    found.load_state_dict(tensors(args.weights), strict=True)
    if args.peer != "nchw":
        found = found.to(memory_format=torch.channels_last)
    if args.peer == "compiled":
        found.backbone = torch.compile(found.backbone)
    return found


def tensors(path):
    """The tensors of a safetensors file, all f32."""
    data = pathlib.Path(path).read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    entries = json.loads(data[8:start])
    entries.pop("__metadata__", None)
    return {
        name: torch.frombuffer(bytearray(data[start:][slice(*entry["data_offsets"])]), dtype=torch.float32).view(entry["shape"])
        for name, entry in entries.items()
    }


def samples(folder):
    """Images and targets of a COCO dataset's training split."""
    from pycocotools.coco import COCO

    coco = COCO(folder / "annotations/instances_train.json")
    for image in coco.loadImgs(coco.getImgIds()):
        pixels = pixels_of(folder / "train" / image["file_name"])
        objects = coco.loadAnns(coco.getAnnIds(image["id"]))
        boxes = torch.tensor([each["bbox"] for each in objects])
        boxes[:, 2:] += boxes[:, :2]
        masks = torch.from_numpy(np.stack([coco.annToMask(each) for each in objects]))
        labels = torch.tensor([each["category_id"] for each in objects])
        yield pixels, dict(boxes=boxes, labels=labels, masks=masks)


def peer(args):
    """One turn of torchvision; prints seconds per step, or the objects of the first image."""
    torch.set_num_threads(args.threads)
    network = model(args)
    data = [sample for sample, _ in zip(samples(args.data), range(32))]
    if args.detect:
        network.eval()
        with torch.inference_mode():
            found = network([pixels_of(args.detect)])[0]
        keep = found["scores"] >= 0.5
        return {"labels": found["labels"][keep].tolist(), "boxes": found["boxes"][keep].tolist()}
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-5, weight_decay=0.01)
    times = []
    for step in range(args.warmup + args.steps):
        start = time.perf_counter()
        batch = [data[(4 * step + index) % len(data)] for index in range(4)]
        losses = network([image for image, _ in batch], [target for _, target in batch])
        optimizer.zero_grad()
        sum(losses.values()).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        optimizer.step()
        times.append(time.perf_counter() - start)
    return {"step_s": times[args.warmup:]}


def pixels_of(path):
    pixels = np.asarray(Image.open(path).convert("RGB"), np.float32) / 255
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default="mrcnn-cli")
    parser.add_argument("--quickstart", type=pathlib.Path, help="the folder of a quickstart")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--warmup", type=int, default=10)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--peer", choices=["nchw", "nhwc", "compiled"], help="one turn of torchvision")
    parser.add_argument("--weights", help="the weights, for --peer")
    parser.add_argument("--data", type=pathlib.Path, help="the dataset, for --peer")
    parser.add_argument("--detect", help="an image, for --peer")
    return parser.parse_args()


def turn(args, side, weights, folder, *more):
    """Seconds per step of one side."""
    data = args.quickstart / "data"
    counts = ["--warmup", args.warmup, "--steps", args.steps]
    if side != "ours":
        command = [sys.executable, __file__, "--peer", side, "--weights", weights, "--data", data]
        text, _ = full.run([*command, *counts, "--threads", args.threads, *more], args.threads)
        return json.loads(text.splitlines()[-1])
    out = folder / "ours.json"
    command = [args.binary, "benchmark", "train", "--backend", "cpu", "--batch-size", 4, "--data", data]
    full.run([*command, "--config", "quickstart", "--weights", weights, *counts, "--json", out], args.threads)
    return {"step_s": [json.loads(out.read_text())["results"][0]["step_ms"]["p50"] / 1000]}


def same_objects(args, weights, folder):
    """Fails unless both sides find the same objects in an image."""
    image = sorted((args.quickstart / "data/val").iterdir())[0]
    command = [args.binary, "predict", image, "--weights", weights, "--backend", "cpu", "--score", "0.5"]
    text, _ = full.run([*command, "--format", "json", "--out", folder / "predict"], args.threads)
    ours = [(each["category_id"], each["bbox"]) for each in json.loads(text)]
    theirs = turn(args, "nchw", weights, folder, "--detect", image)
    if len(ours) != len(theirs["labels"]):
        sys.exit(f"{len(ours)} objects, torchvision finds {len(theirs['labels'])}")
    for (label, (x, y, w, h)), their_label, box in zip(ours, theirs["labels"], theirs["boxes"]):
        off = max(abs(a - b) for a, b in zip([x, y, x + w, y + h], box))
        if label != their_label or off > 0.5:
            sys.exit(f"class {label} at {x, y, w, h}, torchvision's is {their_label} at {box}")
    print(f"the same {len(ours)} objects")


def main():
    args = arguments()
    if args.peer:
        print(json.dumps(peer(args)))
        return
    print(full.cpu_model())
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        weights = args.quickstart / "run/last.safetensors"
        same_objects(args, weights, folder)
        times = {side: [] for side in ["ours", "nchw", "nhwc", "compiled"]}
        for _ in range(args.rounds):
            for side, found in times.items():
                found += turn(args, side, weights, folder)["step_s"]
    ours = statistics.median(times["ours"])
    for side, found in times.items():
        median = statistics.median(found)
        print(f"{side:>10}: {1e3 * median:6.1f} ms per step, {4 / median:5.1f} img/s, theirs / ours {median / ours:.2f}")


if __name__ == "__main__":
    main()
