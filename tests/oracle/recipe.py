"""A torchvision Mask R-CNN whose weights are a pure function of their names.

Every value comes from a counter-based generator, so that no weight file is needed and the Rust
tests (`tests/src/recipe.rs`) generate the same bits.
"""

import math

import numpy as np
import torch
from torchvision.models.detection import MaskRCNN, maskrcnn_resnet50_fpn_v2
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.models.resnet import resnet50
from torchvision.ops import FrozenBatchNorm2d

GAINS = {
    "rpn.head.cls_logits.weight": 0.7,
    "rpn.head.bbox_pred.weight": 0.15,
    "roi_heads.box_head.fc6.weight": 3.0,
    "roi_heads.box_head.5.weight": 3.0,
    "roi_heads.mask_predictor.mask_fcn_logits.weight": 2.0,
}
# Gains of the box predictor and the logit of the background, by network.
PREDICTORS = {"v1": (6.0, 5.0, 9.5), "v2": (3.0, 2.0, 5.5)}


def uniform(name, seed, count):
    """`count` numbers in [0, 1) of 24 bits: FNV-1a of the name, then SplitMix64."""
    state = 0xCBF29CE484222325
    for byte in name.encode():
        state = ((state ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    base = (state + seed * 0xD1B54A32D192ED03) & 0xFFFFFFFFFFFFFFFF
    with np.errstate(over="ignore"):
        z = np.uint64(base) + np.arange(count, dtype=np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(40)).astype(np.float64) / 2**24


def center_and_bound(name, shape, is_norm, predictor):
    kind = name.rsplit(".", 1)[1]
    if is_norm:
        if name.endswith(".bn3.weight"):
            return 0.5, 0.05
        return (1.0 if kind in ("weight", "running_var") else 0.0), 0.1
    if kind == "bias":
        return 0.0, 0.02
    fan_in = shape[0] if "conv5_mask" in name else math.prod(shape[1:])
    gain = GAINS.get(name, math.sqrt(2.0))
    if name.endswith("cls_score.weight"):
        gain = predictor[0]
    elif name.endswith("box_predictor.bbox_pred.weight"):
        gain = predictor[1]
    if name.startswith("backbone.fpn."):
        gain = 0.4
    elif ".downsample.0." in name:
        gain = 1.0
    return 0.0, gain * math.sqrt(3.0 / fan_in)


def block_length(name, shape):
    """Length of the blocks that sum to zero, which spreads the scores of different RoIs."""
    if name in ("roi_heads.box_head.fc6.weight", "roi_heads.box_head.5.weight"):
        return 49
    spread = ("box_head.fc7.weight", "box_predictor.cls_score.weight", "box_predictor.bbox_pred.weight")
    return shape[1] if name.endswith(spread) else None


def values(name, shape, seed, center, bound, block=None):
    """Uniform numbers around `center`; blocks of a given length sum to zero."""
    numbers = uniform(name, seed, math.prod(shape))
    if block is None:
        found = center + (2.0 * numbers - 1.0) * bound
    else:
        rows = numbers.reshape(-1, block)
        found = (rows - np.roll(rows, -1, axis=1)).reshape(-1) * (bound * math.sqrt(2.0))
    return found.astype(np.float32).reshape(shape)


def tensor(name, shape, seed, is_norm, predictor):
    center, bound = center_and_bound(name, shape, is_norm, predictor)
    if name == "roi_heads.box_predictor.cls_score.bias":
        center = np.eye(1, shape[0])[0] * predictor[2]
    return torch.from_numpy(values(name, shape, seed, center, bound, block_length(name, shape)))


def model(version, seed, num_classes, **settings):
    """v1: frozen batch norm with eps 1e-5, stem and first stage frozen. v2: everything is trained."""
    if version == "v2":
        network = maskrcnn_resnet50_fpn_v2(
            weights=None, weights_backbone=None, num_classes=num_classes, trainable_backbone_layers=5, **settings
        )
    else:
        body = resnet50(weights=None, norm_layer=FrozenBatchNorm2d)
        network = MaskRCNN(_resnet_fpn_extractor(body, 3), num_classes=num_classes, **settings)
    state = network.state_dict()
    weights = {}
    for name, value in state.items():
        if name.endswith("num_batches_tracked"):
            weights[name] = value
            continue
        is_norm = name.rsplit(".", 1)[0] + ".running_mean" in state
        weights[name] = tensor(name, tuple(value.shape), seed, is_norm, PREDICTORS[version])
    network.load_state_dict(weights, strict=True)
    return network
