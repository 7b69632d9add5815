// What the template hands to the scripts: data, and all words, in the voter's language.

/** The element of an id. */
export const $ = (id) => document.getElementById(id);

/** The JSON that stands in the page under an id. */
export const given = (id) => JSON.parse($(id).textContent);

export const words = given("words");

/** A sentence, its {places} filled in. */
export function say(key, values = {}) {
  return words[key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

/** A line for the voter below the answers. What its kind is about may end before something else is to be said: unnote. */
export function note(kind, text, link = null) {
  const place = $("note");
  if (place.querySelector("a")) return; // the only way on: nothing takes its place
  place.dataset.kind = kind;
  if (place.textContent === text) return; // not announced again
  place.textContent = text;
  if (link === null) return;
  const anchor = document.createElement("a");
  anchor.href = link.href;
  anchor.textContent = link.text;
  place.append(" ", anchor);
}

export function unnote(kind) {
  if ($("note").dataset.kind === kind) $("note").textContent = "";
}
