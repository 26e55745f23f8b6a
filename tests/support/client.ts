// What a client does whose types are generated: it starts, follows by pages, cancels, and reads a problem.
// `schema.ts` is what openapi-typescript makes of GET /schema. The last argument is the API's URL.
import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

declare const process: { argv: string[] };

const api = createClient<paths>({ baseUrl: process.argv.at(-1)! });

function sure(holds: boolean, what: unknown): asserts holds {
  if (!holds) throw new Error(`not so: ${JSON.stringify(what)}`);
}

type Submitted = components["schemas"]["Submitted"];

// What a POST without `Accept` answers is no stream.
function task({ data, error }: { data?: Submitted | string; error?: unknown }): Submitted {
  sure(data !== undefined && typeof data !== "string", error);
  return data;
}

async function entries(task_id: string): Promise<components["schemas"]["Entry"][]> {
  const all: components["schemas"]["Entry"][] = [];
  for (let after = -1; ; ) {
    const path = { task_id };
    const { data } = await api.GET("/tasks/{task_id}/chunks", {
      params: { path, query: { after: `${after}`, limit: 2, wait: 5 } },
    });
    sure(data !== undefined, "a page");
    all.push(...data.entries);
    after = data.next;
    if (data.ended) return all;
  }
}

const messages = [{ role: "user" as const, content: "Hi" }];
const chat = task(await api.POST("/functions/chat/tasks", { body: { messages } }));
sure((await entries(chat.task_id)).length > 0, "an end at least");

const header = { "Idempotency-Key": `${Math.random()}` };
const count = task(await api.POST("/functions/count/tasks", { body: { to: 5 }, params: { header } }));
const seen = (await entries(count.task_id)).map((entry) => entry.data);
sure(JSON.stringify(seen) === '[1,2,3,4,5,{"chunks":5}]', seen);

const long = task(await api.POST("/functions/count/tasks", { body: { to: 100, every: 3600 } }));
const path = { task_id: long.task_id };
const cancelled = await api.DELETE("/tasks/{task_id}", { params: { path } });
sure(cancelled.data?.status === "cancelled" && cancelled.data.end !== null, cancelled.data);

const refused = await api.GET("/tasks/{task_id}/chunks", { params: { path, query: { limit: 0 } } });
sure(refused.error?.type === "urn:tailrace:problem:invalid-limit", refused.error);

// @ts-expect-error: `to` is a number
void (() => api.POST("/functions/count/tasks", { body: { to: "five" } }));

console.log("all as it should be");
