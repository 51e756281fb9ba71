"""Detectron2's Mask R-CNN with FPN in torch: its names of tensors, its settings, and its `.pkl` files.

torchvision computes the parts that are the same in both systems (selection of proposals and detections). The network, the
anchors, the levels of RoIs and RoIAlign are written after Detectron2, whose model zoo these two configurations are from.
Images are resized and masks are pasted as in torchvision, as `mrcnn-cli` does.
"""

import pickle
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.roi_heads import RoIHeads, paste_masks_in_image
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FrozenBatchNorm2d, roi_align

import recipe

CLASSES = 80
UNUSED_IDS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
# COCO's category id of each of Detectron2's classes.
CATEGORY_IDS = torch.tensor([i for i in range(1, 91) if i not in UNUSED_IDS])
STRIDES = [4, 8, 16, 32, 64]


@dataclass(frozen=True)
class Variant:
    """A configuration of the model zoo. `std` is that of B, G and R in 0..=255."""

    blocks: tuple
    groups: int
    width_per_group: int
    stride_in_1x1: bool
    std: tuple


VARIANTS = {
    "detectron2_r50": Variant((3, 4, 6, 3), 1, 64, True, (1.0, 1.0, 1.0)),
    "detectron2_r101": Variant((3, 4, 23, 3), 1, 64, True, (1.0, 1.0, 1.0)),
    "detectron2_x101": Variant((3, 4, 23, 3), 32, 8, False, (57.375, 57.12, 58.395)),
}
MEAN = (103.53, 116.28, 123.675)


class NormedConv(nn.Conv2d):
    def __init__(self, inputs, outputs, size, stride=1, groups=1):
        super().__init__(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
        self.norm = FrozenBatchNorm2d(outputs, eps=1e-5)

    def forward(self, x):
        return self.norm(super().forward(x))


class Bottleneck(nn.Module):
    def __init__(self, inputs, inner, outputs, stride, variant):
        super().__init__()
        first, second = (stride, 1) if variant.stride_in_1x1 else (1, stride)
        self.conv1 = NormedConv(inputs, inner, 1, first)
        self.conv2 = NormedConv(inner, inner, 3, second, variant.groups)
        self.conv3 = NormedConv(inner, outputs, 1)
        self.shortcut = NormedConv(inputs, outputs, 1, stride) if inputs != outputs else None

    def forward(self, x):
        y = self.conv3(F.relu(self.conv2(F.relu(self.conv1(x)))))
        return F.relu(y + (self.shortcut(x) if self.shortcut else x))


class ResNet(nn.Module):
    def __init__(self, variant):
        super().__init__()
        self.stem = nn.Module()
        self.stem.conv1 = NormedConv(3, 64, 7, 2)
        inputs = 64
        for stage, count in enumerate(variant.blocks):
            inner, outputs = (variant.groups * variant.width_per_group) << stage, 256 << stage
            blocks = []
            for index in range(count):
                stride = 2 if index == 0 and stage > 0 else 1
                blocks.append(Bottleneck(inputs, inner, outputs, stride, variant))
                inputs = outputs
            setattr(self, f"res{stage + 2}", nn.Sequential(*blocks))

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.stem.conv1(x)), 3, 2, 1)
        features = []
        for stage in (self.res2, self.res3, self.res4, self.res5):
            x = stage(x)
            features.append(x)
        return features


class Backbone(nn.Module):
    def __init__(self, variant):
        super().__init__()
        for level in (2, 3, 4, 5):
            setattr(self, f"fpn_lateral{level}", nn.Conv2d(64 << level, 256, 1))
            setattr(self, f"fpn_output{level}", nn.Conv2d(256, 256, 3, padding=1))
        self.bottom_up = ResNet(variant)

    def forward(self, x):
        features = self.bottom_up(x)
        results, coarser = [], None
        for level in (5, 4, 3, 2):
            top = getattr(self, f"fpn_lateral{level}")(features[level - 2])
            if coarser is not None:
                top = top + F.interpolate(coarser, scale_factor=2.0, mode="nearest")
            results.insert(0, getattr(self, f"fpn_output{level}")(top))
            coarser = top
        results.append(F.max_pool2d(results[-1], 1, 2))
        return OrderedDict((f"p{level}", x) for level, x in enumerate(results, 2))


