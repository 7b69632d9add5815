// The voting page: shows one pair at a time, takes an answer, shows the next pair in the next frame.

import { Clock } from "./clock.js";
import { Inspection } from "./inspect.js";
import { Outbox } from "./outbox.js";
import { alignToDevicePixels, arrange, decodePair, loadPair } from "./pictures.js";

const LEAST_LOOK_MS = 200; // quicker than anybody sees: the second half of a double click, a bouncing key
const GAP = 16; // CSS pixels between the pictures
const AHEAD = 2; // pairs decoded ahead; more are only loaded, for decoded pictures take much memory
const UNDO = 2; // answers that can be taken back, one after the other; the server takes no more
const ASK_AGAIN_MS = 2000; // for pairs, when others are changing every quota that has room
const KEYS = {
  row: { ArrowLeft: "left", ArrowDown: "tie", ArrowRight: "right", 1: "left", 2: "tie", 3: "right", 4: "both_bad" },
  column: { ArrowUp: "left", ArrowDown: "right", ArrowLeft: "left", ArrowRight: "right", 1: "left", 2: "tie", 3: "right", 4: "both_bad" },
};
const SIGNS = {
  row: { left: "←", tie: "↓", right: "→", both_bad: "4" },
  column: { left: "↑", tie: "2", right: "↓", both_bad: "4" },
};

const $ = (id) => document.getElementById(id);
const given = (id) => JSON.parse($(id).textContent);
const page = $("vote");
const stage = $("stage");
const buttons = [...$("answers").querySelectorAll("button")];
const asked = given("asked"); // the questions: { id, text, answers }
const words = given("words"); // all that this page says, in the voter's language

const known = new Set(); // ids of the trials that were queued on this page or need not be
const queue = []; // pairs to come: { trial, pictures: promise of [left, right], decoded, reveals }, in order
const past = []; // the last answered: { pair, vote }
let ballot = given("ballot");
let showing = null; // { pair, pictures, answers, askedAt, layout, scale, decodeMs, paintMs }
let coming = null; // the pair that is shown next, as soon as its pictures are there
let keeping = false; // an answer is on its way into the outbox
let asking = 0; // timer
let stopped = false;

const clock = new Clock();
const inspection = new Inspection([$("left"), $("right")], (zoom) => {
  $("zoom").textContent = zoom === 1 ? "" : `${zoom}×`;
  stage.toggleAttribute("data-zoomed", zoom > 1);
});
const outbox = new Outbox(page.dataset.voter, document.querySelector("meta[name=csrf-token]").content, {
  arrived: take,
  superseded(item, news) {
    note("news", say(item.what === "undo" ? "too_late" : "superseded"));
    take(news);
  },
  refused(code) {
    stopped = true;
    if (outbox.stopped) note("refused", say("out_of_date"), say("go_on"));
    else note("refused", say("refused", { code }), say("go_on"));
    lock(true);
  },
  trouble() {
    if (outbox.failing) note("offline", say("offline"));
    else unnote("offline");
    if (showing === null && coming === null) rest();
  },
  closed(trial) {
    known.add(trial);
    if (keeping) return; // answered here as well: the server knows who was first
    const at = queue.findIndex((pair) => pair.trial.id === trial);
    if (at >= 0) queue.splice(at, 1);
    if ((showing?.pair ?? coming)?.trial.id !== trial) return;
    note("news", say("elsewhere"));
    turn();
  },
});

/** Learn from the server where we are, and start loading what is new. */
function take(news) {
  ballot = news;
  for (const trial of ballot.trials) {
    if (known.has(trial.id)) continue;
    known.add(trial.id);
    enqueue({ trial, pictures: loadPair(trial, () => note("slow", say("slow"))), decoded: null, reveals: 0 });
  }
  if (showing === null && coming === null && !keeping) turn();
}

