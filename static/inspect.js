// Looking closely: both pictures zoom and pan as one, and change places while a key or a finger is held.

import { meant } from "./keys.js";
import { zoomsAt } from "./pictures.js";

const HOLD_MS = 350; // a press this long is no answer but a wish to see the other picture
const SLIP = 8; // CSS pixels that a finger may slip in a tap
const WHEEL = 80; // wheel units a zoom step: one notch of a mouse

export class Inspection {
  #figures;
  #pictures = [];
  #scale = 1; // CSS pixels a picture pixel, without zoom
  #zooms = [1];
  #zoom = 1;
  #offset = { x: 0, y: 0 }; // CSS pixels of the pictures' centre from the places' centre
  #pointers = new Map(); // pointers that are down: id → { x, y, startX, startY }
  #held = 0; // timer of a press that may become a flip
  #pinch = null; // { distance, zoom } when the second finger came
  #wheel = 0;

  flipped = false;
  swallowsClick = false; // the click that ends a drag, a pinch or a hold is no answer
  uses = { zoom: 0, pan: 0, flip: 0, largest: 1 };

  /** `figures` are the two places; onZoom(zoom) is told every change. */
  constructor(figures, onZoom) {
    this.#figures = figures;
    this.onZoom = onZoom;
    for (const figure of figures) {
      figure.addEventListener("wheel", (event) => this.#turned(event, figure), { passive: false });
      figure.addEventListener("pointerdown", (event) => this.#down(event, figure));
      figure.addEventListener("contextmenu", (event) => event.preventDefault()); // a long press on touch
    }
    // On the window: a finger may leave the picture. (Captured, its click would no longer be the picture's.)
    addEventListener("pointermove", (event) => this.#move(event));
    for (const end of ["pointerup", "pointercancel"]) addEventListener(end, (event) => this.#up(event));
    addEventListener("keydown", (event) => this.#key(event));
    addEventListener("keyup", (event) => {
      if (event.key === "f" || event.key === "F") this.#flip(false);
    });
    addEventListener("blur", () => this.#flip(false));
  }

  /** A new pair, [left, right], at its plain size; or none, []. */
  show(pictures) {
    clearTimeout(this.#held);
    this.flipped = false;
    this.uses = { zoom: 0, pan: 0, flip: 0, largest: 1 };
    this.#pictures = pictures;
    this.#figures.forEach((figure, i) => figure.replaceChildren(...pictures.slice(i, i + 1)));
    this.#set(1, { x: 0, y: 0 });
  }

  /** Show the pictures at `scale` device pixels a picture pixel; the places have that size. */
  fit(scale) {
    this.#scale = scale / devicePixelRatio;
    this.#zooms = zoomsAt(scale);
    this.#set(this.#zooms.includes(this.#zoom) ? this.#zoom : 1, this.#offset);
  }

  /** One step closer (1) or back (-1). */
  zoomBy(step) {
    this.#zoomTo(this.#next(step));
  }

  /** Move zoomed pictures by eighths of their plain size. */
  panBy(x, y) {
    if (this.#zoom === 1) return;
    const { naturalWidth, naturalHeight } = this.#pictures[0];
    this.uses.pan += 1;
    const [dx, dy] = [(x * naturalWidth * this.#scale) / 8, (y * naturalHeight * this.#scale) / 8];
    this.#set(this.#zoom, { x: this.#offset.x + dx, y: this.#offset.y + dy });
  }

  #set(zoom, { x, y }) {
    const [picture] = this.#pictures;
    if (zoom !== this.#zoom) this.onZoom(zoom);
    this.#zoom = zoom;
    if (picture === undefined) return;
    const [width, height] = [picture.naturalWidth * this.#scale, picture.naturalHeight * this.#scale];
    const within = (value, size) => Math.min(((zoom - 1) * size) / 2, Math.max(((1 - zoom) * size) / 2, value));
    this.#offset = { x: within(x, width), y: within(y, height) };
    this.uses.largest = Math.max(this.uses.largest, zoom);
    // A transform, not a size: sizes are rounded to 64ths of a CSS pixel, which can cost a row of pixels.
    const whole = (value) => Math.round(value * devicePixelRatio) / devicePixelRatio;
    const [left, top] = [this.#offset.x - ((zoom - 1) * width) / 2, this.#offset.y - ((zoom - 1) * height) / 2];
    for (const one of this.#pictures) {
      one.style.transform = `translate(${whole(left)}px, ${whole(top)}px) scale(${this.#scale * zoom})`;
      // Only what is larger than the picture has hard pixels; what is smaller is smooth.
      one.className = this.#scale * zoom * devicePixelRatio > 0.999 ? "pixelated" : "";
    }
  }

  /** Zoom, so that what is under `at` (CSS pixels from a place's centre) stays there. */
  #zoomTo(zoom, at = { x: 0, y: 0 }) {
    if (zoom === this.#zoom || zoom === undefined) return;
    const grow = zoom / this.#zoom;
    this.uses.zoom += 1;
    this.#set(zoom, { x: at.x - (at.x - this.#offset.x) * grow, y: at.y - (at.y - this.#offset.y) * grow });
  }

  #next(direction) {
    return this.#zooms[this.#zooms.indexOf(this.#zoom) + direction];
  }

  #flip(flipped) {
    if (flipped === this.flipped || this.#pictures.length === 0) return;
    this.flipped = flipped;
    if (flipped) this.uses.flip += 1;
    const order = flipped ? [...this.#pictures].reverse() : this.#pictures;
    this.#figures.forEach((figure, i) => figure.append(order[i]));
  }

  #key(event) {
    if (!meant(event)) return;
    const pans = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    if (event.key === "+" || event.key === "=") this.zoomBy(1);
    else if (event.key === "-") this.zoomBy(-1);
    else if (event.key === "0") this.#zoomTo(1);
    else if (event.key === "f" || event.key === "F") this.#flip(true);
    else if (event.shiftKey && event.key in pans && this.#zoom > 1) this.panBy(...pans[event.key]);
    else return;
    event.preventDefault();
  }

  #turned(event, figure) {
    event.preventDefault();
    this.#wheel += event.deltaMode === 0 ? event.deltaY : event.deltaY * 40;
    if (Math.abs(this.#wheel) < WHEEL) return;
    this.#zoomTo(this.#next(this.#wheel < 0 ? 1 : -1), fromCentre(figure, event));
    this.#wheel = 0;
  }

  #down(event, figure) {
    if (event.button !== 0) return;
    const { clientX: x, clientY: y } = event;
    this.#pointers.set(event.pointerId, { x, y, startX: x, startY: y, figure, dragging: false });
    clearTimeout(this.#held);
    if (this.#pointers.size === 1) {
      this.swallowsClick = false;
      this.#held = setTimeout(() => {
        this.swallowsClick = true;
        this.#flip(true);
      }, HOLD_MS);
    } else {
      this.swallowsClick = true;
      this.#flip(false);
      this.#pinch = { distance: this.#apart(), zoom: this.#zoom };
    }
  }

  #move(event) {
    const pointer = this.#pointers.get(event.pointerId);
    if (pointer === undefined) return;
    const [dx, dy] = [event.clientX - pointer.x, event.clientY - pointer.y];
    pointer.x = event.clientX;
    pointer.y = event.clientY;
    if (this.#pinch !== null) {
      const wished = (this.#pinch.zoom * this.#apart()) / this.#pinch.distance;
      const nearest = this.#zooms.reduce((a, b) => (Math.abs(Math.log(b / wished)) < Math.abs(Math.log(a / wished)) ? b : a));
      this.#zoomTo(nearest, fromCentre(pointer.figure, event));
      return;
    }
    if (!pointer.dragging && Math.hypot(pointer.x - pointer.startX, pointer.y - pointer.startY) < SLIP) return;
    if (!pointer.dragging && !this.flipped) {
      pointer.dragging = true;
      clearTimeout(this.#held);
      this.swallowsClick = true;
      if (this.#zoom > 1) this.uses.pan += 1;
    }
    if (pointer.dragging) this.#set(this.#zoom, { x: this.#offset.x + dx, y: this.#offset.y + dy });
  }

  #up(event) {
    if (!this.#pointers.delete(event.pointerId)) return;
    clearTimeout(this.#held);
    this.#flip(false);
    if (this.#pointers.size < 2) this.#pinch = null;
  }

  #apart() {
    const [a, b] = this.#pointers.values();
    return Math.max(1, Math.hypot(a.x - b.x, a.y - b.y));
  }
}

function fromCentre(figure, event) {
  const box = figure.getBoundingClientRect();
  return { x: event.clientX - box.x - box.width / 2, y: event.clientY - box.y - box.height / 2 };
}
