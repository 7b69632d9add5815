// Answers on their way to the server: one at a time, in order, again and again until they arrive.
// An answer keeps its vote id whatever happens, so however often it is sent it is one vote.

const FIRST_WAIT = 500;
const LONGEST_WAIT = 15000;

export class Outbox {
  #waiting = [];
  #sending = false;
  #wake = () => {};

  /** onArrived(ballot) after each answer; onTrouble(isTrouble) when the line fails or is back; onRefused(code). */
  constructor(token, { onArrived, onTrouble, onRefused }) {
    this.token = token;
    this.onArrived = onArrived;
    this.onTrouble = onTrouble;
    this.onRefused = onRefused;
    this.failing = false;
    addEventListener("online", () => this.#wake());
  }

  get empty() {
    return this.#waiting.length === 0;
  }

  push(address, vote) {
    this.#waiting.push({ address, body: JSON.stringify(vote) });
    if (!this.#sending) this.#sendAll();
  }

  async #sendAll() {
    this.#sending = true;
    while (this.#waiting.length > 0) {
      const { status, body } = await this.#deliver(this.#waiting[0]);
      // 409: the trial has its vote already, from another tab or an earlier try. That is as good.
      if (status !== 200 && status !== 409) {
        this.onRefused(body.error ?? String(status));
        return;
      }
      this.#waiting.shift();
      this.onArrived(body);
    }
    this.#sending = false;
  }

  async #deliver(item) {
    for (let wait = FIRST_WAIT; ; wait = Math.min(wait * 2, LONGEST_WAIT)) {
      const reply = await this.#post(item).catch(() => null);
      this.#tell(reply === null);
      if (reply !== null) return reply;
      await new Promise((resolve) => {
        this.#wake = resolve;
        setTimeout(resolve, wait);
      });
    }
  }

  #tell(failing) {
    if (failing === this.failing) return;
    this.failing = failing;
    this.onTrouble(failing);
  }

  /** One try. Null (or a rejection) means: try again. */
  async #post({ address, body }) {
    const response = await fetch(address, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-CSRFToken": this.token },
      body,
      keepalive: true, // an answer given just before the page closes still goes out
      signal: AbortSignal.timeout(20000),
    });
    if (response.status >= 500 || response.status === 429) return null;
    return { status: response.status, body: await response.json() };
  }
}
