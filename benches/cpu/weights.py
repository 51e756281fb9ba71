"""Weights that are a function of their names, so that two programs can be given the same ones.

Each value is a hash of its tensor's name and its index; ranges keep the activations of R50-FPN in the
size of trained ones, with dozens of detections on a photo.
"""

import math

import numpy as np
import torch

MASK = (1 << 64) - 1
GAINS = {
    "rpn.head.cls_logits.weight": 0.7,
    "rpn.head.bbox_pred.weight": 0.15,
    "roi_heads.box_head.fc6.weight": 3.0,
    "roi_heads.box_predictor.cls_score.weight": 6.0,
    "roi_heads.box_predictor.bbox_pred.weight": 5.0,
    "roi_heads.mask_predictor.mask_fcn_logits.weight": 2.0,
}
# Sums of these rows are zero: else a mean that all RoIs share hides what differs.
CENTERED = {
    "roi_heads.box_head.fc6.weight": 49,
    "roi_heads.box_head.fc7.weight": 1024,
    "roi_heads.box_predictor.cls_score.weight": 1024,
    "roi_heads.box_predictor.bbox_pred.weight": 1024,
}


def uniform(name, count, seed):
    """`count` numbers in 0..1: FNV-1a of the name, then SplitMix64."""
    state = 0xCBF29CE484222325
    for byte in name.encode():
        state = ((state ^ byte) * 0x100000001B3) & MASK
    state = (state + seed * 0xD1B54A32D192ED03) & MASK
    with np.errstate(over="ignore"):
        z = np.uint64(state) + np.arange(count, dtype=np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return (z >> np.uint64(40)).astype(np.float64) / (1 << 24)


def center_and_bound(name, shape):
    norm = ".bn" in name or ".downsample.1." in name
    if norm and name.endswith((".weight", ".running_var")):
        return (0.5, 0.05) if name.endswith(".bn3.weight") else (1.0, 0.1)
    if norm:
        return 0.0, 0.1
    if name.endswith(".bias"):
        return 0.0, 0.02
    fan_in = shape[0] if name.endswith("conv5_mask.weight") else math.prod(shape[1:])
    gain = GAINS.get(name, math.sqrt(2.0))
    if name.startswith("backbone.fpn."):
        gain = 0.4
    if ".downsample.0." in name:
        gain = 1.0
    return 0.0, gain * math.sqrt(3.0 / fan_in)


def values(name, shape, seed=1):
    count = math.prod(shape)
    center, bound = center_and_bound(name, shape)
    unit = uniform(name, count, seed)
    if name in CENTERED:
        rows = unit.reshape(-1, CENTERED[name])
        result = (rows - np.roll(rows, -1, axis=1)).reshape(-1) * (bound * math.sqrt(2.0))
    else:
        result = center + (2.0 * unit - 1.0) * bound
    if name == "roi_heads.box_predictor.cls_score.bias":
        result[0] += 9.5
    return torch.from_numpy(result.astype(np.float32).reshape(shape))


def fill(model, seed=1):
    """Gives every tensor of the model its values."""
    state = model.state_dict()
    model.load_state_dict({name: values(name, tuple(old.shape), seed) for name, old in state.items()})
    return model
