// How long a pair has been looked at: from the frame in which both pictures appear, standing still while they cannot
// be seen. All times are milliseconds on the clock of performance.now(), as events carry them, too.

export class Clock {
  #shownAt = null; // null until the pair can be seen
  #pausedAt = null;
  #reasons = new Set(); // why the pair cannot be seen
  #hidden = 0;

  blurs = 0; // times that the window lost the focus

  constructor() {
    this.pause("hidden", document.hidden);
    document.addEventListener("visibilitychange", () => this.pause("hidden", document.hidden));
    addEventListener("blur", () => (this.blurs += 1));
  }

  /** No pair is on the screen. */
  stop() {
    this.#shownAt = null;
  }

  /** Both pictures appear at a moment. */
  start(at) {
    this.#shownAt = at;
    this.#pausedAt = this.#reasons.size > 0 ? at : null;
    this.#hidden = 0;
    this.blurs = 0;
  }

  /** From now on there is a reason why the pair cannot be seen; or there is not. */
  pause(reason, holds) {
    if (holds) this.#reasons.add(reason);
    else this.#reasons.delete(reason);
    if (this.#reasons.size > 0) {
      this.#pausedAt ??= performance.now();
    } else if (this.#pausedAt !== null) {
      this.#hidden += performance.now() - this.#pausedAt;
      this.#pausedAt = null;
    }
  }

  /** For how long the pair was on the page but could not be seen. */
  get hidden() {
    return this.#hidden;
  }

  /** For how long the pair had been seen at a moment; -Infinity before it was shown. */
  seen(at = performance.now()) {
    if (this.#shownAt === null) return -Infinity;
    return (this.#pausedAt ?? at) - this.#shownAt - this.#hidden;
  }
}
