// What a page does that follows a stream by @microsoft/fetch-event-source, with its key in a header. It prints each
// entry. The arguments are the address of the stream and the key.
import { fetchEventSource } from "@microsoft/fetch-event-source";

// Of a browser's globals the library needs these two.
globalThis.window = globalThis;
globalThis.document = { removeEventListener() {} };

const [url, key] = process.argv.slice(2);
const ENDS = ["done", "failed", "cancelled"];

class Fatal extends Error {}

let ended = false;

await fetchEventSource(url, {
  headers: { Authorization: `Bearer ${key}` },
  openWhenHidden: true,
  // The library asks again after each error but what `onerror` throws.
  async onopen(answer) {
    console.log(`status ${answer.status}`);
    if (answer.status >= 400 && answer.status < 500) throw new Fatal((await answer.json()).type);
    if (!answer.ok) throw new Error(`status ${answer.status}`);
  },
  onmessage(message) {
    if (message.data) console.log(`entry ${message.id} ${message.data}`);
    ended = ENDS.includes(message.event);
  },
  onclose() {
    if (!ended) throw new Error("broken off");
  },
  onerror(error) {
    if (!(error instanceof Fatal)) return;
    console.log(error.message);
    throw error;
  },
}).catch((error) => {
  if (!(error instanceof Fatal)) throw error;
});
