// What went wrong, in words beside what it concerns, and what a screen reader is told.
import { Refused } from "./api.js";
import { find, write } from "./dom.js";
import { heard } from "./server_words.js";
import { onLanguage, say, sayTime } from "./words.js";

const shown = new Map(); // what an error line says, as a function that says it in the language of the moment

/** Shows `words`, a function that gives a text, in the line of this id; null hides it. */
export function showError(id, words) {
  if (words) shown.set(id, words);
  else shown.delete(id);
  writeError(id);
}

function writeError(id) {
  const text = shown.get(id)?.() ?? "";
  find(id).hidden = !text;
  write(find(id), text);
}

onLanguage(() => {
  for (const id of shown.keys()) writeError(id);
});

/** The error as a person should read it. What only the server can know is said in its words. */
export function explain(error) {
  if (!(error instanceof Refused)) return error instanceof TypeError ? say("offline") : error.message;
  if (error.status === 401) return ""; // the key is asked for
  if (error.status === 404) return say("gone");
  if (error.status === 429) return say("full", { time: sayTime(Number(error.retryAfter ?? 10)) });
  return heard(error.message).textContent;
}

/** Has a screen reader say it, once. */
export const announce = (text) => write(find("announcement"), text);
