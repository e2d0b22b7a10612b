// Where a video's time went: a bar of its stages, and the same in words.
import { make } from "./dom.js";
import { say, sayExactly } from "./words.js";

const ORDER = ["queue", "denoise", "decode", "encode"];

/** The stages in order, those that a newer server adds at the end. */
function stagesOf(video) {
  const place = ([name]) => (ORDER.includes(name) ? ORDER.indexOf(name) : ORDER.length);
  return Object.entries(video.stage_durations ?? {}).sort((one, other) => place(one) - place(other));
}

const total = (stages) => stages.reduce((sum, [, seconds]) => sum + seconds, 0);
export const totalSeconds = (video) => total(stagesOf(video));

/** Fills `bar`, a picture of it that a screen reader reads as words. */
export function fillBar(bar, video) {
  const stages = stagesOf(video);
  bar.setAttribute("role", "img");
  bar.setAttribute("aria-label", stages.map(([name, seconds]) => `${say(name)} ${sayExactly(seconds)}`).join(", "));
  bar.replaceChildren(
    ...stages.map(([name, seconds]) => {
      const part = make("i", { class: name, title: `${say(name)} ${sayExactly(seconds)}` });
      part.style.flexGrow = seconds;
      return part;
    }),
  );
}

/** Fills `list`, a <dl> that also explains the colours. */
export function fillTimes(list, video) {
  const stages = stagesOf(video);
  list.replaceChildren(
    ...stages.map(([name, seconds]) => pair(say(name), sayExactly(seconds), name)),
    pair(say("total"), sayExactly(total(stages)), "sum"),
  );
}

function pair(name, value, kind) {
  const swatch = make("i", { class: kind });
  return make("div", {}, make("dt", {}, swatch, name), make("dd", { textContent: value }));
}
