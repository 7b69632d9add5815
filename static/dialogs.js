// The dialogs: passing over a pair, reporting a picture, help.

import { switchedBy } from "./keys.js";
import { $, words } from "./words.js";

/** Ask why the pair shall be passed over; resolves to { reason }, or to null if it shall not. */
export async function askToSkip() {
  const form = await ask($("skip-dialog"));
  return form && { reason: form.get("reason") };
}

/** Ask which picture should not be shown, and why; resolves to { side, reason }, or to null. */
export async function askToReport(layout) {
  for (const side of ["left", "right"]) $(`report-${side}`).textContent = words[layout][`${side}_picture`];
  const form = await ask($("report-dialog"));
  return form && { side: form.get("side"), reason: form.get("reason").trim() };
}

// Not by submitting: the Enter key means the first button that submits.
for (const button of document.querySelectorAll("dialog .cancel")) {
  button.addEventListener("click", () => button.closest("dialog").close());
}
switchedBy($("character-keys"));
$("help").addEventListener("click", () => $("help-dialog").showModal());

/** Show a dialog; resolves to what its form holds when it is confirmed, to null when it is closed otherwise. */
function ask(dialog) {
  const form = dialog.querySelector("form");
  form.reset();
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.onclose = () => resolve(dialog.returnValue === "yes" ? new FormData(form) : null);
  });
}