function enqueue(pair) {
  const at = queue.findIndex((other) => other.trial.position > pair.trial.position);
  queue.splice(at < 0 ? queue.length : at, 0, pair);
}

/** Decode the pictures of a pair, once; resolves to { pictures, decodeMs }. */
function decode(pair) {
  pair.decoded ??= pair.pictures.then(async (pictures) => ({ pictures, decodeMs: await decodePair(pictures) }));
  return pair.decoded;
}

/** Show the next pair as soon as both pictures are there: both in one frame, never one alone. */
async function turn() {
  showing = null;
  clock.stop();
  coming = queue.shift() ?? null;
  if (coming === null) {
    rest();
    return;
  }
  const pair = coming;
  const late = setTimeout(clear, 0); // keep the old pair until then: no flash when all is loaded
  const { pictures, decodeMs } = await decode(pair);
  clearTimeout(late);
  if (coming !== pair) return; // it was closed in another tab, or an answer was taken back
  coming = null;
  unnote("slow");
  for (const next of queue.slice(0, AHEAD)) decode(next);

  const { trial } = pair;
  pair.reveals += 1;
  showing = { pair, pictures, answers: [], askedAt: 0, decodeMs, paintMs: null };
  inspection.show(pictures);
  $("rest").hidden = true;
  $("prompt").textContent = trial.prompt;
  $("prompt").dataset.length = trial.prompt.length > 220 ? "endless" : trial.prompt.length > 90 ? "long" : "short";
  $("prompt").scrollTop = 0;
  $("count").textContent = say(trial.practice ? "practice" : "count", { number: trial.position + 1, total: ballot.total });
  $("progress").value = trial.position;
  fit();
  ask();
  const shown = showing;
  requestAnimationFrame((frame) => {
    if (showing !== shown) return;
    clock.start(frame);
    performance.mark("revealed", { startTime: frame });
    setTimeout(() => (shown.paintMs = performance.now() - frame)); // a task after the frame: it has been painted
  });
}

/** Nothing can be shown now: wait for the server, or go to the end. */
function rest() {
  if (stopped) return;
  clear();
  $("rest").hidden = !outbox.failing;
  if (outbox.size > 0) return;
  if (ballot.finished) location.replace(page.dataset.done);
  else askAgain();
}

async function askAgain() {
  clearTimeout(asking);
  asking = setTimeout(() => showing === null && coming === null && rest(), ASK_AGAIN_MS);
  const response = await fetch(page.dataset.ballot).catch(() => null);
  if (!response?.ok || outbox.size > 0) return;
  known.clear(); // nothing is on its way: what the server calls open is open, whatever became of it here
  take(await response.json());
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
  const { pair, pictures } = showing;
  const dpr = devicePixelRatio;
  const box = { width: stage.clientWidth * dpr, height: stage.clientHeight * dpr };
  const { layout, scale } = arrange(box, pair.trial, GAP * dpr);
  Object.assign(showing, { layout, scale });
  stage.dataset.layout = layout;
  const places = [$("left"), $("right")];
  for (const place of places) {
    place.style.width = `${(pair.trial.width * scale) / dpr}px`;
    place.style.height = `${(pair.trial.height * scale) / dpr}px`;
  }
  alignToDevicePixels(places);
  for (const image of pictures) image.className = scale >= 1 ? "pixelated" : "";
  inspection.fit(scale / dpr);
  pictures[0].alt = words[layout].left_picture;
  pictures[1].alt = words[layout].right_picture;
  for (const button of buttons) {
    button.querySelector("span").textContent = words[layout][button.dataset.answer];
    button.querySelector("kbd").textContent = SIGNS[layout][button.dataset.answer];
  }
}