class Anchors(nn.Module):
    """Anchors that are not rounded and are spaced by the stride of their level."""

    def __init__(self):
        super().__init__()
        self.cell_anchors = nn.Module()
        for index, size in enumerate([32, 64, 128, 256, 512]):
            rows = []
            for ratio in (0.5, 1.0, 2.0):
                width = (size**2 / ratio) ** 0.5
                height = ratio * width
                rows.append([-width / 2, -height / 2, width / 2, height / 2])
            self.cell_anchors.register_buffer(str(index), torch.tensor(rows))

    def forward(self, images, features):
        anchors = []
        for feature, stride, cells in zip(features, STRIDES, self.cell_anchors.buffers()):
            y = torch.arange(feature.shape[-2]) * float(stride)
            x = torch.arange(feature.shape[-1]) * float(stride)
            y, x = (axis.reshape(-1) for axis in torch.meshgrid(y, x, indexing="ij"))
            shifts = torch.stack([x, y, x, y], 1)
            anchors.append((shifts[:, None] + cells[None]).reshape(-1, 4))
        return [torch.cat(anchors)] * len(images.image_sizes)


class RpnHead(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(256, 256, 3, padding=1)
        self.objectness_logits = nn.Conv2d(256, 3, 1)
        self.anchor_deltas = nn.Conv2d(256, 12, 1)

    def forward(self, features):
        hidden = [F.relu(self.conv(feature)) for feature in features]
        return [self.objectness_logits(x) for x in hidden], [self.anchor_deltas(x) for x in hidden]


class Pooler(nn.Module):
    """ROIAlignV2 with sampling ratio 0, from the level of each RoI."""

    def __init__(self, side):
        super().__init__()
        self.side = side

    def forward(self, features, boxes, _image_shapes):
        rois = torch.cat([F.pad(b, (1, 0), value=float(image)) for image, b in enumerate(boxes)])
        area = (rois[:, 3] - rois[:, 1]) * (rois[:, 4] - rois[:, 2])
        levels = torch.floor(4 + torch.log2(area.sqrt() / 224 + 1e-8)).clamp(2, 5)
        pooled = torch.zeros(len(rois), 256, self.side, self.side)
        for level in (2, 3, 4, 5):
            chosen = torch.where(levels == level)[0]
            pooled[chosen] = roi_align(
                features[f"p{level}"], rois[chosen], self.side, 1 / 2**level, sampling_ratio=0, aligned=True
            )
        return pooled


class BoxHead(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(256 * 7 * 7, 1024)
        self.fc2 = nn.Linear(1024, 1024)

    def forward(self, x):
        return F.relu(self.fc2(F.relu(self.fc1(x.flatten(1)))))


class BoxPredictor(nn.Module):
    """The background is the last class and has no box. Returns torchvision's order, in which it is the first."""

    def __init__(self):
        super().__init__()
        self.cls_score = nn.Linear(1024, CLASSES + 1)
        self.bbox_pred = nn.Linear(1024, CLASSES * 4)

    def forward(self, x):
        return self.cls_score(x).roll(1, 1), F.pad(self.bbox_pred(x), (4, 0))


class MaskHead(nn.Module):
    """The background has no mask. Returns torchvision's order, in which it is the first."""

    def __init__(self):
        super().__init__()
        for index in range(1, 5):
            setattr(self, f"mask_fcn{index}", nn.Conv2d(256, 256, 3, padding=1))
        self.deconv = nn.ConvTranspose2d(256, 256, 2, 2)
        self.predictor = nn.Conv2d(256, CLASSES, 1)

    def forward(self, x):
        for index in range(1, 5):
            x = F.relu(getattr(self, f"mask_fcn{index}")(x))
        return F.pad(self.predictor(F.relu(self.deconv(x))), (0, 0, 0, 0, 1, 0))


class Detectron2(nn.Module):
    def __init__(self, variant):
        super().__init__()
        self.backbone = Backbone(variant)
        self.proposal_generator = nn.Module()
        self.proposal_generator.rpn_head = RpnHead()
        self.proposal_generator.anchor_generator = Anchors()
        self.roi_heads = nn.Module()
        self.roi_heads.box_head = BoxHead()
        self.roi_heads.box_predictor = BoxPredictor()
        self.roi_heads.mask_head = MaskHead()
        # Test settings of the model zoo; those of training are not used.
        rpn = RegionProposalNetwork(
            self.proposal_generator.anchor_generator, self.proposal_generator.rpn_head,
            0.7, 0.3, 256, 0.5, dict(testing=1000), dict(testing=1000), 0.7,
        )
        roi_heads = RoIHeads(
            Pooler(7), self.roi_heads.box_head, self.roi_heads.box_predictor,
            0.5, 0.5, 512, 0.25, (10.0, 10.0, 5.0, 5.0), 0.05, 0.5, 100,
            Pooler(14), self.roi_heads.mask_head, nn.Identity(),
        )
        transform = GeneralizedRCNNTransform(800, 1333, MEAN, variant.std)
        # In a list, so that state_dict() has Detectron2's names only.
        self.torchvision = [GeneralizedRCNN(self.backbone, rpn, roi_heads, transform).eval()]

    def forward(self, image):
        """Detections in an RGB image `[3, height, width]` in 0..=1, with COCO's category ids as labels."""
        found = self.torchvision[0]([255 * image.flip(0)])[0]
        return {**found, "labels": CATEGORY_IDS[found["labels"] - 1]}


# Gains of uniform weights; the others have sqrt(2), which keeps the size of activations. See `recipe`.
GAINS = {
    "shortcut": 1.0,
    "fpn_": 0.4,
    "objectness_logits": 0.7,
    "anchor_deltas": 0.15,
    "box_head.fc1": 3.0,
    "cls_score": recipe.PREDICTORS["v1"][0],
    "bbox_pred": recipe.PREDICTORS["v1"][1],
    "mask_head.predictor": 2.0,
}


def weight(name, shape, seed, variant):
    """Recipe weights, with which activations have about the same size for every depth and standard deviation."""
    module, kind = name.rsplit(".", 1)
    if module.endswith("conv3.norm") and kind == "weight":
        return recipe.values(name, shape, seed, 2.0 / sum(variant.blocks) ** 0.5, 0.05)
    if module.endswith("norm"):
        return recipe.values(name, shape, seed, 1.0 if kind in ("weight", "running_var") else 0.0, 0.1)
    if kind == "bias":
        background = np.eye(shape[0])[-1] * recipe.PREDICTORS["v1"][2]
        return recipe.values(name, shape, seed, background if module.endswith("cls_score") else 0.0, 0.02)
    gain = next((gain for part, gain in GAINS.items() if part in module), 2**0.5)
    if module.endswith("stem.conv1"):
        gain *= variant.std[1] / 57.12
    fan_in = shape[0] if module.endswith("deconv") else np.prod(shape[1:])
    block = {"fc1": 49, "fc2": 1024, "cls_score": 1024, "bbox_pred": 1024}.get(module.split(".")[-1])
    return recipe.values(name, shape, seed, 0.0, gain * (3.0 / fan_in) ** 0.5, block)


def model(name, seed):
    variant = VARIANTS[name]
    network = Detectron2(variant).eval()
    state = network.state_dict()
    for name, value in state.items():
        if "cell_anchors" not in name:
            value.copy_(torch.from_numpy(weight(name, tuple(value.shape), seed, variant)))
    return network


def save(network, path):
    """Writes a file like those of the model zoo, which were written with a numpy before 2."""
    arrays = {name: value.numpy() for name, value in network.state_dict().items()}
    contents = {"model": arrays, "__author__": "Detectron2 Model Zoo", "matching_heuristics": True}
    written = pickle.dumps(contents, protocol=3)
    path.write_bytes(written.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"))


def paste(mask, box, size):
    """Detectron2's `paste_masks_in_image`: boxes are not rounded, and pixels are sampled at their centers."""
    height, width = size
    x0, y0, x1, y1 = box.tolist()
    y = (torch.arange(height) + 0.5 - y0) / (y1 - y0) * 2 - 1
    x = (torch.arange(width) + 0.5 - x0) / (x1 - x0) * 2 - 1
    grid = torch.stack([x[None].expand(height, width), y[:, None].expand(height, width)], 2)
    return F.grid_sample(mask[None, None], grid[None], align_corners=False)[0, 0] >= 0.5


def paste_iou(side, count=20):
    """Mean IoU of a disc pasted as in torchvision and as in Detectron2, in boxes of `side` to `side + 1` pixels."""
    axis = (torch.arange(28) + 0.5) / 14 - 1
    disc = torch.sigmoid(24 * (0.9 - (axis[None] ** 2 + axis[:, None] ** 2).sqrt()))
    places = torch.from_numpy(recipe.values(f"places {side}", (count, 4), 0, 0.5, 0.5))
    boxes = torch.cat([places[:, :2], places[:, :2] + side + places[:, 2:]], 1) + 5
    size = (side + 20, side + 20)
    theirs = paste_masks_in_image(disc.expand(count, 1, 28, 28), boxes, size)[:, 0] > 0.5
    exact = torch.stack([paste(disc, box, size) for box in boxes])
    return ((exact & theirs).sum((1, 2)) / (exact | theirs).sum((1, 2))).mean().item()
