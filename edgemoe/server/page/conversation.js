// The chat: what was said, and the answer that is on its way.
import { chat } from "./api.js";
import { AnswerView, question } from "./message.js";
import { byId, say } from "./nodes.js";

const ENDINGS = { length: "cut off: no more tokens", content_filter: "refused" };

export class Conversation {
  #messages = []; // {role, content, thought}
  #views = []; // their elements
  #running = null; // the AbortController of an answer that is computed

  constructor() {
    this.log = byId("log");
    this.prompt = byId("prompt");
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.send();
    });
    this.prompt.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.send();
    });
    byId("chat").addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.stop();
    });
    byId("stop").addEventListener("click", () => this.stop());
    byId("retry").addEventListener("click", () => this.retry());
    byId("clear").addEventListener("click", () => this.clear());
  }

  send() {
    const text = this.prompt.value.trim();
    if (!text || this.#running) return;
    this.prompt.value = "";
    this.#add({ role: "user", content: text }, question(text));
    this.#answer();
  }

  stop() {
    this.#running?.abort();
  }

  /** Asks once more for the last answer. */
  retry() {
    if (this.#running || !this.#messages.length) return;
    if (this.#messages.at(-1).role === "assistant") {
      this.#messages.pop();
      this.#views.pop().remove();
    }
    this.#answer();
  }

  clear() {
    this.stop();
    this.#messages = [];
    for (const view of this.#views.splice(0)) view.remove();
    byId("empty").hidden = false;
    this.#show();
    this.prompt.focus();
  }

  #add(message, view) {
    byId("empty").hidden = true;
    this.#messages.push(message);
    this.#views.push(view);
    this.log.append(view);
    this.log.scrollTop = this.log.scrollHeight;
  }

  async #answer() {
    const running = (this.#running = new AbortController());
    const said = request(this.#messages);
    const message = { role: "assistant", content: "" };
    const view = new AnswerView(said.model);
    this.#add(message, view.element);
    this.#show();
    this.prompt.focus();
    say(byId("status"), "The answer is computed.");
    const facts = { began: performance.now() };
    try {
      const reason = await this.#read(chat(said, running.signal), message, view, facts);
      view.end(facts, ENDINGS[reason]);
      say(byId("status"), `Answer: ${this.#views.includes(view.element) ? view.body.textContent : ""}`);
    } catch (error) {
      facts.ended = performance.now();
      if (error.name === "AbortError") view.end(facts, "stopped");
      else view.fail(facts, error.message);
      say(byId("status"), error.name === "AbortError" ? "Stopped." : "");
    } finally {
      if (this.#running === running) this.#running = null;
      this.#show();
    }
  }

  /** Shows an answer as it comes; returns its finish reason. */
  async #read(chunks, message, view, facts) {
    let reason = null;
    for await (const chunk of chunks) {
      const choice = chunk.choices[0];
      const { content = "", reasoning_content: thought = "" } = choice?.delta ?? {};
      if (content || thought) {
        facts.first ??= performance.now();
        message.content += content;
        message.thought = (message.thought ?? "") + thought;
        const below = this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight;
        view.show(message.content, message.thought);
        if (below < 40) requestAnimationFrame(() => (this.log.scrollTop = this.log.scrollHeight));
      }
      reason = choice?.finish_reason ?? reason;
      if (choice?.finish_reason) facts.ended = performance.now();
      facts.usage = chunk.usage ?? facts.usage;
      if (chunk.edgemoe) {
        facts.story = chunk.edgemoe;
        view.rename(chunk.edgemoe.answered_by?.at(-1) ?? chunk.model);
      }
    }
    return reason;
  }

  #show() {
    const busy = this.#running !== null;
    const [send, stop] = [byId("send"), byId("stop")];
    if (document.activeElement === (busy ? send : stop)) this.prompt.focus();
    send.hidden = busy;
    stop.hidden = !busy;
    byId("retry").disabled = busy || !this.#messages.length;
    byId("clear").disabled = !this.#messages.length;
  }
}

/** The request for the next message, with the choices above the conversation. */
function request(messages) {
  const system = byId("system").value.trim();
  const said = messages
    .map(({ role, content }) => ({ role, content }))
    .filter(({ content }) => content);
  const found = {
    model: byId("model").value,
    messages: system ? [{ role: "system", content: system }, ...said] : said,
  };
  const [temperature, most] = [byId("temperature"), byId("max-tokens")].map((field) => field.valueAsNumber);
  if (Number.isFinite(temperature)) found.temperature = temperature;
  if (Number.isFinite(most)) found.max_tokens = most;
  if (byId("quality").value) found.quality = byId("quality").value;
  if (byId("private").checked) found.private = true;
  return found;
}
