"""Makes a data set for `rowscan detect` of one picture of nuclei in which each nucleus has a number.

    pip install numpy pillow
    pip download --no-deps --no-binary stardist stardist && tar xzf stardist-*.tar.gz
    python examples/nuclei.py stardist-*/stardist/data/images nuclei

The source package of StarDist (BSD-3) ships the picture, `img2d.tif`: 512 × 512 pixels of fluorescence, and
`mask2d.tif`: 0 for the background, a number of its own for each of 125 nuclei. The left half is to train on, the right
half to test on. Written is what COCO has, with one class:

    nuclei/annotations/instances_train.json  nuclei/train/*.png   tiles that overlap, each in four directions
    nuclei/annotations/instances_val.json    nuclei/val/*.png     tiles side by side

A tile cuts nuclei at its border. A piece of less than a quarter of its nucleus is a crowd: it is neither learned nor
counted.
"""

import argparse
import json
import pathlib

import numpy as np
from PIL import Image


def read(path):
    """The pixels of a picture of one channel, (H, W)."""
    pixels = np.array(Image.open(path))
    if pixels.ndim != 2:
        raise SystemExit(f"{path}: got an array of shape {pixels.shape}, expected (height, width)")
    return pixels


def eight_bits(image, seen):
    """Bytes of `image`. Black and white are percentiles of `seen`, the part to train on: the test half has no say."""
    low, high = np.percentile(seen, [1, 99.8])
    return np.uint8(255 * np.clip((image - low) / (high - low), 0, 1) + 0.5)


def runs(mask):
    """COCO's run lengths: down the columns, how many pixels are off, on, off ..."""
    pixels = np.concatenate([[0], mask.T.ravel(), [0]]).astype(np.int8)
    borders = np.flatnonzero(np.diff(pixels))
    counts = np.diff(np.concatenate([[0], borders, [mask.size]]))
    return {"size": list(mask.shape), "counts": counts.tolist()}


def objects(labels, areas, image_id):
    """Annotations of the nuclei in a tile. `areas` has the pixels of each nucleus in the whole picture."""
    for nucleus in np.unique(labels[labels > 0]):
        mask = labels == nucleus
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        left, top = int(columns[0]), int(rows[0])
        yield {
            "image_id": image_id,
            "category_id": 1,
            "bbox": [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top],
            "area": int(mask.sum()),
            "iscrowd": int(4 * mask.sum() < areas[nucleus]),
            "segmentation": runs(mask),
        }


def write(folder, split, image, labels, areas, tile, step, turns):
    """Cuts a half into tiles, and writes them and their annotations."""
    images, annotations = [], []
    (folder / split).mkdir(parents=True, exist_ok=True)
    height, width = labels.shape
    corners = [(y, x) for y in range(0, height - tile + 1, step) for x in range(0, width - tile + 1, step)]
    for y, x in corners:
        for turn in range(turns):
            cut = [np.rot90(half[y : y + tile, x : x + tile], turn) for half in (image, labels)]
            name = f"{y:03}_{x:03}_{90 * turn:03}.png"
            Image.fromarray(cut[0]).save(folder / split / name)
            images.append({"id": len(images) + 1, "file_name": name, "width": tile, "height": tile})
            annotations += objects(cut[1], areas, len(images))
    for number, annotation in enumerate(annotations, 1):
        annotation["id"] = number
    categories = [{"id": 1, "name": "nucleus"}]
    path = folder / "annotations" / f"instances_{split}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"images": images, "categories": categories, "annotations": annotations}))
    whole = [annotation for annotation in annotations if not annotation["iscrowd"]]
    print(f"{split}: {len(images)} tiles, {len(whole)} nuclei, {len(annotations) - len(whole)} pieces")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=pathlib.Path, help="folder of img2d.tif and mask2d.tif")
    parser.add_argument("folder", type=pathlib.Path, help="folder to write")
    parser.add_argument("--tile", type=int, default=128, help="side of a tile in pixels")
    parser.add_argument("--step", type=int, default=32, help="pixels between tiles to train on")
    args = parser.parse_args()
    image, labels = read(args.source / "img2d.tif"), read(args.source / "mask2d.tif")
    if image.shape != labels.shape:
        raise SystemExit(f"mask2d.tif: got shape {labels.shape}, expected {image.shape} as img2d.tif has")
    half = image.shape[1] // 2
    if not 0 < args.tile <= min(half, image.shape[0]) or args.step < 1:
        raise SystemExit(f"--tile {args.tile} --step {args.step}: expected a step from 1 on, and tiles of up to {half}")
    image, areas = eight_bits(image, image[:, :half]), np.bincount(labels.ravel())
    write(args.folder, "train", image[:, :half], labels[:, :half], areas, args.tile, args.step, turns=4)
    write(args.folder, "val", image[:, half:], labels[:, half:], areas, args.tile, args.tile, turns=1)


if __name__ == "__main__":
    main()
