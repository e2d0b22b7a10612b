// The page: takes a picture, queues a video, shows how far it is, and the video. Talks only to the server it came from.
import { TEXTS } from "./texts.js";

const POLL_MS = 700;
const find = (id) => document.getElementById(id);
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// ---- words ----------------------------------------------------------------------------------------------------

let language = localStorage.getItem("language") ?? (navigator.language.startsWith("zh") ? "zh" : "en");

function say(key, values = {}) {
  const text = TEXTS[language][key] ?? TEXTS.en[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

function sayTime(seconds) {
  const whole = Math.max(1, Math.round(seconds));
  return whole < 60 ? say("seconds", { n: whole }) : say("minutes", { m: Math.floor(whole / 60), s: whole % 60 });
}

const sayExactly = (seconds) => say("seconds", { n: seconds.toFixed(seconds < 10 ? 2 : 1) });

function speak() {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  document.title = say("title");
  for (const element of document.querySelectorAll("[data-text]")) element.textContent = say(element.dataset.text);
  for (const element of document.querySelectorAll("[data-placeholder]")) {
    element.placeholder = say(element.dataset.placeholder);
  }
  const other = language === "zh" ? "en" : "zh";
  find("language").textContent = TEXTS[other].name;
  find("language").lang = other;
  showOptions();
  showServer();
  showJob();
}

find("language").addEventListener("click", () => {
  language = language === "zh" ? "en" : "zh";
  localStorage.setItem("language", language);
  showError(null);
  speak();
});

// ---- the server -----------------------------------------------------------------------------------------------

class Refused extends Error {
  constructor(status, code, message, retryAfter) {
    super(message);
    Object.assign(this, { status, code, retryAfter });
  }
}

/** Asks the API, with the key if there is one; every answer that is not a success becomes a Refused. */
async function ask(path, settings = {}) {
  const key = sessionStorage.getItem("key");
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  const answer = await fetch(path, { ...settings, headers });
  if (answer.ok) return answer;
  const { error } = await answer.json().catch(() => ({}));
  if (answer.status === 401) askForKey(key !== null);
  throw new Refused(answer.status, error?.code, error?.message ?? answer.statusText, answer.headers.get("Retry-After"));
}

function askForKey(wasWrong) {
  sessionStorage.removeItem("key");
  find("key-form").hidden = false;
  find("columns").hidden = true;
  find("key-label").dataset.text = wasWrong ? "keyWrong" : "keyNeeded";
  find("key-label").textContent = say(find("key-label").dataset.text);
  find("key").focus();
}

find("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("key", find("key").value);
  find("key").value = "";
  find("key-form").hidden = true;
  find("columns").hidden = false;
  showError(null);
  begin();
});

let server = null; // what /ready says; null while nobody answers

/** Watches until the model is ready; says meanwhile what it is doing. */
async function watchServer() {
  do {
    server = await fetch("/ready").then((answer) => answer.json()).catch(() => null);
    showServer();
    if (!server?.ready) await sleep(1000);
  } while (!server?.ready);
}

function showServer() {
  const banner = find("server");
  banner.hidden = Boolean(server?.ready) || (server === null && options === null);
  if (server?.error) banner.textContent = say("serverError", { message: server.error });
  else if (server) banner.textContent = say("gettingReady", { phase: say(currentPhase(server.phases)) });
  else banner.textContent = say("offline");
  find("note").hidden = !server?.note;
  if (server) find("note").textContent = TEXTS[language][`note.${server.model}`] ?? server.note;
}

function currentPhase(ended) {
  const names = ended.map((phase) => phase.name);
  if (names.includes("model load")) return "phase.warmup";
  return names.includes("worker imports") ? "phase.load" : "phase.imports";
}

// ---- what can be asked for --------------------------------------------------------------------------------------

let options = null;

function showOptions() {
  if (!options) return;
  find("model").textContent = options.model.title;
  find("model").hidden = false;
  find("prompt-field").hidden = !options.model.takes_prompt;
  const chosen = chosenPreset();
  find("presets").replaceChildren(...options.presets.map((preset) => presetButton(preset, preset.name === chosen)));
}

const chosenPreset = () => document.querySelector("[name=preset]:checked")?.value ?? options.default_preset;

function presetButton(preset, checked) {
  const radio = Object.assign(document.createElement("input"), { type: "radio", name: "preset", value: preset.name, checked });
  const detail = document.createElement("small");
  detail.textContent = say("presetDetail", { frames: preset.num_frames, steps: preset.num_inference_steps });
  const label = document.createElement("label");
  label.className = "preset";
  label.append(radio, TEXTS[language][`preset.${preset.name}`] ?? preset.title, detail);
  return label;
}

let picture = null;

function choosePicture(file) {
  if (!file) return;
  if (!file.type.match(/^image\/(png|jpeg|webp)$/)) return showError(say("wrongType"));
  if (options && file.size > options.picture.max_bytes) {
    return showError(say("tooLarge", { mb: Math.floor(options.picture.max_bytes / 2 ** 20) }));
  }
  picture = file;
  showError(null);
  const preview = find("preview");
  URL.revokeObjectURL(preview.src);
  preview.src = URL.createObjectURL(file);
  preview.hidden = find("change").hidden = false;
  find("drop-text").hidden = true;
  find("drop").classList.add("filled");
}

find("picture").addEventListener("change", (event) => choosePicture(event.target.files[0]));
document.addEventListener("paste", (event) => choosePicture(event.clipboardData.files[0]));
// The whole page takes a dropped picture: one that falls beside the field must not open in its place.
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  find("drop").classList.add("over");
});
document.addEventListener("dragleave", (event) => event.relatedTarget ?? find("drop").classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  find("drop").classList.remove("over");
  choosePicture(event.dataTransfer.files[0]);
});

