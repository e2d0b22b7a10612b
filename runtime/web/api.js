// Asks the server, with the API key if there is one. Knows the ways in which it refuses, and nothing of the page.

/** An answer that is not a success. */
export class Refused extends Error {
  constructor(status, { code, message } = {}, retryAfter = null) {
    super(message ?? `HTTP ${status}`);
    Object.assign(this, { status, code, retryAfter });
  }

  /** Whether the server itself lacks this way of asking, being older than the page. */
  get isUnknownPath() {
    return this.status === 404 || this.status === 405;
  }
}

export const setKey = (key) => sessionStorage.setItem("key", key);

/**
 * The answer, if it is a success.
 *
 * Throws Refused if it is none, and TypeError if there is no answer. A missing or wrong key is also told to the
 * document as the event "key-needed".
 */
export async function ask(path, { headers = {}, ...settings } = {}) {
  const key = sessionStorage.getItem("key");
  const authorization = key ? { Authorization: `Bearer ${key}` } : {};
  const answer = await fetch(path, { ...settings, headers: { ...headers, ...authorization } });
  if (answer.ok) return answer;
  const { error } = await answer.json().catch(() => ({}));
  if (answer.status === 401) {
    sessionStorage.removeItem("key");
    document.dispatchEvent(new CustomEvent("key-needed", { detail: { wasWrong: key !== null } }));
  }
  throw new Refused(answer.status, error, answer.headers.get("Retry-After"));
}

export const askJson = async (path, settings) => (await ask(path, settings)).json();
export const videoPath = (id) => `/v1/videos/${encodeURIComponent(id)}`;
