// The language of the page: the browser's, until another is chosen, which then is remembered.
import { find } from "./dom.js";
import { TEXTS } from "./texts.js";

let language = localStorage.getItem("language");
if (!(language in TEXTS)) language = navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";

const listeners = [];

/** Calls `listener` now that there are words, and again in every other language. */
export function onLanguage(listener) {
  listeners.push(listener);
  listener();
}

export const tag = () => (language === "zh" ? "zh-CN" : "en");

export function say(key, values = {}) {
  return (TEXTS[language][key] ?? TEXTS.en[key] ?? key).replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

/** Our own words for what the server names, or else the server's. */
export const sayOr = (key, words) => TEXTS[language][key] ?? words;

export function sayTime(seconds) {
  const whole = Math.max(1, Math.round(seconds));
  if (whole < 60) return say("seconds", { n: whole });
  const minutes = Math.floor(whole / 60);
  if (minutes < 10 && whole % 60) return say("minutes", { m: minutes, s: whole % 60 });
  if (minutes < 60) return say("wholeMinutes", { m: minutes });
  return say("hours", { h: Math.floor(minutes / 60), m: minutes % 60 });
}

/** A time that is only guessed: two digits would promise too much. */
export const sayRoughTime = (seconds) =>
  sayTime(seconds < 60 ? Math.ceil(seconds / 10) * 10 : Math.round(seconds / 60) * 60);

export const sayExactly = (seconds) =>
  seconds < 60 ? say("seconds", { n: seconds.toFixed(seconds < 10 ? 2 : 1) }) : sayTime(seconds);

/** The time of day, with the date unless it is today's. */
export function sayWhen(secondsSince1970) {
  const when = new Date(secondsSince1970 * 1000);
  const today = when.toDateString() === new Date().toDateString();
  const date = today ? {} : { month: "short", day: "numeric" };
  return when.toLocaleString(tag(), { ...date, hour: "2-digit", minute: "2-digit" });
}

function speak() {
  document.documentElement.lang = tag();
  document.title = say("title");
  for (const element of document.querySelectorAll("[data-text]")) element.textContent = say(element.dataset.text);
  for (const element of document.querySelectorAll("[data-placeholder]")) {
    element.placeholder = say(element.dataset.placeholder);
  }
  for (const element of document.querySelectorAll("[data-label]")) {
    element.setAttribute("aria-label", say(element.dataset.label));
  }
  const other = language === "zh" ? "en" : "zh";
  find("language").textContent = TEXTS[other].name;
  find("language").lang = other === "zh" ? "zh-CN" : "en";
}

onLanguage(speak);
find("language").addEventListener("click", () => {
  language = language === "zh" ? "en" : "zh";
  localStorage.setItem("language", language);
  for (const listener of listeners) listener();
});
