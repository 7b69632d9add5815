// The stage: where a pair is shown, how large, and whether the window is large enough for the study.

import { Inspection } from "./inspect.js";
import { alignToDevicePixels, arrange } from "./pictures.js";
import { $, given, say, words } from "./words.js";

const GAP = 16; // CSS pixels between the pictures
const SIGNS = {
  row: { left: "←", tie: "↓", right: "→", both_bad: "4" },
  column: { left: "↑", tie: "2", right: "↓", both_bad: "4" },
};

export class Stage {
  #stage = $("stage");
  #places = [$("left"), $("right")];
  #wanted = given("display"); // the protocol's { min_width, min_height, min_scale }
  #pictures = [];
  #onGate;

  layout = "row";
  scale = 1; // device pixels a picture pixel
  gated = false; // the window is too small for the study

  /** onGate() is told whenever `gated` changes. */
  constructor(onGate) {
    this.#onGate = onGate;
    this.inspection = new Inspection(this.#places, (zoom) => {
      $("zoom").textContent = `${zoom}×`;
      this.#stage.toggleAttribute("data-zoomed", zoom > 1);
      $("pan").toggleAttribute("data-idle", zoom === 1);
    });
    for (const button of $("closer").querySelectorAll("[data-step]")) {
      button.addEventListener("click", () => this.inspection.zoomBy(Number(button.dataset.step)));
    }
    for (const button of $("pan").querySelectorAll("button")) {
      button.addEventListener("click", () => this.inspection.panBy(...JSON.parse(button.dataset.by)));
    }
    new ResizeObserver(() => this.#fit()).observe(this.#stage);
    addEventListener("resize", () => this.#fit());
  }

  /** Show a pair, [left, right]; or none, []. */
  show(pictures) {
    this.#pictures = pictures;
    this.inspection.show(pictures);
    this.#fit();
  }

  /** Size the pictures to the room there is. */
  #fit() {
    const [left, right] = this.#pictures;
    if (left === undefined) {
      this.#gate("");
      return;
    }
    const size = { width: left.naturalWidth, height: left.naturalHeight };
    const dpr = devicePixelRatio;
    const box = { width: this.#stage.clientWidth * dpr, height: this.#stage.clientHeight * dpr };
    const { layout, scale } = arrange(box, size, GAP * dpr);
    Object.assign(this, { layout, scale });
    this.#stage.dataset.layout = layout;
    for (const place of this.#places) {
      place.style.width = `${(size.width * scale) / dpr}px`;
      place.style.height = `${(size.height * scale) / dpr}px`;
    }
    alignToDevicePixels(this.#places);
    this.inspection.fit(scale);
    left.alt = words[layout].left_picture;
    right.alt = words[layout].right_picture;
    for (const button of $("answers").children) {
      button.querySelector("span").textContent = words[layout][button.dataset.answer];
      button.querySelector("kbd").textContent = SIGNS[layout][button.dataset.answer];
    }
    this.#gate(this.#lacking());
  }

  /** What the study asks for that this window does not have; "" if it has all. */
  #lacking() {
    const { min_width: width, min_height: height, min_scale: scale } = this.#wanted;
    const has = { has_width: innerWidth, has_height: innerHeight };
    if (innerWidth < width || innerHeight < height) return say("narrow", { width, height, ...has });
    return this.scale < scale ? say("shrunk") : "";
  }

  #gate(why) {
    $("gate-why").textContent = why;
    if ((why !== "") === this.gated) return;
    this.gated = why !== "";
    $("gate").hidden = !this.gated;
    this.#onGate();
  }
}
