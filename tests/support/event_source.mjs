// What a page does: it follows a task with the function of docs/api.md, by an EventSource of npm's. The arguments are the
// API's URL, a key, and the task. It prints every chunk, and at last how many tickets it took.
import { readFileSync } from "node:fs";
import { EventSource } from "eventsource";

const [url, key, task, page] = process.argv.slice(2);
let tickets = 0;

// This is the page's own server: the page has no key.
async function ticketFor(id) {
  const answer = await fetch(`${url}/tasks/${id}/tickets`, { method: "POST", headers: { "X-API-Key": key } });
  if (!answer.ok) throw new Error(await answer.text());
  tickets += 1;
  const made = await answer.json();
  return { ...made, stream_url: url + made.stream_url };
}

const source = readFileSync(page, "utf8");
const follow = new Function("EventSource", "ticketFor", `${source}; return follow;`)(EventSource, ticketFor);
process.on("exit", () => console.log(`tickets: ${tickets}`));
await follow(task, (chunk) => console.log(chunk));
