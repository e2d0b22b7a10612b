// Reads server-sent events with fetch: EventSource can send no API key.
import { ask } from "./api.js";

/** A connection that says nothing for so long may be dead; a new one begins with how things are. */
const SILENT_MS = 30_000;

/** The data of each event, as JSON, until the stream ends. */
export async function* events(path, signal) {
  const answer = await ask(path, { headers: { Accept: "text/event-stream" }, signal });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  try {
    for (;;) {
      const { done, value } = await orSilence(reader.read());
      if (done) return;
      const parts = (text + value).replaceAll("\r\n", "\n").split("\n\n");
      text = parts.pop();
      yield* parts.map(dataOf).filter(Boolean).map((data) => JSON.parse(data));
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

const dataOf = (event) =>
  event
    .split("\n")
    .filter((line) => line.startsWith("data:"))
    .map((line) => line.slice(5).trimStart())
    .join("\n");

async function orSilence(reading) {
  let timer;
  const silence = new Promise((resolve) => {
    timer = setTimeout(() => resolve({ done: true }), SILENT_MS);
  });
  try {
    return await Promise.race([reading, silence]);
  } finally {
    clearTimeout(timer);
  }
}
