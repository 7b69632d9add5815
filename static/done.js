// The end: the code is copied by one tap; and what an earlier page could not send is sent.

import { Outbox } from "./outbox.js";
import { $, note, say, unnote } from "./words.js";

const page = $("done");
const button = $("copy");

if (button !== null) {
  button.hidden = false; // without scripts there is none; the code can be selected
  button.addEventListener("click", async () => {
    button.textContent = say((await copy($("code"))) ? "copied" : "copy_it");
  });
}

/** Copy a text, or at least select it for the voter to copy; whether it is copied. */
async function copy(element) {
  try {
    await navigator.clipboard.writeText(element.textContent);
    return true;
  } catch {
    // No such thing without https, and some browsers forbid it.
  }
  getSelection().selectAllChildren(element);
  return document.execCommand("copy");
}

if (page.dataset.voter) {
  const outbox = new Outbox(page.dataset.voter, document.querySelector("meta[name=csrf-token]").content, {
    arrived(ballot) {
      if (outbox.size === 0 && !ballot.finished) location.replace(page.dataset.vote); // it ended in taking back
    },
    superseded() {},
    refused: (code) => note("refused", say("refused", { code })),
    trouble() {
      if (outbox.size > 0) note("sending", say("sending"));
      else unnote("sending");
    },
    closed() {},
  });
  outbox.start();
}
