"""The command lines that README and docs show."""

import re
import shlex

PROGRAMS = ("elo", "generator", "qsched", "study")


def commands_of(text):
    """The command lines of our programs in a page's blocks of code, as lists of words."""
    blocks = re.findall(r"^ *```(\w*)\n(.*?)^ *```", text, re.M | re.S)
    for block in (block for language, block in blocks if language in ("", "sh")):
        for line in block.replace("\\\n", " ").splitlines():
            for command in re.split(r"&&|;|\|", line.split(" #")[0]):
                words = shlex.split(command.split(" > ")[0])
                if words and words[0] in PROGRAMS:
                    yield words
