// Answers on their way to the server: one at a time, in order, again and again until they arrive.
//
// An item is { trial, what, address, body }: what is "vote", "undo", "skip" or "report". Its body holds an id that
// it keeps whatever happens, so however often it is sent it is one answer. All tabs of a voter share one outbox.

import { Shelf } from "./shelf.js";

const FIRST_WAIT = 500;
const LONGEST_WAIT = 15000;
const TIMEOUT = 20000; // for one try
const NAME = "pairstudy-outbox";

export class Outbox {
  #shelf;
  #token;
  #voter;
  #tabs = "BroadcastChannel" in window ? new BroadcastChannel(NAME) : null;
  #sending = false;
  #more = false; // something was put here while sending
  #wake = () => {};
  #on;

  size = 0; // items that have not arrived
  failing = false;
  stopped = false; // the server wants something first that only a new page can give

  /**
   * `on`: arrived(ballot) after each item that was taken; superseded(item, ballot) when the trial had an answer
   * already, which stands; refused(code, item) when the server does not take it; trouble() whenever `failing` or
   * `size` changes; closed(trial) when another tab ended a trial.
   */
  constructor(voter, token, on) {
    this.#shelf = new Shelf(voter);
    this.#voter = voter;
    this.#token = token;
    this.#on = on;
    addEventListener("online", () => this.#wake());
    document.addEventListener("visibilitychange", () => this.#wake());
    this.#tabs?.addEventListener("message", async ({ data }) => {
      if (data.voter !== voter) return;
      if (data.closed !== undefined) on.closed(data.closed);
      if (data.ballot === undefined) return;
      await this.#list();
      on.arrived(data.ballot);
    });
  }

  /** Whether everything is still here when the page is closed now. */
  get lasting() {
    return this.#shelf.lasting;
  }

  /** Begin to send what an earlier page left here; resolves to the ids of the trials that it closes. */
  async start() {
    const closed = new Set();
    for (const { trial, what } of await this.#list()) {
      if (what === "undo") closed.delete(trial);
      else closed.add(trial);
    }
    this.#sendAll();
    return closed;
  }

  /** Keep an answer, then send it; resolves when it is kept. */
  async put(trial, what, address, body) {
    await this.#shelf.add({ trial, what, address, body: JSON.stringify(body) });
    this.size += 1;
    if (what !== "undo") this.#tellTabs({ closed: trial });
    this.#sendAll();
  }

  async #list() {
    const items = await this.#shelf.list();
    this.size = items.length;
    return items;
  }

  async #sendAll() {
    this.#more = true;
    if (this.#sending) return;
    this.#sending = true;
    for (let wait = FIRST_WAIT; this.#more && !this.stopped; ) {
      this.#more = false;
      const tried = await alone(() => this.#sendFirst());
      if (tried !== null) this.#more = true;
      this.failing = tried?.reply === null;
      if (this.failing) {
        this.#on.trouble();
        await new Promise((resolve) => {
          this.#wake = resolve;
          setTimeout(resolve, wait);
        });
        wait = Math.min(wait * 2, LONGEST_WAIT);
      } else {
        wait = FIRST_WAIT;
        if (tried !== null) this.#report(tried);
        this.#on.trouble();
      }
    }
    this.#sending = false;
  }

  /** Send the oldest item; its reply is null if it did not arrive. Null if there is no item. */
  async #sendFirst() {
    const [item] = await this.#list();
    if (item === undefined) return null;
    const reply = await this.#post(item).catch(() => null);
    // No cookie, or that of another start: the item waits for a page that may send it.
    this.stopped = reply !== null && (reply.status === 401 || reply.body.error === "csrf");
    if (reply !== null && !this.stopped) {
      await this.#shelf.remove(item);
      this.size -= 1;
    }
    return { item, reply };
  }

  #report({ item, reply: { status, body } }) {
    if (status === 200) {
      this.#tellTabs({ ballot: body });
      this.#on.arrived(body);
    } else if (status === 409) this.#on.superseded(item, body);
    else this.#on.refused(body.error, item);
  }

  #tellTabs(news) {
    this.#tabs?.postMessage({ voter: this.#voter, ...news });
  }

  /** One try. Null (or a rejection) means: try again. */
  async #post({ address, body }) {
    const response = await fetch(address, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-CSRFToken": this.#token },
      body,
      keepalive: true, // an answer given just before the page closes still goes out
      signal: AbortSignal.timeout(TIMEOUT),
    });
    if (response.status >= 500 || response.status === 429) return null;
    return { status: response.status, body: await response.json() };
  }
}

/**
 * Do something while no other tab does. Where a browser has no locks (without https, or in a frame that may keep
 * nothing), and where the tab that holds the lock was put to sleep, two tabs may do it at once: that costs a request
 * and no more.
 */
async function alone(work) {
  if (navigator.locks === undefined) return work();
  const patience = AbortSignal.timeout(1.5 * TIMEOUT);
  return navigator.locks.request(NAME, { signal: patience }, work).catch((error) => {
    if (["TimeoutError", "AbortError", "SecurityError"].includes(error.name)) return work();
    throw error;
  });
}
