// Sends the form. One press of the button makes one video, however often the network has to be tried.
import { askJson, Refused } from "./api.js";
import { readChoices } from "./choices.js";
import { find, sleep } from "./dom.js";
import { explain, showError } from "./notices.js";
import { takePicture } from "./picture.js";
import { onLanguage, say } from "./words.js";

const PAUSES_MS = [500, 1000, 2000, 4000];

let key = null; // of a press that was never answered: the next one may be the same wish
let sending = false;

export const forgetPress = () => (key = null);

/** Hands each video that was queued to `whenQueued`. */
export function watchForm(whenQueued) {
  find("form").addEventListener("input", forgetPress);
  onLanguage(showButton);
  find("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    if (sending) return;
    showError("error", null);
    const picture = takePicture();
    const fields = picture && readChoices();
    if (!fields) return;
    const body = new FormData();
    for (const [name, value] of fields) body.set(name, value);
    body.set("input_reference", picture);
    setSending(true);
    try {
      whenQueued(await send(body));
    } catch (error) {
      showError("error", () => explain(error));
    } finally {
      setSending(false);
    }
  });
}

async function send(body) {
  key ??= newKey();
  for (const pause of [...PAUSES_MS, null]) {
    try {
      const video = await askJson("/v1/videos", { method: "POST", body, headers: { "Idempotency-Key": key } });
      forgetPress();
      return video;
    } catch (error) {
      if (error instanceof Refused) forgetPress();
      if (error instanceof Refused || pause === null) throw error;
      await sleep(pause);
    }
  }
}

/** Random; crypto.randomUUID is not there where the page comes over plain HTTP from another machine. */
function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function setSending(yes) {
  sending = yes;
  find("generate").setAttribute("aria-disabled", yes); // "disabled" would take the keyboard's place away
  showButton();
}

const showButton = () => (find("generate").textContent = say(sending ? "sending" : "generate"));
