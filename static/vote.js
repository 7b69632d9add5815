// The voting page: shows one pair at a time, takes an answer, shows the next pair in the next frame.

import { Inspection } from "./inspect.js";
import { Outbox } from "./outbox.js";
import { alignToDevicePixels, arrange, loadPair } from "./pictures.js";

const LEAST_LOOK_MS = 200; // quicker than anybody sees: the second half of a double click, a bouncing key
const GAP = 16; // CSS pixels between the pictures
const KEYS = {
  row: { ArrowLeft: "left", ArrowDown: "tie", ArrowRight: "right", 1: "left", 2: "tie", 3: "right", 4: "both_bad" },
  column: { ArrowUp: "left", ArrowDown: "right", ArrowLeft: "left", ArrowRight: "right", 1: "left", 2: "tie", 3: "right", 4: "both_bad" },
};
const NAMES = {
  row: { left: ["Left", "←"], tie: ["Tie", "↓"], right: ["Right", "→"], both_bad: ["Both bad", "4"] },
  column: { left: ["Top", "↑"], tie: ["Tie", "2"], right: ["Bottom", "↓"], both_bad: ["Both bad", "4"] },
};

const $ = (id) => document.getElementById(id);
const page = $("vote");
const stage = $("stage");
const buttons = [...$("answers").querySelectorAll("button")];
const asked = JSON.parse($("asked").textContent); // the questions: { id, text, answers }

const known = new Set(); // ids of all trials ever queued on this page
const queue = []; // { trial, pictures: promise of [left, right] }, in order
let ballot = JSON.parse($("ballot").textContent);
let showing = null; // { trial, pictures, answers, shownAt, askedAt, hidden, layout, scale }; shownAt is null until it can be seen
let turning = false; // between two pairs
let stopped = false;

const inspection = new Inspection([$("left"), $("right")], (zoom) => {
  $("zoom").textContent = zoom === 1 ? "" : `${zoom}×`;
  stage.toggleAttribute("data-zoomed", zoom > 1);
});
const outbox = new Outbox(document.querySelector("meta[name=csrf-token]").content, {
  onArrived: take,
  onTrouble: (failing) =>
    note(failing ? "No connection. Your answers are kept here and sent as soon as it is back." : ""),
  onRefused: () => {
    stopped = true;
    note("This page is out of date. ", "Go on where you were");
    lock(true);
  },
});

/** Learn from the server where we are, and start loading what is new. */
function take(news) {
  ballot = news;
  for (const trial of ballot.trials) {
    if (known.has(trial.id)) continue;
    known.add(trial.id);
    queue.push({ trial, pictures: loadPair(trial, () => note("The pictures are slow to arrive. Trying again…")) });
  }
  if (showing === null && !turning) turn();
}

/** Show the next pair as soon as both pictures are there: both in one frame, never one alone. */
async function turn() {
  showing = null;
  const next = queue.shift();
  if (next === undefined) {
    if (ballot.finished && outbox.empty) location.replace(page.dataset.done);
    else clear();
    return;
  }
  turning = true;
  const late = setTimeout(clear, 0); // keep the old pair until then: no flash when all is loaded
  const [left, right] = await next.pictures;
  clearTimeout(late);
  turning = false;
  if (!outbox.failing && !stopped) note("");

  showing = { trial: next.trial, pictures: [left, right], answers: [], shownAt: null, askedAt: null, hidden: 0 };
  inspection.show([left, right]);
  const prompt = next.trial.prompt;
  $("prompt").textContent = prompt;
  $("prompt").dataset.length = prompt.length > 220 ? "endless" : prompt.length > 90 ? "long" : "short";
  $("prompt").scrollTop = 0;
  const practice = next.trial.practice ? " (practice)" : "";
  $("count").textContent = `Pair ${next.trial.position + 1} of ${ballot.total}${practice}`;
  $("progress").value = next.trial.position;
  fit();
  ask();
  requestAnimationFrame((now) => {
    if (showing !== null) showing.shownAt = showing.askedAt = now;
  });
}

