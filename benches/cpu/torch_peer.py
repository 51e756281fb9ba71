"""torchvision's Mask R-CNN or its export in ONNX Runtime on a CPU; prints one line of JSON.

    python benches/cpu/torch_peer.py inference --image photo.png --size 800 1333 --layout nhwc
    python benches/cpu/torch_peer.py train --batch-size 2 --threads 2
    python benches/cpu/torch_peer.py weights --out coco.pth
    python benches/cpu/torch_peer.py onnx --image photo.png --out model.onnx

R50-FPN with 91 classes, frozen batch norm and the weights of `tests/oracle/recipe.py`; in training the stem and the
first stage are frozen, and the optimizer is SGD.
"""

import argparse
import json
import pathlib
import resource
import statistics
import sys
import time

import numpy as np
import torch
import torchvision
from PIL import Image

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests/oracle"))

import recipe


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mode", choices=["inference", "train", "weights", "onnx", "ort"])
    parser.add_argument("--image", help="a photo")
    parser.add_argument("--size", type=int, nargs=2, default=[800, 1333], help="min_size, max_size")
    parser.add_argument("--layout", choices=["nchw", "nhwc"], default="nchw")
    parser.add_argument("--compile", action="store_true", help="torch.compile of the backbone")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--objects", type=int, default=8, help="objects per image in training")
    parser.add_argument("--annotations", help="COCO JSON of the image, for training")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--onnx", help="the exported model, for ort")
    parser.add_argument("--out", help="file to write")
    return parser.parse_args()


def model_of(args):
    torch.manual_seed(0)
    model = recipe.model("v1", 1, 91, min_size=args.size[0], max_size=args.size[1])
    return arranged(model, args.layout, args.compile)


def arranged(model, layout, compiled):
    """The model in a memory layout, its backbone compiled or not."""
    if layout == "nhwc":
        model = model.to(memory_format=torch.channels_last)
    if compiled:
        model.backbone = torch.compile(model.backbone)
    return model


def image_of(path):
    pixels = np.asarray(Image.open(path).convert("RGB"), dtype=np.float32) / 255.0
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def targets_of(args, image):
    """Rectangular objects with full masks, or the objects of the annotation file."""
    _, height, width = image.shape
    with open(args.annotations) as file:
        found = json.load(file)["annotations"]
    boxes, labels, masks = [], [], []
    for annotation in found:
        x, y, w, h = annotation["bbox"]
        mask = torch.zeros(height, width, dtype=torch.uint8)
        mask[round(y) : round(y + h), round(x) : round(x + w)] = 1
        boxes.append([x, y, x + w, y + h])
        labels.append(annotation["category_id"])
        masks.append(mask)
    return {"boxes": torch.tensor(boxes), "labels": torch.tensor(labels), "masks": torch.stack(masks)}


def timed(args, step):
    for _ in range(args.warmup):
        result = step()
    times = []
    for _ in range(args.steps):
        start = time.perf_counter()
        result = step()
        times.append(time.perf_counter() - start)
    return times, result


def detections_of(found):
    boxes, labels, scores = (found[key] for key in ["boxes", "labels", "scores"])
    return [
        {"bbox": [round(v, 3) for v in box], "label": int(label), "score": round(float(score), 6)}
        for box, label, score in zip(boxes.tolist(), labels, scores)
    ]


def inference(args):
    model, image = model_of(args).eval(), image_of(args.image)

    def step():
        with torch.inference_mode():
            found = model([image] * args.batch_size)
            return [{**each, "masks": each["masks"] > 0.5} for each in found]

    times, found = timed(args, step)
    return times, {"detections": detections_of(found[0])}


def ort(args):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.threads
    # torch warns about every mask that the exported loop appends.
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(args.onnx, options, providers=["CPUExecutionProvider"])
    feeds = {session.get_inputs()[0].name: image_of(args.image).numpy()}

    def step():
        boxes, labels, scores, masks = session.run(None, feeds)
        return {"boxes": boxes, "labels": labels, "scores": scores, "masks": masks > 0.5}

    times, found = timed(args, step)
    return times, {"detections": detections_of(found)}


def train(args):
    model, image = model_of(args).train(), image_of(args.image)
    targets = targets_of(args, image)
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(learned, lr=1e-5, momentum=0.9, weight_decay=1e-4)

    def step():
        losses = model([image] * args.batch_size, [targets] * args.batch_size)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        return {name: float(loss.detach()) for name, loss in losses.items()}

    times, losses = timed(args, step)
    return times, {"losses": losses}


def export(args):
    model, image = model_of(args).eval(), image_of(args.image)
    names = ["boxes", "labels", "scores", "masks"]
    torch.onnx.export(
        model, ([image],), args.out, opset_version=17, dynamo=False, output_names=names,
        do_constant_folding=True,
    )


def main():
    args = arguments()
    torch.set_num_threads(args.threads)
    if args.mode == "weights":
        torch.save(model_of(args).state_dict(), args.out)
        return
    if args.mode == "onnx":
        export(args)
        return
    times, found = {"inference": inference, "train": train, "ort": ort}[args.mode](args)
    found["step_s"] = times
    found["images_per_second"] = args.batch_size / statistics.median(times)
    # Linux counts in KiB.
    found["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found["torch"] = f"torch {torch.__version__}, torchvision {torchvision.__version__}"
    print(json.dumps(found))


if __name__ == "__main__":
    main()
