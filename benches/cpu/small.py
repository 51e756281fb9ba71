"""The quickstart's network on a CPU, trained by this project and by torchvision, in one call.

    mrcnn-cli quickstart --out /tmp/quickstart
    python benches/cpu/small.py --binary target/release/mrcnn-cli --quickstart /tmp/quickstart

The quickstart's weights have torchvision's names and are loaded with strict=True, so that both sides have the same
layers; before anything is timed, their detections are compared one by one. Every side takes its turn in each round, with
batches of 4 images of the quickstart's dataset, AdamW and clipped gradients; at a ratio above 1 mrcnn is faster. Needs torch,
torchvision, safetensors and pycocotools.
"""

import argparse
import json
import pathlib
import sys
import tempfile

import numpy as np
import run as full
import torch
import torch_peer
from pycocotools.coco import COCO
from safetensors.torch import load_file
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
    found.load_state_dict(load_file(args.weights), strict=True)
    return torch_peer.arranged(found, "nchw" if args.peer == "nchw" else "nhwc", args.peer == "compiled")


def samples(folder):
    """Images and targets of a COCO dataset's training split."""
    coco = COCO(folder / "annotations/instances_train.json")
    for image in coco.loadImgs(coco.getImgIds()):
        pixels = torch_peer.image_of(folder / "train" / image["file_name"])
        objects = coco.loadAnns(coco.getAnnIds(image["id"]))
        boxes = torch.tensor([each["bbox"] for each in objects])
        boxes[:, 2:] += boxes[:, :2]
        masks = torch.from_numpy(np.stack([coco.annToMask(each) for each in objects]))
        labels = torch.tensor([each["category_id"] for each in objects])
        yield pixels, dict(boxes=boxes, labels=labels, masks=masks)


def peer(args):
    """One turn of torchvision: the detections in an image, or seconds per step."""
    torch.set_num_threads(args.threads)
    network = model(args)
    if args.detect:
        with torch.inference_mode():
            found = network.eval()([torch_peer.image_of(args.detect)])[0]
        return {"detections": torch_peer.detections_of(found)}
    data = [sample for sample, _ in zip(samples(args.data), range(32))]
    batches = [data[at : at + 4] for at in range(0, 32, 4)]
    optimizer = torch.optim.AdamW(network.train().parameters(), lr=1e-5, weight_decay=0.01)

    def step():
        batches.append(batches.pop(0))
        images, targets = zip(*batches[0])
        losses = network(list(images), list(targets))
        optimizer.zero_grad()
        sum(losses.values()).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        optimizer.step()

    return {"step_s": torch_peer.timed(args, step)[0]}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default="mrcnn-cli")
    parser.add_argument("--before", help="an older binary, timed as one more side")
    parser.add_argument("--quickstart", type=pathlib.Path, help="the folder of a quickstart")
    parser.add_argument("--sides", default="ours,nchw,nhwc,compiled")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--warmup", type=int, default=10)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--peer", choices=["nchw", "nhwc", "compiled"], help="one turn of torchvision")
    parser.add_argument("--weights", help="the weights, for --peer")
    parser.add_argument("--data", type=pathlib.Path, help="the dataset, for --peer")
    parser.add_argument("--detect", help="an image, for --peer")
    return parser.parse_args()


class Sides:
    """The command of each side."""

    def __init__(self, args, folder):
        self.args, self.folder = args, folder
        self.data, self.weights = args.quickstart / "data", args.quickstart / "run/last.safetensors"

    def turn(self, side, mode, size, batch, threads):
        """Times in seconds, peak memory in MiB, and the other reports of the side."""
        counts = ["--warmup", self.args.warmup, "--steps", self.args.steps]
        if side not in ("ours", "before"):
            return self.peer(side, *counts)
        out = self.folder / "ours.json"
        binary = self.args.binary if side == "ours" else self.args.before
        command = [binary, "benchmark", mode, "--backend", "cpu", "--batch-size", batch, "--data", self.data]
        command += ["--config", "quickstart", "--weights", self.weights, *counts, "--json", out]
        _, memory = full.run(command, threads)
        result = json.loads(out.read_text())["results"][0]
        return [result["step_ms"]["p50"] / 1000], memory, result

    def peer(self, side, *more):
        command = [sys.executable, __file__, "--peer", side, "--weights", self.weights, "--data", self.data]
        text, memory = full.run([*command, "--threads", self.args.threads, *more], self.args.threads)
        found = json.loads(text.splitlines()[-1])
        return found.get("step_s"), memory, found

    def compare(self):
        image = sorted((self.data / "val").iterdir())[0]
        command = [self.args.binary, "predict", image, "--weights", self.weights, "--backend", "cpu"]
        command += ["--score", "0.05", "--format", "json", "--out", self.folder / "predict"]
        ours = full.detections_of(full.run(command, self.args.threads)[0])
        full.compare(ours, self.peer("nchw", "--detect", image)[2]["detections"], "nchw")


def main():
    args = arguments()
    if args.peer:
        print(json.dumps(peer(args)))
        return
    sys.stdout.reconfigure(line_buffering=True)
    print(full.cpu_model())
    with tempfile.TemporaryDirectory() as folder:
        sides = Sides(args, pathlib.Path(folder))
        sides.compare()
        full.measure(args, sides, "train", SIZE[0], args.threads, 4)


if __name__ == "__main__":
    main()