// ---- one job ------------------------------------------------------------------------------------------------------

let job = null;

find("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (!picture) {
    showError(say("noPicture"));
    return find("picture").focus();
  }
  const seed = find("seed").value.trim();
  if (seed && !(/^\d+$/.test(seed) && Number(seed) <= 4294967295)) return showError(say("badSeed"));
  const body = new FormData();
  body.set("input_reference", picture);
  body.set("preset", chosenPreset());
  body.set("prompt", find("prompt").value);
  if (seed) body.set("seed", seed);
  await submit(body);
});

async function submit(body) {
  showError(null);
  busy(true, "sending");
  try {
    const answer = await ask("/v1/videos", { method: "POST", body });
    follow(await answer.json());
  } catch (error) {
    busy(false);
    showError(explain(error));
  }
}

/** Watches a job to its end. A connection that breaks meanwhile is waited for: the job goes on without us. */
async function follow(first) {
  job = first;
  sessionStorage.setItem("job", job.id);
  busy(true);
  find("video").hidden = find("done").hidden = true;
  showJob();
  find("result").scrollIntoView({ block: "nearest" });
  const { id } = job;
  while (job?.id === id && ["queued", "in_progress"].includes(job.status)) {
    await sleep(POLL_MS);
    try {
      job = await (await ask(`/v1/videos/${id}`)).json();
      showJob();
    } catch (error) {
      if (error instanceof Refused && error.status !== 503) return abandon(error);
      find("left").textContent = say("offline");
    }
  }
  await finish();
}

async function finish() {
  busy(false);
  if (job.status === "failed") {
    const { code, message } = job.error;
    return abandon(code === "cancelled" ? null : new Error(message), code === "cancelled" ? say("cancelled") : null);
  }
  try {
    const blob = await (await ask(`/v1/videos/${job.id}/content`)).blob();
    const video = find("video");
    URL.revokeObjectURL(video.src);
    video.src = find("download").href = URL.createObjectURL(blob);
    find("download").download = `video-${job.seed}.mp4`;
    showJob();
    video.play().catch(() => {}); // a browser may want to be asked first
  } catch (error) {
    abandon(error);
  }
}