/** Take the voter's answer to the question on the screen; after the last one, to the next pair. */
async function answer(side, input, at) {
  if (stopped || keeping || showing === null) return;
  if (inspection.flipped) return; // left is not left now
  const question = asked[showing.answers.length];
  const seen = clock.seen(at);
  if (!question.answers.includes(side) || seen - showing.askedAt < LEAST_LOOK_MS) return;
  const { pair, answers } = showing;
  answers.push({ question: question.id, answer: side, rt_ms: Math.round(seen) });
  if (answers.length < asked.length) {
    showing.askedAt = seen;
    ask();
    allowUndo();
    return;
  }
  performance.mark("answered", { startTime: at });
  unnote("news");
  const vote = newId();
  past.push({ pair, vote });
  if (past.length > UNDO) past.shift();
  await keep(pair, "vote", { vote_id: vote, answers, display: display(input) });
}

/** How the pair was shown, for the vote's record. */
function display(input) {
  return {
    dpr: devicePixelRatio,
    scale: showing.scale,
    viewport: [innerWidth, innerHeight],
    layout: showing.layout,
    input,
    hidden_ms: Math.round(clock.hidden),
    blurs: clock.blurs,
    decode_ms: Math.round(showing.decodeMs),
    paint_ms: showing.paintMs === null ? null : Math.round(showing.paintMs),
    reveals: showing.pair.reveals,
    inspection: inspection.uses,
  };
}

/** Put what the voter did into the outbox, and only then go on. */
async function keep(pair, what, body) {
  keeping = true;
  lock(true);
  await outbox.put(pair.trial.id, what, pair.trial[what], body);
  keeping = false;
  allowUndo();
  turn();
}

/** Take the last answer back: to a question of this pair, else to the pair before, which is shown again. */
async function takeBack() {
  if (stopped || keeping || !page.hasAttribute("data-undo")) return;
  if (showing !== null && showing.answers.length > 0) {
    showing.answers.pop();
    showing.askedAt = clock.seen();
    ask();
    allowUndo();
    return;
  }
  const last = past.pop();
  if (last === undefined) return;
  const unanswered = showing?.pair ?? coming;
  if (unanswered !== null) enqueue(unanswered);
  showing = coming = null;
  enqueue(last.pair);
  note("news", say("undone"));
  await keep(last.pair, "undo", { vote_id: last.vote });
}

function allowUndo() {
  const possible = past.length > 0 || (showing !== null && showing.answers.length > 0);
  $("undo")?.setAttribute("aria-disabled", String(!possible));
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

function say(key, values = {}) {
  return words[key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

/** A line for the voter; of each kind it stays until `unnote`, or until something else is to be said. */
function note(kind, text, link = "") {
  const place = $("note");
  if (place.textContent === text + link) return; // not announced again
  place.textContent = text;
  place.dataset.kind = kind;
  if (link === "") return;
  const anchor = document.createElement("a");
  anchor.href = page.dataset.home;
  anchor.textContent = link;
  place.append(anchor);
}

function unnote(kind) {
  if ($("note").dataset.kind === kind) $("note").textContent = "";
}

addEventListener("keydown", (event) => {
  if (event.repeat || event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
  const side = KEYS[showing?.layout ?? "row"][event.key];
  if (side !== undefined) answer(side, "key", event.timeStamp);
  else if (event.key === "Backspace") takeBack();
  else return;
  event.preventDefault();
});

for (const button of buttons) {
  button.addEventListener("click", (event) => {
    if (event.detail < 2) answer(button.dataset.answer, event.detail === 0 ? "key" : "button", event.timeStamp);
  });
}
for (const side of ["left", "right"]) {
  $(side).addEventListener("click", (event) => {
    if (event.detail < 2 && event.target !== $(side) && !inspection.swallowsClick) answer(side, "picture", event.timeStamp);
  });
}
$("undo")?.addEventListener("click", takeBack);

new ResizeObserver(fit).observe(stage);
addEventListener("resize", fit);
addEventListener("beforeunload", (event) => {
  if (!outbox.lasting && !stopped) event.preventDefault();
});
addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload();
});

for (const trial of await outbox.start()) known.add(trial);
take(ballot);
