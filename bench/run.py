"""How much of the bare pipeline's speed `generator run` keeps, files, rows, checks and all.

    python bench/run.py                          # the shapes model on this machine
    python bench/run.py --model sdxl-turbo --prompts partiprompts -n 256 --batch-size 8

The peer is the bare loop of diffusers on the same model, prompts, noise and batches: it calls the pipeline
and keeps nothing. Each drawing is timed from the loaded model to the last picture, in turns; a run counts as
its whole duration less the time that its log gives for loading. On a GPU also how busy it was (nvidia-smi,
every 0.1 s).
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import torch

from generator.methods import all_methods
from generator.models import BaseModel, find_model
from generator.prompts import load_prompts, noise_seed, subset
from generator.sweep import run
from study.gallery import Prompt


def bare(base: BaseModel, prompts: list[Prompt], batch_size: int) -> float:
    """Seconds of the loop that every example of diffusers shows."""
    pipeline = base.load()
    began = time.perf_counter()
    for start in range(0, len(prompts), batch_size):
        batch = prompts[start : start + batch_size]
        pipeline(
            [prompt.text for prompt in batch],
            num_inference_steps=base.steps,
            guidance_scale=base.guidance,
            generator=[torch.Generator().manual_seed(noise_seed(prompt.prompt_id)) for prompt in batch],
            output_type="np",
            **base.arguments,
        )
    return time.perf_counter() - began


def whole(base: BaseModel, prompts: list[Prompt], batch_size: int) -> float:
    """Seconds of a run with the method fp16, less loading."""
    with tempfile.TemporaryDirectory() as folder:
        gallery = Path(folder) / "gallery"
        began = time.perf_counter()
        run(base, [all_methods()["fp16"]], prompts, gallery, prompt_set="bench", batch_size=batch_size)
        took = time.perf_counter() - began
        events = [json.loads(line) for line in (gallery / ".run" / "log.jsonl").read_text().splitlines()]
    return took - sum(event.get("ready_s", 0) for event in events)


class Busy:
    """Shares of time in which the GPU had work, one a tenth of a second, while the context lasts."""

    def __enter__(self) -> list[int]:
        self.shares: list[int] = []
        self.process = subprocess.Popen(
            ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "100"],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.thread = threading.Thread(target=self._read)
        self.thread.start()
        return self.shares

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self.shares.append(int(line))

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="shapes")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--prompts")
    parser.add_argument("-n", type=int, default=192)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    base = find_model(options.model, options.weights)
    prompts = subset(load_prompts(options.prompts or base.prompts), options.n)
    print(
        f"{base.id}, {base.ready().get('device', 'cpu')}, {options.n} prompts, {options.batch_size} at once"
    )
    whole(base, prompts[: options.batch_size], options.batch_size)  # a warm-up
    times: dict[str, list[float]] = {"bare": [], "run": []}
    for turn in range(options.turns):
        times["bare"].append(bare(base, prompts, options.batch_size))
        times["run"].append(whole(base, prompts, options.batch_size))
        print(f"turn {turn + 1}: " + ", ".join(f"{name} {each[-1]:.2f} s" for name, each in times.items()))
    ratios = [b / r for b, r in zip(*times.values(), strict=True)]
    for name, each in times.items():
        print(f"{name}: {options.n / statistics.median(each):.2f} images/s")
    print(f"speed kept: {statistics.median(ratios):.1%} (turns: {min(ratios):.1%} to {max(ratios):.1%})")
    if torch.cuda.is_available():
        with Busy() as shares:
            whole(base, prompts, options.batch_size)
        print(f"GPU busy: {statistics.fmean(shares):.1f} %, loading included")


if __name__ == "__main__":
    main()
