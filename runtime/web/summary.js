// The log summary: fetched, copied, and shown, so that a person sees what leaves the machine.
import { askJson } from "./api.js";
import { find } from "./dom.js";
import { explain } from "./notices.js";
import { onLanguage, say } from "./words.js";

let said = () => "";

export function watchSummary() {
  onLanguage(() => (find("summary-said").textContent = said()));
  find("summary-open").addEventListener("click", open);
  find("summary-copy").addEventListener("click", copy);
  find("summary-close").addEventListener("click", () => find("summary").close());
}

async function open() {
  try {
    const { text } = await askJson("/v1/summary");
    find("summary-text").value = text;
    find("summary-text").rows = Math.min(18, text.split("\n").length + 1);
  } catch (error) {
    if (error.status === 401) return; // the key is asked for
    find("summary-text").value = "";
    find("summary-text").hidden = find("summary-copy").hidden = true;
    find("summary").showModal();
    return tell(() => (error.isUnknownPath ? say("noSummary") : explain(error)));
  }
  find("summary-text").hidden = find("summary-copy").hidden = false;
  find("summary").showModal();
  await copy();
}

/** By the clipboard, or the old way: a page that comes over plain HTTP from another machine has no clipboard. */
async function copy() {
  const copied = await navigator.clipboard?.writeText(find("summary-text").value).then(() => true, () => false);
  find("summary-text").select();
  const done = copied || document.execCommand("copy");
  tell(() => say(done ? "summaryCopied" : "summaryByHand"));
}

function tell(words) {
  said = words;
  find("summary-said").textContent = words();
}
