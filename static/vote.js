// The voting page: shows one pair at a time, takes an answer, shows the next pair in the next frame.

import { Clock } from "./clock.js";
import { askToReport, askToSkip } from "./dialogs.js";
import { meant } from "./keys.js";
import { Outbox } from "./outbox.js";
import { decodePair, loadPair } from "./pictures.js";
import { Stage } from "./stage.js";
import { $, given, note, say, unnote, words } from "./words.js";

const LEAST_LOOK_MS = 200; // quicker than anybody sees: the second half of a double click, a bouncing key
const AHEAD = 2; // pairs decoded ahead; more are only loaded, for decoded pictures take much memory
const UNDO = 2; // answers that can be taken back, one after the other; the server takes no more
const ASK_AGAIN_MS = 2000; // for pairs, when others are changing every quota that has room
const KEYS = {
  row: { ArrowLeft: "left", ArrowDown: "tie", ArrowRight: "right", 1: "left", 2: "tie", 3: "right", 4: "both_bad" },
  column: { ArrowUp: "left", ArrowDown: "right", ArrowLeft: "left", ArrowRight: "right", 1: "left", 2: "tie", 3: "right", 4: "both_bad" },
};

const page = $("vote");
const buttons = [...$("answers").children];
const asked = given("asked"); // the questions: { id, text, answers }
const rules = given("rules"); // the protocol's { undo, min_exposure_ms, break_every }

const known = new Set(); // ids of the trials that were queued on this page or need not be
const queue = []; // pairs to come: { trial, pictures: promise of [left, right] or null, decoded, reveals }, in order
const past = []; // the last answered: { pair, vote }
let ballot = given("ballot");
let showing = null; // { pair, answers, askedAt, decodeMs, paintMs }
let coming = null; // the pair that is shown next, as soon as its pictures are there
let keeping = false; // an answer is on its way into the outbox
let breakAt = 0; // position of the trial before which there was a break
let asking = 0; // timer
let unlocking = 0; // timer
let stopped = false;

