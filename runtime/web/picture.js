// The picture: chosen, dropped anywhere on the page, or pasted.
import { find } from "./dom.js";
import { showError } from "./notices.js";
import { say } from "./words.js";

let picture = null;
let maxBytes = Infinity;
let whenChosen = () => {};
let whenSeen = () => {};

/** Takes pictures from now on; `chosen` is called for each, and `seen` as soon as its shape is known. */
export function watchPicture(chosen, seen) {
  whenChosen = chosen;
  whenSeen = seen;
  find("picture").addEventListener("change", ({ target }) => choose(target.files[0]));
  document.addEventListener("paste", (event) => {
    const file = event.clipboardData.files[0];
    if (!file) return;
    event.preventDefault();
    choose(file);
  });
  // The whole page takes a dropped picture: one that falls beside the field must not open in its place.
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    find("drop").classList.add("over");
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget ?? find("drop").classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    find("drop").classList.remove("over");
    choose(event.dataTransfer.files[0]);
  });
}

export function setMostBytes(bytes) {
  maxBytes = bytes;
}

/** "WIDTHxHEIGHT" of the picture as it is looked at; null if there is none. */
export function pictureShape() {
  const { naturalWidth, naturalHeight } = find("preview");
  return picture && naturalWidth ? `${naturalWidth}x${naturalHeight}` : null;
}

/** The picture; if there is none, says so and leads there. */
export function takePicture() {
  if (!picture) {
    showError("picture-error", () => say("noPicture"));
    find("picture").focus();
  }
  return picture;
}

function choose(file) {
  if (!file) return;
  if (!/^image\/(png|jpeg|webp)$/.test(file.type)) return showError("picture-error", () => say("wrongType"));
  if (file.size > maxBytes) {
    return showError("picture-error", () => say("tooLarge", { mb: Math.floor(maxBytes / 2 ** 20) }));
  }
  picture = file;
  showError("picture-error", null);
  const preview = find("preview");
  URL.revokeObjectURL(preview.src);
  preview.src = URL.createObjectURL(file);
  preview.decode().then(whenSeen, () => {}); // what cannot be shown, the server refuses
  find("picture-name").textContent = file.name;
  find("drop-text").hidden = true;
  preview.hidden = find("drop-chosen").hidden = false;
  find("drop").classList.add("filled");
  whenChosen();
}
