// The finished file: loaded once, shown as its kind can be shown, and saved under the name that the server gives it.
import { ask, videoPath } from "./api.js";
import { formatOf } from "./choices.js";
import { find } from "./dom.js";
import { say } from "./words.js";

find("video").addEventListener("error", () => {
  find("video").hidden = true;
  showInstead("unplayable");
});

/** Loads and shows it. */
export async function loadContent(video, signal) {
  const answer = await ask(`${videoPath(video.id)}/content`, { signal });
  const blob = await answer.blob();
  if (signal.aborted) return;
  clearContent();
  const url = URL.createObjectURL(blob);
  find("download").href = url;
  find("download").download = nameOf(answer, video);
  const kind = blob.type.split("/")[0];
  find("still").hidden = kind !== "image";
  find("video").hidden = kind !== "video";
  if (kind === "image") find("still").src = url;
  if (!["image", "video"].includes(kind)) showInstead("archive");
  if (kind === "video") {
    find("video").src = url;
    find("video").play().catch(() => {}); // a browser may want to be asked first
  }
}

/** Shows none, and lets go of its memory. */
export function clearContent() {
  if (find("download").href) URL.revokeObjectURL(find("download").href);
  for (const [id, name] of [["download", "href"], ["video", "src"], ["still", "src"]]) find(id).removeAttribute(name);
  find("video").load();
  find("video").hidden = find("still").hidden = find("instead").hidden = true;
}

/** Words in the place of a picture; data-text, so that they are said anew in another language. */
function showInstead(words) {
  find("instead").dataset.text = words;
  find("instead").textContent = say(words);
  find("instead").hidden = false;
}

function nameOf(answer, video) {
  const told = answer.headers.get("Content-Disposition")?.match(/filename="?([^";]+)"?/);
  return told?.[1] ?? `${video.id}${formatOf(video.settings.output_format)?.suffix ?? ".mp4"}`;
}
