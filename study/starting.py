"""The study.toml that `study init` writes: every setting that there is, at its default."""

import json
import re
from pathlib import Path


def starting_toml(folder: str | Path, title: str) -> str:
    """The text of a fresh study.toml."""
    # A JSON string is a TOML basic string, but for DEL, which nobody types.
    return f"""\
# One study; docs/protocol.md explains each key. `study open` freezes these settings, and every vote
# carries their hash: a later change makes a new, numbered version.
name = {json.dumps(slug(Path(folder).resolve().name))}
title = {json.dumps(title, ensure_ascii=False)}
instructions = ""           # read before the first pair (Markdown)
seed = 0                    # all chance starts here
languages = ["en"]          # of the texts in this file; further ones have theirs in [texts.…] at the end
trials_per_voter = 30
prefetch = 3                # pairs loaded ahead of the one on the screen

[[questions]]               # one or more, asked about each pair
id = "preference"
text = "Which picture do you prefer?"
tie = true                  # may a voter answer "no preference"?
both_bad = false            # may a voter answer "both are bad"?

[pairs]
methods = []                # empty: all of the gallery
against = ""                # a method: each other one meets only it
listed = []                 # or the pairs themselves: [["a", "b"], ["a", "c"]]
across_base_models = false  # may methods of different base models meet?

[prompts]
categories = []             # empty: all
per_category = 0            # 0: all
leave_out_flagged = []      # ["black", "nan"]: not the prompts of which a method's image is flagged so

[quota]
votes = 0                   # wanted on each pair of methods, 0: no end
per = "prompt"              # ... for each "prompt" or for each "category"
lease_minutes = 10          # an unanswered trial goes back after that

[checks]                    # trials of a session, made from the gallery itself
practice = 0                # easy pairs before the others, not counted
golds = 0                   # a picture and the same one clearly degraded
repeats = 0                 # pairs shown again, sides swapped ...
repeat_gap = 10             # ... that many trials later
nulls = 0                   # the same picture twice
noise_floor = 0             # the same method and prompt, two seeds
degrade = ["jpeg", "blur"]

[quality]                   # when a voter is flagged; nothing is excluded by itself
answers = 8                 # with fewer there is no flag
too_fast_ms = 400
too_fast = 0.1              # more than this share of answers quicker than that
golds_right = 0.75          # less than this share
repeats_same = 0.6          # less than this share
one_side_p = 0.001          # binomial p of "as often left as right"
rhythm = 0.08               # interquartile range of response times by their median, below this
hidden = 0.2                # more than this share of answers with the page hidden in between

[page]
skip = false                # may a voter pass over a pair, with a reason?
undo = true                 # may a voter take back one of the last two votes?
min_exposure_ms = 0         # answers unlock so long after both pictures are shown

[entrances]                 # docs/recruiting.md
link = true                 # the bare address, for everybody
invitation = true           # links made by `study invite`
prolific = true
mturk = false
kiosk = false               # one device, person after person

[bot_check]                 # docs/deploy.md; the secret is BOT_CHECK_SECRET in the environment
service = ""                # "turnstile", "hcaptcha" or "recaptcha"
site_key = ""

[consent]                   # a page before everything else, if there is a text or an age
text = ""                   # Markdown; \"\"\" may hold several lines
age = 0                     # 18: voters must say that they are 18 or older
withdrawn_votes = "exclude" # or "keep", in tables, the votes of somebody who withdraws

[completion]                # at the end, by outcome: a code, or an https address to go to
finished = ""
screened_out = ""
no_consent = ""

[breaks]
every = 0                   # trials; 0: no breaks
text = ""                   # Markdown

# Questions about the person before the first pair, each of which can be skipped.
# [[demographics]]
# id = "screen"
# text = "What do you look at the pictures on?"
# choices = ["a phone", "a tablet", "a computer"]   # none: free text
# screen_out = []           # choices of people whom the study is not for

[display]                   # with less a voter is told that the study needs a larger window
min_width = 0               # of the window, in CSS pixels
min_height = 0
min_scale = 0.0             # device pixels an image pixel; 1.0: images are never shrunk

# With languages = ["en", "de"], all of the texts above in German; the interface has its own.
# [texts.de]
# title = "Welches Bild ist besser?"
# instructions = ""
# consent = ""
# breaks = ""
# questions.preference = "Welches Bild gefällt Ihnen besser?"
# demographics.screen = {{text = "Worauf sehen Sie die Bilder?", choices = ["Handy", "Tablet", "Computer"]}}
"""


def slug(text: str) -> str:
    """A name made of what a study name may hold."""
    return re.sub(r"[^a-z0-9_-]+", "-", text.lower()).strip("-_")[:64] or "study"
