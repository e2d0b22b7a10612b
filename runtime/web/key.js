// The form for the API key, which is shown as soon as the server asks for one.
import { setKey } from "./api.js";
import { find } from "./dom.js";
import { say } from "./words.js";

/** Has `begin` called as soon as there is a key to try. */
export function watchKey(begin) {
  document.addEventListener("key-needed", ({ detail }) => {
    const label = find("key-label");
    if (find("key-form").hidden || detail.wasWrong) label.dataset.text = detail.wasWrong ? "keyWrong" : "keyNeeded";
    label.textContent = say(label.dataset.text);
    if (!find("key-form").hidden) return;
    find("key-form").hidden = false;
    find("columns").hidden = true;
    find("key").focus();
  });
  find("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (!find("key").value) return find("key").focus();
    setKey(find("key").value);
    find("key").value = "";
    find("key-form").hidden = true;
    find("columns").hidden = false;
    begin();
  });
}
