// Which keys are meant for the page. Those that type a character can be switched off (WCAG 2.1.4): who dictates to the
// computer, or trembles, presses them without wanting to.

const STORED = "pairstudy-character-keys";

let characters = true;
try {
  characters = localStorage.getItem(STORED) !== "off";
} catch {
  // A browser that keeps nothing: they are on.
}

export function meant(event) {
  if (event.ctrlKey || event.altKey || event.metaKey) return false;
  if (document.querySelector("dialog[open]") !== null) return false;
  return event.key.length > 1 || characters;
}

/** Let a checkbox switch them. */
export function switchedBy(box) {
  box.checked = characters;
  box.addEventListener("change", () => {
    characters = box.checked;
    try {
      localStorage.setItem(STORED, characters ? "on" : "off");
    } catch {
      // Then until the page is closed.
    }
  });
}
