// How long a pair has been looked at: from the frame in which both pictures appear, standing still while they cannot
// be seen. All times are milliseconds on the clock of performance.now(), as events carry them, too.

export class Clock {
  #shownAt = null; // null until the pair can be seen
  #pausedAt = null;
  #hidden = 0;

  blurs = 0; // times that the window lost the focus

  constructor() {
    document.addEventListener("visibilitychange", () => (document.hidden ? this.pause() : this.resume()));
    addEventListener("blur", () => {
      if (this.running) this.blurs += 1;
    });
  }

  /** No pair is on the screen. */
  stop() {
    this.#shownAt = null;
  }

  start(at) {
    this.#shownAt = at;
    this.#pausedAt = document.hidden ? at : null;
    this.#hidden = 0;
    this.blurs = 0;
  }

  pause() {
    this.#pausedAt ??= performance.now();
  }

  resume() {
    if (this.#pausedAt !== null) this.#hidden += performance.now() - this.#pausedAt;
    this.#pausedAt = null;
  }

  get running() {
    return this.#shownAt !== null;
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