function abandon(error, message = null) {
  job = null;
  sessionStorage.removeItem("job");
  busy(false);
  showJob();
  showError(message ?? explain(error));
}

find("cancel").addEventListener("click", async () => {
  find("cancel").disabled = true;
  find("cancel").textContent = say("cancelling");
  await ask(`/v1/videos/${job.id}`, { method: "DELETE" }).catch((error) => showError(explain(error)));
});

find("again").addEventListener("click", () => {
  find("seed").value = job.seed;
  find("seed").focus();
});

function busy(yes, label = "generate") {
  find("generate").disabled = yes;
  find("generate").textContent = say(label);
  if (!yes) return;
  find("cancel").disabled = false;
  find("cancel").textContent = say("cancel");
}

function showJob() {
  const running = job !== null && ["queued", "in_progress"].includes(job.status);
  const done = job?.status === "completed";
  find("empty").hidden = running || done;
  find("running").hidden = !running;
  find("video").hidden = find("done").hidden = !done;
  if (running) showProgress();
  if (done) showTiming();
}

function showProgress() {
  const { status, step, steps, remaining_s: remaining, jobs_ahead: ahead } = job;
  if (status === "queued") {
    find("step").textContent = say("waiting");
    find("left").textContent = ahead ? say("ahead", { n: ahead }) : say("next");
  } else {
    find("step").textContent = step === steps ? say("finishing") : step ? say("step", { step, steps }) : say("starting");
    find("left").textContent = remaining ? say("left", { time: sayTime(remaining) }) : "";
  }
  find("progress").value = job.progress;
}

function showTiming() {
  const stages = Object.entries(job.stage_durations);
  find("bar").replaceChildren(
    ...stages.map(([name, seconds]) => {
      const part = Object.assign(document.createElement("i"), { className: name });
      part.style.flexGrow = seconds;
      return part;
    }),
  );
  const total = stages.reduce((sum, [, seconds]) => sum + seconds, 0);
  find("timing").replaceChildren(
    ...stages.map(([name, seconds]) => pair(say(name), sayExactly(seconds), name)),
    pair(say("total"), sayExactly(total)),
  );
  const { num_frames: frames, fps, num_inference_steps: steps, guidance_scale: guidance } = job.settings;
  const rows = [
    ["size", job.size.replace("x", " × ")],
    ["frames", say("framesValue", { frames, fps })],
    ["steps", steps],
    ["guidance", guidance],
    ["seed", job.seed],
    ["model", job.model],
  ];
  find("settings").replaceChildren(...rows.flatMap(([key, value]) => [element("dt", say(key)), element("dd", value)]));
}

function pair(name, value, colour) {
  const group = document.createElement("div");
  if (colour) group.append(Object.assign(document.createElement("i"), { className: colour }));
  group.append(element("dt", name), element("dd", value));
  return group;
}

const element = (tag, text) => Object.assign(document.createElement(tag), { textContent: text });

// ---- what goes wrong ------------------------------------------------------------------------------------------------

function explain(error) {
  if (!(error instanceof Refused)) return error instanceof TypeError ? say("offline") : error.message;
  if (error.status === 401) return null; // the key is asked for
  if (error.status === 404) return say("gone");
  if (error.status === 429) return say("full", { time: sayTime(Number(error.retryAfter ?? 10)) });
  return error.message;
}

function showError(message) {
  find("error").hidden = !message;
  find("error").textContent = message ?? "";
}

// ---- begin ------------------------------------------------------------------------------------------------------------

async function begin() {
  try {
    options = await (await ask("/v1/options")).json();
    showOptions();
    const id = sessionStorage.getItem("job");
    if (id && !job) follow(await (await ask(`/v1/videos/${id}`)).json());
  } catch (error) {
    if (error.status === 404) sessionStorage.removeItem("job");
    else showError(explain(error));
  }
}

speak();
begin();
watchServer();
