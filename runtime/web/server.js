// How the server is: not there, getting ready, loading another model, broken, or ready, which needs no words.
import { find, sleep, write } from "./dom.js";
import { onLanguage, say, sayOr } from "./words.js";

const OFTEN_MS = 1000;
const SELDOM_MS = 5000;

let state; // what /ready says; null while nobody answers, undefined before the first answer
let version = "";

/** Watches while the page is open; `whenChanged` is called when the server answers, and when it is ready anew. */
export async function watchServer(whenChanged) {
  onLanguage(show);
  let before = null;
  for (;;) {
    state = await look("/ready");
    version ||= (await look("/health"))?.version ?? "";
    show();
    const now = state && [state.ready, state.model, state.pid, state.restarts].join();
    if (now && now !== before) whenChanged();
    before = now;
    await sleep(state?.ready && !document.hidden ? SELDOM_MS : OFTEN_MS);
  }
}

/** Also of an answer that says "not ready", for it says why. */
const look = (path) => fetch(path).then((answer) => answer.json()).catch(() => null);

function show() {
  if (state === undefined) return;
  const [text, kind] = words();
  find("server").hidden = !text;
  find("server").className = `banner ${kind}`;
  write(find("server"), text);
  find("note").hidden = !state?.note;
  if (state?.note) write(find("note"), sayOr(`note.${state.model}`, state.note));
  find("note").classList.toggle("warns", state?.model === "demo");
  const machine = [version && `i2v-setup ${version}`, state?.device, state?.precision];
  if (state) write(find("machine"), machine.filter(Boolean).join(" · "));
}

function words() {
  if (!state) return [say("offline"), "bad"];
  if (state.error) return [say("serverError", { message: state.error }), "bad"];
  if (state.reloading) return [say(state.ready ? "reloadingBeside" : "reloading", { model: state.reloading }), "busy"];
  if (!state.ready) return [say("gettingReady", { phase: say(phase()) }), "busy"];
  if (state.reload_error) return [say("reloadError", { message: state.reload_error }), "bad"];
  return ["", ""];
}

function phase() {
  const ended = state.phases.map(({ name }) => name);
  if (state.restarts) return "phase.again";
  if (ended.includes("model load")) return "phase.warmup";
  return ended.includes("worker imports") ? "phase.load" : "phase.imports";
}
