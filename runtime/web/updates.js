// One video as it changes, until it has ended: by the server's events, or by asking each second.
import { askJson, Refused, videoPath } from "./api.js";
import { sleep } from "./dom.js";
import { events } from "./events.js";

const POLL_MS = 1000;
let hasEvents = true;

export const isUnfinished = (video) => ["queued", "in_progress"].includes(video.status);
export const isCancelled = (video) => video.error?.code === "cancelled";

/**
 * Every state of the video after this one.
 *
 * A connection that breaks is waited for, and told to `whenOffline`: the work goes on without us. What the server
 * refuses is thrown.
 */
export async function* updates(video, signal, whenOffline) {
  while (isUnfinished(video) && !signal.aborted) {
    try {
      if (hasEvents) for await (video of streamed(video.id, signal)) yield video;
      if (!isUnfinished(video)) return;
      await sleep(POLL_MS);
      yield (video = await askJson(videoPath(video.id), { signal }));
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Refused && error.status < 500) throw error;
      whenOffline();
      await sleep(POLL_MS);
    }
  }
}

async function* streamed(id, signal) {
  try {
    yield* events(`${videoPath(id)}/events`, signal);
  } catch (error) {
    if (!(error instanceof Refused && error.isUnknownPath)) throw error;
    await askJson(videoPath(id), { signal }); // if it is the video that is not there, this says so
    hasEvents = false;
  }
}
