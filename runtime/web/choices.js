// What can be asked for, as the server says: presets with their time, what does not fit and why, formats, the seed.
import { askJson } from "./api.js";
import { find, make, write } from "./dom.js";
import { showError } from "./notices.js";
import { pictureShape, setMostBytes } from "./picture.js";
import { heard } from "./server_words.js";
import { onLanguage, say, sayOr, sayRoughTime, sayTime } from "./words.js";

const ALWAYS = ["standard", "preview"];
const MAX_SEED = 2 ** 32 - 1;

let options = null;

/** Asks what there is to choose from for the picture that was chosen, and shows it. */
export async function loadChoices() {
  const shape = pictureShape();
  options = await askJson(shape ? `/v1/options?picture=${shape}` : "/v1/options");
  setMostBytes(options.picture.max_bytes);
  show();
}

export const formatOf = (name) => options?.formats?.find((format) => format.name === name);

/** The fields of the form, without the picture; null if one of them cannot be used, which then is said. */
export function readChoices() {
  const preset = chosen();
  if (options && !preset) return refuse("noPreset", document.querySelector("[name=preset]"));
  const seed = find("seed").value.trim();
  if (seed && !(/^\d+$/.test(seed) && Number(seed) <= MAX_SEED)) {
    find("more").open = true;
    return refuse("badSeed", find("seed"));
  }
  const fields = { preset, prompt: find("prompt").value.trim(), seed, output_format: find("format").value };
  if (find("fast").checked && options?.fast !== false) fields.fast = "true";
  return Object.entries(fields).filter(([, value]) => value);
}

function refuse(words, field) {
  showError("error", () => say(words));
  field?.focus();
  return null;
}

/** Fills in what made a video, to make it again. */
export function chooseAgain(video) {
  find("prompt").value = video.prompt;
  find("seed").value = video.seed;
  find("more").open = true;
  find("seed").focus();
}

// ---- how it looks -----------------------------------------------------------------------------------------------

onLanguage(show);
find("presets").addEventListener("change", showExpected);
find("other-presets").addEventListener("change", showExpected);

const chosen = () => document.querySelector("[name=preset]:checked")?.value;
const canBe = (preset) => preset.fits !== false;

function show() {
  if (!options) return;
  write(find("model"), sayOr(`model.${options.model.id}`, options.model.title));
  find("model").hidden = false;
  find("prompt-field").hidden = !options.model.takes_prompt;
  find("fast").parentElement.hidden = options.fast === false;
  showPresets();
  showFormats();
  showExpected();
}

function showPresets() {
  const focused = document.activeElement.name === "preset" ? document.activeElement.value : null;
  const wanted = [chosen(), options.default_preset];
  const fitting = options.presets.filter(canBe).map(({ name }) => name);
  const checked = [...wanted, ...fitting].find((name) => fitting.includes(name));
  const isMain = ({ name }) => ALWAYS.includes(name) || name === options.tier;
  const main = options.presets.filter(isMain);
  const others = options.presets.filter((preset) => !isMain(preset) && !main.some((shown) => isSame(shown, preset)));
  const cards = (presets) => presets.map((preset) => card(preset, preset.name === checked));
  find("presets").replaceChildren(...cards(main));
  find("other-presets").replaceChildren(...cards(others));
  find("others").hidden = !others.length;
  if (focused) document.querySelector(`[name=preset][value="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
}

/** Whether two presets make the same: standard is that of the smallest GPUs. */
const isSame = (one, other) =>
  ["side", "num_frames", "num_inference_steps", "fps", "guidance_scale"].every((name) => one[name] === other[name]);

function card(preset, checked) {
  const disabled = !canBe(preset);
  const about = `about-${preset.name}`;
  const radio = make("input", {
    ...{ type: "radio", name: "preset", value: preset.name },
    ...{ checked, disabled, aria: { describedby: about } },
  });
  const title = make("strong", { textContent: sayOr(`preset.${preset.name}`, preset.title) });
  const badge = preset.name === options.tier ? [make("span", { class: "badge", textContent: say("thisMachine") })] : [];
  const values = { side: preset.side, frames: preset.num_frames, steps: preset.num_inference_steps };
  const lines = [make("small", { textContent: say("presetDetail", values) })];
  if (preset.expected_s && !disabled) lines.push(make("small", { class: "time", textContent: sayExpected(preset) }));
  if (disabled) lines.push(make("small", { class: "reason", ...heard(preset.reason) }));
  for (const cost of disabled ? [] : preset.said) lines.push(make("small", { class: "cost", ...heard(cost) }));
  return make(
    "div",
    { class: `preset${disabled ? " off" : ""}` },
    make("label", {}, radio, title, ...badge),
    make("div", { id: about }, ...lines),
  );
}

const sayExpected = (preset) =>
  preset.expected_is_measured
    ? say("about", { time: sayTime(preset.expected_s) })
    : say("roughly", { time: sayRoughTime(preset.expected_s) });

function showFormats() {
  const formats = options.formats ?? [];
  const select = find("format");
  const before = select.value;
  select.replaceChildren(
    ...formats.map(({ name, about }) => {
      const words = sayOr(`format.${name}`, about);
      const textContent = `${name.toUpperCase()} – ${words}`;
      return make("option", { value: name, textContent, selected: name === before });
    }),
  );
  find("format-field").hidden = !formats.length;
}

function showExpected() {
  const preset = options?.presets.find(({ name }) => name === chosen());
  const takes = preset?.expected_s ? say("expected", { time: sayExpected(preset) }) : "";
  const waits = takes && options.wait_s >= 1 ? say("expectedWait", { time: sayTime(options.wait_s) }) : "";
  write(find("expected"), takes + waits);
}
