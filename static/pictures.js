// Loading and decoding pictures ahead of time, and how large a pair is shown.

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Load both pictures of a trial; tries again until they are there. Resolves to [left, right]. */
export async function loadPair(trial, onTrouble) {
  return Promise.all([load(trial.left, onTrouble), load(trial.right, onTrouble)]);
}

async function load(address, onTrouble) {
  for (let wait = 500; ; wait = Math.min(wait * 2, 15000)) {
    const image = new Image();
    image.decoding = "sync"; // painted in the very frame in which it is put on the page
    image.draggable = false;
    const loaded = new Promise((resolve) => {
      image.onload = () => resolve(true);
      image.onerror = () => resolve(false);
    });
    image.src = address;
    if (await loaded) return image;
    onTrouble();
    await pause(wait);
  }
}

/** Decode a pair shortly before it is shown; resolves to the milliseconds that it took. */
export async function decodePair(pictures) {
  const start = performance.now();
  await Promise.allSettled(pictures.map((image) => image.decode())); // if one cannot now, it is when it is painted
  return performance.now() - start;
}

/**
 * How to place two pictures of one size in a box, all in device pixels: beside each other, or one above
 * the other where that makes them clearly larger. A picture pixel becomes a whole number of device pixels; of
 * pictures larger than the place they have, n × n picture pixels become one device pixel, n a power of two:
 * browsers halve by averaging exactly, but a third would be interpolated.
 */
export function arrange(box, size, gap) {
  const beside = Math.min((box.width - gap) / 2 / size.width, box.height / size.height);
  const above = Math.min(box.width / size.width, (box.height - gap) / 2 / size.height);
  const layout = whole(above) >= 1.4 * whole(beside) ? "column" : "row";
  return { layout, scale: whole(layout === "row" ? beside : above) };
}

const whole = (scale) => (scale >= 1 ? Math.floor(scale) : Math.max(1 / 128, 2 ** Math.floor(Math.log2(scale))));

/** How often larger than at a scale pictures may be, by the same rule. */
export function zoomsAt(scale) {
  const zooms = [1, 2, 3, 4, 6, 8].map((zoom) => zoom * Math.max(1, 1 / scale));
  for (let shrunk = 1 / scale; shrunk > 1; shrunk /= 2) zooms.unshift(shrunk / 2);
  return zooms;
}

/**
 * Move places a little, so that they begin where CSS pixels and device pixels begin together: browsers round where
 * a transformed picture begins, some to the one and some to the other, and then a row of pixels gets lost.
 */
export function alignToDevicePixels(places) {
  const dpr = devicePixelRatio;
  const whole = (value) => Math.abs(value - Math.round(value)) < 1e-6;
  const step = [1, 2, 3, 4, 5, 8, 10, 20].find((pixels) => whole(pixels * dpr)) ?? 1 / dpr;
  for (const place of places) place.style.left = place.style.top = "0";
  const boxes = places.map((place) => place.getBoundingClientRect());
  const missing = (at) => `${Math.round(at / step) * step - at}px`;
  places.forEach((place, i) => {
    place.style.left = missing(boxes[i].left);
    place.style.top = missing(boxes[i].top);
  });
}
