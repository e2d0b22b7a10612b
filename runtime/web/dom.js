// Small helpers around the document.

export const find = (id) => document.getElementById(id);
export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** A new element with these properties (`class`, `data` and `aria` among them) and children. */
export function make(tag, { data = {}, aria = {}, class: names = "", ...properties } = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  if (names) made.className = names;
  Object.assign(made.dataset, data);
  for (const [name, value] of Object.entries(aria)) made.setAttribute(`aria-${name}`, value);
  made.append(...children);
  return made;
}

/** Writes only what changed, so that nothing that is read aloud or selected is disturbed. */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Brings the part of the page that was just asked for into view, and the keyboard to its heading. */
export function goTo(heading) {
  heading.focus({ preventScroll: true });
  heading.scrollIntoView({ block: "nearest" });
}
