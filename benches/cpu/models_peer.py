"""The parts of `models.py` that need torch, as separate processes, so that the memory of `models.py` stays small.

    python benches/cpu/models_peer.py weights v2 v2.pth          # the file of a model as its authors write it
    python benches/cpu/models_peer.py predict v2 photo.png 3     # torchvision, an image three times
    python benches/cpu/models_peer.py versions
"""

import pathlib
import sys
import warnings

import torch
import torchvision

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests/oracle"))

import detectron2
import recipe

SEED, SCORE = 1, 0.005


def save_weights(model, path):
    if model in detectron2.VARIANTS:
        detectron2.save(detectron2.model(model, SEED), pathlib.Path(path))
    else:
        torch.save(recipe.model(model, SEED, 91).state_dict(), path)


def predict(model, image, count):
    """Predicts an image several times with the threads of OMP_NUM_THREADS; prints the number of detections."""
    network = recipe.model(model, SEED, 91, min_size=800, max_size=1333, box_score_thresh=SCORE).eval()
    for _ in range(int(count)):
        pixels = torchvision.io.decode_image(image, mode="RGB") / 255.0
        with torch.inference_mode():
            found = network([pixels])[0]
        masks = found["masks"] > 0.5
    print(len(masks))


if __name__ == "__main__":
    # torchvision warns that v2 has no pretrained backbone here.
    warnings.filterwarnings("ignore")
    mode, arguments = sys.argv[1], sys.argv[2:]
    if mode == "weights":
        save_weights(*arguments)
    elif mode == "predict":
        predict(*arguments)
    elif mode == "versions":
        print(torch.__version__, torchvision.__version__)
    else:
        sys.exit(__doc__)
