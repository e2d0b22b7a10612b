// The server's list of videos: those that wait or are worked at, and those that have ended.
import { ask, askJson, Refused, videoPath } from "./api.js";
import { find, goTo, make, sleep, write } from "./dom.js";
import { explain, showError } from "./notices.js";
import { follow, forget, sayState, shownId } from "./result.js";
import { fillBar, totalSeconds } from "./timing.js";
import { isCancelled, isUnfinished } from "./updates.js";
import { onLanguage, say, sayExactly, sayWhen } from "./words.js";

const PAGE = 20; // videos in one answer
const FIRST = 5; // ended ones that are shown before more are asked for
const OFTEN_MS = 1500;
const SELDOM_MS = 8000;

let videos = [];
let shown = FIRST; // ended ones, at most
let hasMore = false;
let wake = () => {};
const rows = new Map(); // the row of each video, by id: one that is there is changed, so that a press on it is not lost

/** Keeps the list up to date for as long as the page is open. */
export async function watchHistory() {
  onLanguage(show);
  find("more-videos").addEventListener("click", () => {
    shown += PAGE;
    show();
    refreshHistory();
  });
  document.addEventListener("visibilitychange", () => document.hidden || refreshHistory());
  for (;;) {
    const woken = new Promise((resolve) => (wake = resolve));
    try {
      if (!document.hidden) await load();
    } catch (error) {
      if (error instanceof Refused && error.isUnknownPath) return;
      // Anything else is said elsewhere: that the server is gone, or asks for its key.
    }
    await Promise.race([woken, sleep(videos.some(isUnfinished) ? OFTEN_MS : SELDOM_MS)]);
  }
}

const isEnded = (video) => !isUnfinished(video);

export const refreshHistory = () => wake();

async function load() {
  const found = [];
  let page = { has_more: true, last_id: null };
  while (page.has_more && found.filter(isEnded).length < shown) {
    const after = page.last_id ? `&after=${encodeURIComponent(page.last_id)}` : "";
    page = await askJson(`/v1/videos?limit=${PAGE}&order=desc${after}`);
    found.push(...page.data);
  }
  videos = found;
  hasMore = page.has_more;
  show();
}

function show() {
  const waiting = videos.filter(isUnfinished).reverse(); // the next one first
  const ended = videos.filter(isEnded);
  fill("queue", waiting);
  fill("ended", ended.slice(0, shown));
  find("history").hidden = !videos.length;
  find("queue-part").hidden = !waiting.length;
  find("ended-part").hidden = !ended.length;
  find("more-videos").hidden = !hasMore && ended.length <= shown;
  const ids = new Set(videos.map(({ id }) => id));
  for (const id of rows.keys()) if (!ids.has(id)) rows.delete(id);
}

function fill(listId, some) {
  const wantedRows = some.map((video) => {
    if (!rows.has(video.id)) rows.set(video.id, makeRow(video.id));
    rows.get(video.id).update(video);
    return rows.get(video.id).element;
  });
  const list = find(listId);
  for (const row of [...list.children]) if (!wantedRows.includes(row)) row.remove();
  // Rows that stand where they should are not moved: moving takes the keyboard's place away.
  wantedRows.forEach((row, at) => list.children[at] === row || list.insertBefore(row, list.children[at] ?? null));
}

function makeRow(id) {
  const title = make("strong");
  const chip = make("span", { class: "chip" });
  const about = make("small");
  const bar = make("div", { class: "bar thin" });
  const look = make("button", { type: "button", class: "small" });
  const remove = make("button", { type: "button", class: "small quiet" });
  const element = make(
    "li",
    {},
    make("div", { class: "what" }, title, chip, about, bar),
    make("div", { class: "row" }, look, remove),
  );
  let video;
  look.addEventListener("click", () => {
    goTo(find("result-title"));
    follow(video);
  });
  remove.addEventListener("click", () => removeVideo(video));

  function update(next) {
    video = next;
    const name = video.prompt || say("noPrompt");
    write(title, name);
    write(chip, sayState(video));
    chip.className = `chip ${isCancelled(video) ? "cancelled" : video.status}`;
    write(about, describe(video));
    bar.hidden = !(isUnfinished(video) || video.status === "completed");
    if (video.status === "completed") fillBar(bar, video);
    else if (isUnfinished(video)) fillProgress(bar, video.progress);
    write(look, say("look"));
    write(remove, say(isUnfinished(video) ? "cancel" : "remove"));
    const which = `${name}, ${sayWhen(video.created_at)}`;
    look.setAttribute("aria-label", `${look.textContent}: ${which}`);
    remove.setAttribute("aria-label", `${remove.textContent}: ${which}`);
    if (video.id === shownId()) element.setAttribute("aria-current", "true");
    else element.removeAttribute("aria-current");
  }

  return { element, update };
}

function describe(video) {
  const { num_frames: frames, output_format: format = "mp4" } = video.settings;
  const size = video.size.replace("x", " × ");
  const parts = [sayWhen(video.created_at), size, say("framesShort", { frames }), format.toUpperCase()];
  if (video.status === "completed") parts.push(sayExactly(totalSeconds(video)));
  return parts.join(" · ");
}

function fillProgress(bar, percent) {
  bar.setAttribute("role", "img");
  bar.setAttribute("aria-label", `${percent} %`);
  if (bar.firstChild?.className !== "done") bar.replaceChildren(make("i", { class: "done" }));
  bar.firstChild.style.width = `${percent}%`;
}

async function removeVideo(video) {
  if (!isUnfinished(video) && !confirm(say("removeSure"))) return;
  try {
    if (isUnfinished(video)) {
      await ask(`${videoPath(video.id)}/cancel`, { method: "POST" });
      return;
    }
    await ask(videoPath(video.id), { method: "DELETE" });
    forget(video.id);
    goTo(find("history-title"));
  } catch (error) {
    showError("history-error", () => explain(error));
  } finally {
    refreshHistory();
  }
}
