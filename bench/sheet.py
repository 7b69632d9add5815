"""A contact sheet of a gallery: a column a method, a row a prompt, true sizes in the headings.

python bench/sheet.py demo/gallery -o docs/images/methods.png
"""

import argparse
import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
from PIL import Image

from study.gallery import read_gallery


def sheet(folder, rows):
    """A figure of the first `rows` prompts under all methods; pictures are enlarged by whole pixels."""
    gallery = read_gallery(folder)
    files = {(image.method, image.prompt_id): image.file for image in gallery.images}
    columns, prompts = gallery.methods, gallery.prompts[:rows]
    figure, axes = plt.subplots(
        len(prompts),
        len(columns),
        figsize=(1.6 * len(columns) + 1.5, 1.62 * len(prompts)),
        layout="constrained",
    )
    for row, prompt in zip(axes, prompts, strict=True):
        for axis, method in zip(row, columns, strict=True):
            axis.imshow(
                Image.open(Path(folder) / files[method.id, prompt.prompt_id]), interpolation="nearest"
            )
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        row[0].set_ylabel(textwrap.fill(prompt.text, 20), rotation=0, ha="right", va="center", fontsize=8)
    for axis, method in zip(axes[0], columns, strict=True):
        axis.set_title(f"{method.label}\n{method.size_bytes / 1e6:.2f} MB", fontsize=9)
    return figure


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("gallery", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=5)
    arguments = parser.parse_args()
    sheet(arguments.gallery, arguments.rows).savefig(arguments.output, dpi=130)
