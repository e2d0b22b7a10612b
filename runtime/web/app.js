// The page: a picture becomes a video. Talks only to the server that it came from. This file connects the parts.
import { loadChoices } from "./choices.js";
import { find } from "./dom.js";
import { refreshHistory, watchHistory } from "./history.js";
import { watchKey } from "./key.js";
import { explain, showError } from "./notices.js";
import { watchPicture } from "./picture.js";
import { follow, followLast, watchResult } from "./result.js";
import { watchServer } from "./server.js";
import { forgetPress, watchForm } from "./submit.js";
import { watchSummary } from "./summary.js";

/** As soon as the server answers; again when it is ready anew, and when a key was given. */
async function begin() {
  try {
    await loadChoices();
    showError("error", null);
    refreshHistory();
    await followLast();
  } catch (error) {
    if (!(error instanceof TypeError)) showError("error", () => explain(error)); // that it is gone, the banner says
  }
}

watchKey(begin);
const again = () => loadChoices().catch(() => {});
watchPicture(forgetPress, again); // the shape of the picture decides how long a video takes
watchForm((video) => {
  follow(video);
  find("result").scrollIntoView({ block: "nearest" });
});
watchResult(() => {
  refreshHistory();
  again(); // what a video took is what the next one is expected to take
});
watchSummary();
watchHistory();
watchServer(begin);
