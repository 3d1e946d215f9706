/** The worker's side: a session that listens to the page. */

import type { Answer, Request } from "./messages";
import { Session } from "./session";

const session = new Session((answer: Answer, moved: ArrayBuffer[] = []) => {
  self.postMessage(answer, { transfer: moved });
});
self.onmessage = ({ data }: MessageEvent<Request>) => {
  session.take(data).catch((error) => {
    // Out of the promise, so that the page hears of it.
    setTimeout(() => {
      throw error;
    });
  });
};
