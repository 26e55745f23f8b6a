// What a page of another origin does with the API. The fragment of its address says where the API is, with which keys
// it asks, and which of the functions below it calls. It reports what each returned, or the error that it threw.
"use strict";

const { api, key, noisy, task, last, names } = JSON.parse(decodeURIComponent(location.hash.slice(1)));

// The parts of an answer that a page can read.
const NAMES = ["Content-Location", "ETag", "Link", "Location", "Retry-After", "Content-Type"];

const bearer = (token) => (token ? { Authorization: `Bearer ${token}` } : {});

async function ask(method, path, headers = bearer(key), body = undefined) {
  const given = body === undefined ? headers : { ...headers, "Content-Type": "application/json" };
  return fetch(api + path, { method, headers: given, body: body === undefined ? body : JSON.stringify(body) });
}

async function read(answer) {
  const headers = Object.fromEntries(NAMES.map((name) => [name.toLowerCase(), answer.headers.get(name)]));
  const text = await answer.text();
  return { status: answer.status, headers, body: text && JSON.parse(text) };
}

const start = async (input) => read(await ask("POST", "/functions/count/tasks", bearer(key), input));

// The ids and the data of the events of a stream: of `most`, then the page leaves it.
async function follow(answer, most = Infinity) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  const found = [];
  for (let rest = ""; found.length < most; ) {
    const { done, value } = await reader.read();
    if (done) break;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const fields = Object.fromEntries(part.split("\n").map((line) => line.split(/: ?(.*)/s).slice(0, 2)));
      if (fields.data !== undefined) found.push([Number(fields.id), JSON.parse(fields.data)]);
    }
  }
  await reader.cancel();
  return found.slice(0, most);
}

const functions = {
  async starts() {
    const headers = { ...bearer(key), "Idempotency-Key": `${Math.random()}` };
    return read(await ask("POST", "/functions/count/tasks", headers, { to: 1 }));
  },
  async streams() {
    const answer = await ask("POST", "/functions/count/tasks", { ...bearer(key), Accept: "text/event-stream" }, { to: 3 });
    return { location: answer.headers.get("Location"), events: await follow(answer) };
  },
  async resumes() {
    const { body } = await start({ to: 20, every: 0.02 });
    const first = await follow(await ask("GET", body.stream_url), 3);
    const headers = { "X-API-Key": key, "Last-Event-ID": `${first.at(-1)[0]}` };
    return [...first, ...(await follow(await ask("GET", body.stream_url, headers)))];
  },
  async cancels() {
    const { body } = await start({ to: 2, every: 3600 });
    return read(await ask("DELETE", `/tasks/${body.task_id}`));
  },
  async asks_again() {
    const etag = (await ask("GET", "/functions")).headers.get("ETag");
    return (await ask("GET", "/functions", { ...bearer(key), "If-None-Match": etag })).status;
  },
  async forgets_its_key() {
    return read(await ask("GET", "/tasks", {}));
  },
  async has_a_wrong_key() {
    return read(await ask("GET", "/tasks", bearer("trk_none")));
  },
  async asks_too_fast() {
    for (let sent = 0; sent < 200; sent++) {
      const answer = await read(await ask("GET", "/tasks", bearer(noisy)));
      if (answer.status !== 200) return answer;
    }
    return null;
  },
  async sends_too_much() {
    return read(await ask("POST", "/functions/count/tasks", bearer(key), { to: "1".repeat(2_000_000) }));
  },
  async is_without_cors() {
    return (await fetch(`${api}/health/live`, { mode: "no-cors" })).type;
  },
  async sends_cookies() {
    return (await fetch(`${api}/health/live`, { credentials: "include" })).status;
  },
  // An `EventSource` sends no headers of the page's choice.
  async has_an_event_source() {
    return listen((await start({ to: 3 })).body.stream_url);
  },
  async follows_by_tickets() {
    return followByTickets();
  },
};

// This is the page's own server, which has the key: it counts how many tickets the page asks for.
let tickets = 0;

async function ticketFor(id) {
  tickets += 1;
  const { body } = await read(await ask("POST", `/tasks/${id}/tickets`));
  return { ...body, stream_url: api + body.stream_url };
}

// The chunks of the task until the last one, and how many tickets they took, by the function of docs/api.md.
async function followByTickets() {
  const block = await (await fetch("/follow.js")).text();
  const followTask = new Function("ticketFor", `${block}; return follow;`)(ticketFor);
  const chunks = [];
  await new Promise((resolve) => {
    followTask(task, (chunk) => {
      chunks.push(chunk);
      if (chunk === Number(last)) resolve();
    });
  });
  return { chunks, tickets };
}

function listen(path) {
  return new Promise((resolve, reject) => {
    const source = new EventSource(api + path);
    const found = [];
    const take = (event) => found.push([Number(event.lastEventId), JSON.parse(event.data)]);
    source.onmessage = take;
    source.addEventListener("done", (event) => {
      take(event);
      source.close();
      resolve(found);
    });
    source.onerror = () => source.readyState === EventSource.CLOSED && reject(new Error("closed"));
  });
}

async function main() {
  const report = {};
  for (const name of names) {
    try {
      report[name] = await functions[name]();
    } catch (error) {
      report[name] = { error: error.name };
    }
  }
  await fetch("/report", { method: "POST", body: JSON.stringify(report) });
}

main();
