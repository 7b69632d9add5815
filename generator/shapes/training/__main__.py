"""Command line of the training stages; see the package's docstring."""

from __future__ import annotations

import argparse
import importlib

import torch

STAGES = ("vae", "clip", "judge", "reader", "teacher", "student", "card")


def main() -> None:
    """Run one stage."""
    parser = argparse.ArgumentParser(prog="python -m generator.shapes.training", description=__doc__)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    # Attention over some tens of tokens: on a CPU the flash kernel's backward pass is the slower one.
    torch.backends.cuda.enable_flash_sdp(False)
    module = "clip" if arguments.stage == "judge" else arguments.stage
    stage = importlib.import_module(f"generator.shapes.training.{module}")
    stage.run(arguments.stage) if module == "clip" else stage.run()


if __name__ == "__main__":
    main()
