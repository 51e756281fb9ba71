"""Images per second of torchvision's Mask R-CNN R50-FPN, one setting per call; prints one line of JSON.

    python benches/gpu/torch_peer.py inference --batch-size 4 --dtype f16 --compile --device cuda

The same setup as `mrcnn-cli benchmark --weights`: the model of `tests/oracle/recipe.py` (91 classes, frozen batch norms,
stem and first stage frozen) with the weights of the same file, whose detections keep the mask head busy; channels last;
f16 and bf16 by autocast, training in f16 with a GradScaler. The images are noise.
"""

import argparse
import contextlib
import json
import pathlib
import sys
import time

import torch
import torchvision
from safetensors.torch import load_file

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests/oracle"))
import recipe

DTYPES = {"f16": torch.float16, "bf16": torch.bfloat16}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mode", choices=["inference", "train"])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--dtype", choices=["f32", "tf32", "f16", "bf16"], default="tf32")
    parser.add_argument("--weights", required=True, help="safetensors file of the recipe's weights")
    parser.add_argument("--compile", action="store_true", help="torch.compile of the backbone")
    parser.add_argument("--height", type=int, default=800)
    parser.add_argument("--width", type=int, default=1344)
    parser.add_argument("--objects", type=int, default=8, help="objects per image")
    parser.add_argument("--warmup", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    return parser.parse_args()


def model_of(args):
    torch.manual_seed(0)
    # Sizes that the transform does not change.
    model = recipe.model(
        "v1",
        1,
        91,
        min_size=min(args.height, args.width),
        max_size=max(args.height, args.width),
        box_score_thresh=0.02,
    )
    model.load_state_dict(load_file(args.weights), strict=True)
    model = model.to(args.device, memory_format=torch.channels_last)
    if args.compile:
        model.backbone = torch.compile(model.backbone)
    return model.train(args.mode == "train")


def batch_of(args):
    generator = torch.Generator().manual_seed(1)
    images, targets = [], []
    for _ in range(args.batch_size):
        images.append(torch.rand(3, args.height, args.width, generator=generator).to(args.device))
        corner = torch.rand(args.objects, 2, generator=generator) * 0.6
        sides = 0.05 + torch.rand(args.objects, 2, generator=generator) * 0.3
        scale = torch.tensor([args.width, args.height] * 2)
        boxes = torch.cat([corner, corner + sides], 1) * scale
        masks = torch.zeros(args.objects, args.height, args.width, dtype=torch.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes.round().int().tolist()):
            mask[y1:y2, x1:x2] = 1
        labels = torch.randint(1, 91, (args.objects,), generator=generator)
        target = {"boxes": boxes, "labels": labels, "masks": masks}
        targets.append({key: value.to(args.device) for key, value in target.items()})
    return images, targets


def steps_of(args, model, images, targets):
    """A function that does one step."""
    autocast = contextlib.nullcontext()
    if args.dtype in DTYPES:
        autocast = torch.autocast(torch.device(args.device).type, DTYPES[args.dtype])
    if args.mode == "inference":

        def infer():
            with torch.inference_mode(), autocast:
                model(images)

        return infer

    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-4, momentum=0.9)
    scaler = torch.amp.GradScaler(args.device, enabled=args.dtype == "f16")

    def train():
        with autocast:
            loss = sum(model(images, targets).values())
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    return train


def main():
    args = arguments()
    torch.backends.cuda.matmul.allow_tf32 = args.dtype != "f32"
    torch.backends.cudnn.allow_tf32 = args.dtype != "f32"
    torch.backends.cudnn.benchmark = True
    on_gpu = torch.device(args.device).type == "cuda"
    step = steps_of(args, model_of(args), *batch_of(args))
    seconds = []
    for index in range(args.warmup + args.steps):
        start = time.perf_counter()
        step()
        if on_gpu:
            torch.cuda.synchronize()
        if index >= args.warmup:
            seconds.append(time.perf_counter() - start)
    seconds.sort()
    median = seconds[len(seconds) // 2]
    result = {
        "images_per_second": args.batch_size / median,
        "median_seconds": median,
        "memory_bytes": torch.cuda.max_memory_allocated() if on_gpu else None,
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