const clock = new Clock();
const stage = new Stage(() => {
  clock.pause("gate", stage.gated);
  if (showing !== null) unlock();
});
const outbox = new Outbox(page.dataset.voter, document.querySelector("meta[name=csrf-token]").content, {
  arrived: take,
  superseded(item, news) {
    note("news", say(item.what === "undo" ? "too_late" : "superseded"));
    take(news);
  },
  refused(code) {
    stopped = true;
    const onward = { href: page.dataset.home, text: say("go_on") };
    note("refused", outbox.stopped ? say("out_of_date") : say("refused", { code }), onward);
    lock(true);
  },
  trouble() {
    if (outbox.failing) note("offline", say("offline"));
    else unnote("offline");
    if (idle()) rest();
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

// ---------------------------------------------------------------- one pair after the other

/** Learn from the server where we are, and start loading what is new. */
function take(news) {
  ballot = news;
  for (const trial of ballot.trials) {
    if (known.has(trial.id)) continue;
    known.add(trial.id);
    enqueue(load({ trial, pictures: null, decoded: null, reveals: 0 }));
  }
  if (idle()) turn();
}

/** Whether there is nothing on the screen, and nothing on its way there. */
function idle() {
  return showing === null && coming === null && !keeping;
}

/** Start to load the pictures of a pair, once. */
function load(pair) {
  pair.pictures ??= loadPair(pair.trial, () => note("slow", say("slow")));
  return pair;
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
  const pair = (coming = queue.shift() ?? null);
  if (pair === null) {
    rest();
    return;
  }
  const late = setTimeout(clear, 0); // keep the old pair until then: no flash when all is loaded
  const { pictures, decodeMs } = await decode(pair);
  clearTimeout(late);
  if (coming === pair && breakIsDue(pair)) await takeBreak(pair);
  if (coming !== pair) return; // it was closed in another tab, or an answer was taken back
  coming = null;
  unnote("slow");
  cover(null);
  reveal(pair, pictures, decodeMs);
  for (const next of queue.slice(0, AHEAD)) decode(next);
}

function reveal(pair, pictures, decodeMs) {
  const { prompt, practice, position } = pair.trial;
  const shown = { pair, answers: [], askedAt: 0, decodeMs, paintMs: null };
  showing = shown;
  pair.reveals += 1;
  $("prompt").textContent = prompt;
  $("prompt").dataset.length = prompt.length > 220 ? "endless" : prompt.length > 90 ? "long" : "short";
  $("prompt").scrollTop = 0;
  $("prompt").tabIndex = $("prompt").scrollHeight > $("prompt").clientHeight ? 0 : -1; // to be scrolled by keys
  $("count").textContent = say(practice ? "practice" : "count", { number: position + 1, total: ballot.total });
  $("progress").value = position;
  stage.show(pictures);
  ask();
  requestAnimationFrame((frame) => {
    if (showing !== shown) return;
    clock.start(frame);
    performance.mark("revealed", { startTime: frame });
    unlock();
    setTimeout(() => (shown.paintMs = performance.now() - frame)); // a task after the frame: it has been painted
  });
}

/** Nothing can be shown now: wait for the server, or go to the end. */
function rest() {
  if (stopped) return;
  clear();
  cover(outbox.failing ? "rest" : null);
  if (outbox.size > 0) return;
  if (ballot.finished) leaveFor(page.dataset.done);
  else if (ballot.paused) leaveFor(page.dataset.home); // which says so
  else askAgain();
}

function leaveFor(address) {
  stopped = true; // a second call would break the first one off
  location.replace(address);
}

async function askAgain() {
  clearTimeout(asking);
  asking = setTimeout(() => idle() && rest(), ASK_AGAIN_MS);
  const response = await fetch(page.dataset.ballot).catch(() => null);
  const news = response?.ok ? await response.json() : null;
  if (news === null || !idle() || outbox.size > 0) return;
  known.clear(); // nothing is on its way: what the server calls open is open, whatever became of it here
  take(news);
}

function breakIsDue({ trial: { position } }) {
  return rules.break_every > 0 && position > 0 && position % rules.break_every === 0 && position !== breakAt;
}

/** Offer a break before a pair; resolves when the voter goes on. */
async function takeBreak(pair) {
  breakAt = pair.trial.position;
  clear();
  cover("break");
  $("progress").value = breakAt;
  $("continue").focus();
  await new Promise((resolve) => ($("continue").onclick = resolve));
  $("prompt").focus(); // not an answer: whoever presses Enter twice did not mean one
}

function clear() {
  stage.show([]);
  $("prompt").textContent = "";
  lock(true);
}

/** Lay a text over the empty stage, by its id; null: none. */
function cover(id) {
  for (const one of ["rest", "break"]) if ($(one) !== null) $(one).hidden = one !== id;
}

// ---------------------------------------------------------------- answers

/** Ask the next question about the pair on the screen. */
function ask() {
  const question = asked[showing.answers.length];
  $("question").textContent = question.text;
  for (const button of buttons) button.hidden = !question.answers.includes(button.dataset.answer);
  unlock();
}

/** Let the voter answer, as soon as the pair has been seen for as long as the protocol wants. */
function unlock() {
  clearTimeout(unlocking);
  const wait = rules.min_exposure_ms === 0 ? 0 : rules.min_exposure_ms - clock.seen();
  lock(stopped || stage.gated || wait > 0);
  if (wait > 0 && wait < Infinity) unlocking = setTimeout(() => showing !== null && unlock(), wait);
}

function lock(locked) {
  $("stage").setAttribute("aria-busy", String(locked));
  // aria-disabled, not disabled: a button that loses the focus loses the voter's place on the page.
  for (const button of buttons) button.setAttribute("aria-disabled", String(locked));
  const possible = past.length > 0 || (showing !== null && showing.answers.length > 0);
  $("undo")?.setAttribute("aria-disabled", String(stopped || !possible));
}

/** Take the voter's answer to the question on the screen; after the last one, to the next pair. */
async function answer(side, input, at) {
  if (stopped || keeping || showing === null || stage.gated) return;
  if (stage.inspection.flipped) return; // left is not left now
  const question = asked[showing.answers.length];
  const seen = clock.seen(at);
  if (!question.answers.includes(side)) return;
  if (seen - showing.askedAt < LEAST_LOOK_MS || seen < rules.min_exposure_ms) return;
  const { pair, answers } = showing;
  answers.push({ question: question.id, answer: side, rt_ms: Math.round(seen) });
  if (answers.length < asked.length) {
    showing.askedAt = seen;
    ask();
    return;
  }
  performance.mark("answered", { startTime: at });
  const vote = newId();
  past.push({ pair, vote });
  if (past.length > UNDO) past.shift();
  await keep(pair, "vote", { vote_id: vote, answers, display: display(input) });
}

/** How the pair was shown, for the vote's record. */
function display(input) {
  return {
    dpr: devicePixelRatio,
    scale: stage.scale,
    viewport: [innerWidth, innerHeight],
    layout: stage.layout,
    input,
    hidden_ms: Math.round(clock.hidden),
    blurs: clock.blurs,
    decode_ms: Math.round(showing.decodeMs),
    paint_ms: showing.paintMs === null ? null : Math.round(showing.paintMs),
    reveals: showing.pair.reveals,
    language: document.documentElement.lang,
    inspection: stage.inspection.uses,
  };
}

/** Put what the voter did into the outbox, and only then go on. */
async function keep(pair, what, body) {
  keeping = true;
  if (what !== "undo") unnote("news");
  await outbox.put(pair.trial.id, what, pair.trial[what], body);
  keeping = false;
  turn();
}

/** Take the last answer back: to a question of this pair, else to the pair before, which is shown again. */
async function takeBack() {
  if (stopped || keeping || !rules.undo) return;
  if (showing !== null && showing.answers.length > 0) {
    showing.answers.pop();
    showing.askedAt = clock.seen();
    ask();
    return;
  }
  const last = past.pop();
  if (last === undefined) return;
  const unanswered = showing?.pair ?? coming;
  if (unanswered !== null) enqueue(unanswered);
  showing = coming = null;
  enqueue(load(last.pair));
  note("news", say("undone"));
  await keep(last.pair, "undo", { vote_id: last.vote });
}

/** End the pair on the screen without a vote, as `what` says, if the voter confirms it in a dialog. */
async function end(what, dialog) {
  if (stopped || keeping || showing === null || stage.gated) return;
  const { pair } = showing;
  clock.pause("dialog", true);
  const said = await dialog();
  clock.pause("dialog", false);
  if (said === null || keeping || showing?.pair !== pair) return;
  past.length = 0; // the answers before are not the last thing that was done
  await keep(pair, what, { [`${what}_id`]: newId(), ...said });
}

/** 128 random bits. (crypto.randomUUID is missing where a study is served without https.) */
function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// ---------------------------------------------------------------- hands

addEventListener("keydown", (event) => {
  if (event.repeat && buttons.includes(event.target)) event.preventDefault(); // a held key is one answer
  if (event.repeat || event.shiftKey || !meant(event)) return;
  const side = KEYS[stage.layout][event.key];
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
    const meantIt = event.detail < 2 && event.target !== $(side) && !stage.inspection.swallowsClick;
    if (meantIt) answer(side, "picture", event.timeStamp);
  });
}
$("undo")?.addEventListener("click", takeBack);
$("skip")?.addEventListener("click", () => end("skip", askToSkip));
$("report").addEventListener("click", () => end("report", () => askToReport(stage.layout)));
$("more").addEventListener("click", () => {
  const open = $("tools").toggleAttribute("data-open");
  $("more").setAttribute("aria-expanded", String(open));
});

addEventListener("beforeunload", (event) => {
  if (!outbox.lasting && !stopped) event.preventDefault();
});
addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload();
});

for (const trial of await outbox.start()) known.add(trial);
if (outbox.size === 0) {
  // What the server has last is what was done last: it can be taken back on this page as on the one before.
  for (const { trial, vote } of given("past")) {
    known.add(trial.id);
    past.push({ pair: { trial, pictures: null, decoded: null, reveals: 1 }, vote });
  }
}
take(ballot);
