// The one video that is looked at: how far it is, and when it is there, the video, its times and its settings.
import { ask, askJson, Refused, videoPath } from "./api.js";
import { chooseAgain } from "./choices.js";
import { clearContent, loadContent } from "./content.js";
import { find, goTo, make, write } from "./dom.js";
import { announce, explain, showError } from "./notices.js";
import { heard } from "./server_words.js";
import { fillBar, fillTimes } from "./timing.js";
import { isCancelled, isUnfinished, updates } from "./updates.js";
import { onLanguage, say, sayTime, tag } from "./words.js";

let shown = null; // the video as it was last told
let watching = new AbortController(); // aborted as soon as another video is looked at
let whenChanged = () => {};

export const shownId = () => shown?.id;

/** Lets `listener` know whenever the video begins or ends. */
export function watchResult(listener) {
  whenChanged = listener;
  onLanguage(show);
  find("cancel").addEventListener("click", cancel);
  find("again").addEventListener("click", () => chooseAgain(shown));
}

/** Looks at this video from now on, until it has ended. */
export async function follow(video) {
  watching.abort();
  watching = new AbortController();
  const { signal } = watching;
  sessionStorage.setItem("video", video.id);
  showError("result-error", null);
  clearContent();
  find("cancel").disabled = false;
  take(video);
  try {
    for await (const next of updates(video, signal, () => write(find("left"), say("offline")))) {
      if (signal.aborted) return;
      take(next);
    }
    if (!signal.aborted && shown.status === "completed") await loadContent(shown, signal);
  } catch (error) {
    if (!signal.aborted) lose(error);
  }
}

/** Looks again at the video that was looked at before the page was loaded anew. */
export async function followLast() {
  const id = sessionStorage.getItem("video");
  if (!id || shown) return;
  try {
    await follow(await askJson(videoPath(id)));
  } catch (error) {
    if (!(error instanceof Refused && error.status === 404)) throw error;
    sessionStorage.removeItem("video");
  }
}

/** Looks at nothing, if it was this video. */
export function forget(id) {
  if (shown?.id !== id) return;
  watching.abort();
  shown = null;
  sessionStorage.removeItem("video");
  clearContent();
  show();
}

function lose(error) {
  const gone = error instanceof Refused && error.status === 404;
  if (gone) forget(shown.id);
  showError("result-error", () => explain(error));
  whenChanged();
}

function take(video) {
  const before = shown;
  shown = video;
  show();
  if (before?.id === video.id && before.status === video.status) return;
  announce(sayState(video));
  whenChanged();
}

async function cancel() {
  find("cancel").disabled = true;
  goTo(find("result-title"));
  try {
    await ask(`${videoPath(shown.id)}/cancel`, { method: "POST" });
  } catch (error) {
    find("cancel").disabled = false;
    showError("result-error", () => explain(error));
  }
}

// ---- how it looks -----------------------------------------------------------------------------------------------

/** In few words how the video is. */
export function sayState(video) {
  if (video.status === "completed") return say("completed");
  if (video.status === "failed") return say(isCancelled(video) ? "cancelled" : "failed");
  if (video.status === "queued") return video.jobs_ahead ? say("ahead", { n: video.jobs_ahead }) : say("next");
  if (!video.step) return say("starting");
  return video.step >= video.steps ? say("finishing") : say("step", { step: video.step, steps: video.steps });
}

function show() {
  const running = shown !== null && isUnfinished(shown);
  find("empty").hidden = shown !== null;
  find("running").hidden = !running;
  find("stopped").hidden = shown?.status !== "failed";
  find("done").hidden = shown?.status !== "completed";
  if (running) showProgress();
  if (shown?.status === "failed") showFailure();
  if (shown?.status === "completed") showDone();
}

function showProgress() {
  const waits = shown.status === "queued";
  write(find("step"), waits ? say("waiting") : sayState(shown));
  const left = shown.remaining_s ? say("left", { time: sayTime(shown.remaining_s) }) : "";
  write(find("left"), waits ? sayState(shown) : left);
  find("progress").value = shown.progress;
  find("progress").setAttribute("aria-valuetext", sayState(shown));
  write(find("cancel"), say(find("cancel").disabled ? "cancelling" : "cancel"));
}

function showFailure() {
  write(find("stopped-title"), sayState(shown));
  const why = isCancelled(shown) ? { textContent: say("cancelledHint"), lang: tag() } : heard(shown.error.message);
  Object.assign(find("stopped-why"), why);
  find("stopped").classList.toggle("bad", !isCancelled(shown));
}

function showDone() {
  const { settings } = shown;
  write(find("download"), say("download", { format: (settings.output_format ?? "mp4").toUpperCase() }));
  fillBar(find("bar"), shown);
  fillTimes(find("timing"), shown);
  const rows = [
    ["prompt", shown.prompt],
    ["size", shown.size.replace("x", " × ")],
    ["frames", say("framesValue", { frames: settings.num_frames, fps: settings.fps })],
    ["steps", shown.steps],
    ["guidance", settings.guidance_scale],
    ["seed", shown.seed],
    ["model", shown.model],
    ["attempts", shown.attempts > 1 ? shown.attempts : ""],
  ].filter(([, value]) => value !== "");
  const pair = ([key, value]) => [make("dt", { textContent: say(`is.${key}`) }), make("dd", { textContent: value })];
  find("settings").replaceChildren(...rows.flatMap(pair));
  find("warnings").replaceChildren(...(shown.warnings ?? []).map((text) => make("li", heard(text))));
}
