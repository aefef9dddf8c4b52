// The server's endpoints; where it needs a key, a dialog asks for it.
import { byId } from "./nodes.js";

const KEPT = "edgemoe.key";
let asking = null;

/** What the server answers that is no success; `status` is 0 where it does not answer at all. */
export class ServerError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** A response of status 200; `body` is sent as JSON. */
async function call(path, { body, signal } = {}) {
  for (;;) {
    const key = sessionStorage.getItem(KEPT);
    const headers = key ? { Authorization: `Bearer ${key}` } : {};
    if (body) headers["Content-Type"] = "application/json";
    let response;
    try {
      const data = body && JSON.stringify(body);
      response = await fetch(path, { method: body ? "POST" : "GET", headers, body: data, signal, cache: "no-store" });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ServerError("The server does not answer.", 0);
    }
    if (response.ok) return response;
    const message = (await response.json().catch(() => ({})))?.error?.message ?? `status ${response.status}`;
    if (response.status !== 401 || /does not answer to the name/.test(message)) {
      const wait = response.headers.get("Retry-After");
      throw new ServerError(wait ? `${message} (try again in ${wait} s)` : message, response.status);
    }
    await newKey(key);
  }
}

/** Waits until another key than `refused` is there. */
function newKey(refused) {
  if (sessionStorage.getItem(KEPT) !== refused) return Promise.resolve();
  asking ??= new Promise((resolve) => {
    const [dialog, field] = [byId("key-dialog"), byId("key")];
    byId("key-error").textContent = refused ? "This was not the key." : "";
    // Escape closes nothing. A browser may ignore that `cancel` is prevented, but not that the key is.
    dialog.onkeydown = (event) => {
      if (event.key === "Escape") event.preventDefault();
    };
    dialog.oncancel = (event) => event.preventDefault();
    byId("key-form").onsubmit = () => {
      sessionStorage.setItem(KEPT, field.value);
      field.value = "";
    };
    dialog.onclose = () => {
      if (sessionStorage.getItem(KEPT) === refused) return dialog.showModal();
      asking = null;
      resolve();
    };
    dialog.showModal();
    field.focus();
  });
  return asking;
}

const found = async (path) => (await call(path)).json();

/** Names of the models, the default one first. */
export const models = async () => (await found("/v1/models")).data.map((model) => model.id);

/** The server at this moment. */
export const engine = () => found("/engine");

/** The chunks of an answer as they come; `signal` stops it. */
export async function* chat(request, signal) {
  const body = { ...request, stream: true, stream_options: { include_usage: true } };
  const response = await call("/v1/chat/completions", { body, signal });
  for await (const data of events(response.body)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ServerError(chunk.error.message, 200);
    yield chunk;
  }
  throw new ServerError("The answer broke off.", 0);
}

/** The data of server-sent events. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) if (line.startsWith("data: ")) yield line.slice(6);
    }
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError("The connection to the server broke.", 0);
  } finally {
    reader.cancel().catch(() => {});
  }
}