/** Ask the next question about the pair on the screen. */
function ask() {
  const question = asked[showing.answers.length];
  $("question").textContent = question.text;
  for (const button of buttons) button.hidden = !question.answers.includes(button.dataset.answer);
  lock(stopped);
}

function clear() {
  inspection.show([]);
  $("prompt").textContent = "";
  lock(true);
}

/** Size the pictures to the room there is. */
function fit() {
  if (showing === null) return;
  const dpr = devicePixelRatio;
  const box = { width: stage.clientWidth * dpr, height: stage.clientHeight * dpr };
  const { layout, scale } = arrange(box, showing.trial, GAP * dpr);
  Object.assign(showing, { layout, scale });
  stage.dataset.layout = layout;
  const places = [$("left"), $("right")];
  for (const place of places) {
    place.style.width = `${(showing.trial.width * scale) / dpr}px`;
    place.style.height = `${(showing.trial.height * scale) / dpr}px`;
  }
  alignToDevicePixels(places);
  for (const image of showing.pictures) image.className = scale >= 1 ? "pixelated" : "";
  inspection.fit(scale / dpr);
  showing.pictures[0].alt = `${NAMES[layout].left[0]} picture`;
  showing.pictures[1].alt = `${NAMES[layout].right[0]} picture`;
  for (const button of buttons) {
    const [name, key] = NAMES[layout][button.dataset.answer];
    button.querySelector("span").textContent = name;
    button.querySelector("kbd").textContent = key;
  }
}

/** Take the voter's answer to the question on the screen; after the last one, to the next pair. */
function answer(side, input) {
  if (stopped || showing === null || showing.shownAt === null) return;
  if (inspection.flipped) return; // left is not left now
  const question = asked[showing.answers.length];
  const now = performance.now();
  if (!question.answers.includes(side) || now - showing.askedAt < LEAST_LOOK_MS) return;
  const { trial, answers, layout, scale } = showing;
  answers.push({ question: question.id, answer: side, rt_ms: Math.round(now - showing.shownAt) });
  if (answers.length < asked.length) {
    showing.askedAt = now;
    ask();
    return;
  }
  outbox.push(trial.vote, {
    vote_id: newId(),
    answers,
    display: {
      dpr: devicePixelRatio,
      scale,
      viewport: [innerWidth, innerHeight],
      layout,
      input,
      hidden_ms: Math.round(showing.hidden),
      inspection: inspection.uses,
    },
  });
  turn();
}

/** 128 random bits. (crypto.randomUUID is missing where a study is served without https.) */
function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function lock(locked) {
  stage.setAttribute("aria-busy", String(locked));
  // aria-disabled, not disabled: a button that loses the focus loses the voter's place on the page.
  for (const button of buttons) button.setAttribute("aria-disabled", String(locked));
}

function note(text, reload = "") {
  const place = $("note");
  place.textContent = text;
  if (reload !== "") {
    const link = document.createElement("a");
    link.href = "/";
    link.textContent = reload;
    place.append(link);
  }
  place.hidden = text === "";
}

addEventListener("keydown", (event) => {
  if (event.repeat || event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
  const side = KEYS[showing?.layout ?? "row"][event.key];
  if (side === undefined) return;
  event.preventDefault();
  answer(side, "key");
});

for (const button of buttons) {
  button.addEventListener("click", (event) => {
    if (event.detail < 2) answer(button.dataset.answer, event.detail === 0 ? "key" : "button");
  });
}
for (const side of ["left", "right"]) {
  $(side).addEventListener("click", (event) => {
    if (event.detail < 2 && event.target !== $(side) && !inspection.swallowsClick) answer(side, "picture");
  });
}

let hiddenAt = null;
document.addEventListener("visibilitychange", () => {
  if (document.hidden) hiddenAt = performance.now();
  else if (hiddenAt !== null && showing !== null) showing.hidden += performance.now() - hiddenAt;
});

new ResizeObserver(fit).observe(stage);
addEventListener("resize", fit);
addEventListener("beforeunload", (event) => {
  if (outbox.failing && !stopped) event.preventDefault();
});
addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload();
});

take(ballot);
