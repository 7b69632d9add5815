"""A run that takes no time: a model whose pictures are its noise, and methods that tint them.

As a script it makes runs in processes of their own, to be killed: for each line of stdin, a JSON list of the
gallery folder and of how many steps on the way to the disk to let pass before SIGKILL, it answers "killed" or
"done".
"""

import gc
import json
import os
import signal
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from generator import sweep
from generator.methods import Method
from generator.models import BaseModel
from study.gallery import Prompt

PROMPTS = [
    Prompt(prompt_id=f"p{i}", text=f"picture {i}", category="even" if i % 2 == 0 else None) for i in range(7)
]
BATCH = 3


class Pipeline:
    """A pipeline's outside: it calls its backbone once a step and gives back the noise, tinted."""

    def __init__(self):
        self.unet = torch.nn.Linear(1, 1)
        self.unet.tint = torch.nn.Parameter(torch.zeros(3, 1, 1))
        self.scheduler = SimpleNamespace()

    @torch.no_grad()
    def __call__(self, prompt, num_inference_steps, generator, **_):
        for _ in range(num_inference_steps):
            self.unet(torch.zeros(len(prompt), 1))
        noise = torch.stack([torch.rand((3, 8, 8), generator=one) for one in generator])
        return SimpleNamespace(images=(noise + self.unet.tint).clamp(0, 1))


class HeldPipeline(Pipeline):
    """Draws two batches, and the others when a file is there; none where the node was killed meanwhile.

    A worker outlives its node, which is its parent, by moments in which it could draw all the others.
    """

    def __init__(self, file):
        super().__init__()
        self.file, self.drawn, self.node = file, 0, os.getppid()

    def __call__(self, *arguments, **named):
        while self.drawn == 2 and not (self.file.exists() and os.getppid() == self.node):
            time.sleep(0.01)
        self.drawn += 1
        return super().__call__(*arguments, **named)


class ReadingPipeline(Pipeline):
    """Has its texts encoded beforehand, and tells in a file which ones."""

    device = torch.device("cpu")

    def __init__(self, file):
        super().__init__()
        self.file, self.components = file, {"text_encoder": torch.nn.Identity()}


def encode(pipeline, base, texts):
    with Path(pipeline.file).open("a") as stream:
        stream.writelines(f"{text}\n" for text in texts)
    return {"prompt": torch.tensor([[float(text.split()[1])] for text in texts])}


sweep.conditions.ENCODERS[ReadingPipeline] = encode


class TooLargePipeline(Pipeline):
    """Needs more memory than there is."""

    def __call__(self, *arguments, **named):
        raise torch.OutOfMemoryError("CUDA out of memory.")


def model(id_="noise", load=Pipeline, **changes):
    settings = {"label": id_, "check": list, "backbone": "unet", "steps": 2, "guidance": 0.0}
    return BaseModel(id=id_, load=load, scorer=None, **settings, **changes)


def method(id_, tint=0.0, **changes):
    def apply(pipeline, base):
        pipeline.unet.tint.data[0] = tint

    return Method(id_, id_, 16, 16, "", apply, **changes)


METHODS = [method("plain"), method("red", 0.5)]
TOTAL = len(METHODS) * len(PROMPTS)


def files(folder):
    """The bytes of every picture, by name."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in Path(folder).glob("images/**/*.png")}


def run(folder, methods=METHODS, prompts=PROMPTS, base=None, **settings):
    settings = {"prompt_set": "seven", "batch_size": BATCH, **settings}
    return sweep.run(base or model(), methods, prompts, Path(folder), **settings)


@contextmanager
def interrupted_at_the_third(monkeypatch):
    """Two batches are drawn; at the third comes Ctrl-C, which the block must let through."""
    drawn, draw = [], sweep.artist.draw

    def stopped(*arguments):
        drawn.append(1)
        if len(drawn) == 3:
            raise KeyboardInterrupt
        return draw(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(sweep.artist, "draw", stopped)
        with pytest.raises(KeyboardInterrupt):
            yield


def _killed_after(steps):
    """Count what takes an image to the disk; SIGKILL at the step after the last that may pass."""
    passed = 0

    def counted(function):
        def step(*arguments, **named):
            nonlocal passed
            passed += 1
            if passed > steps:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **named)

        return step

    # What a process wrote outlives it without fsync, which would only cost time here.
    os.fsync, os.replace = counted(lambda descriptor: None), counted(os.replace)
    sweep.artist.draw = counted(sweep.artist.draw)


def _main():
    for line in sys.stdin:
        folder, steps = json.loads(line)
        child = os.fork()
        if child == 0:
            _killed_after(steps)
            run(folder)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            assert os.WTERMSIG(status) == signal.SIGKILL
        else:
            assert os.WEXITSTATUS(status) == 0
        sys.stdout.write("killed\n" if os.WIFSIGNALED(status) else "done\n")
        sys.stdout.flush()


if __name__ == "__main__":
    torch.set_num_threads(1)
    gc.freeze()
    _main()
