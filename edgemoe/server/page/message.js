// One message of the conversation as it is shown.
import { digits, make, seconds } from "./nodes.js";
import { render } from "./markdown.js";

/** What the user has said. */
export function question(text) {
  return article("user", "You", make("div", { className: "body" }, text));
}

function article(kind, name, ...children) {
  const found = make("article", { className: `message ${kind}` }, make("header", {}, name), ...children);
  found.setAttribute("aria-label", name);
  return found;
}

/** An answer that grows; it is drawn at most once a frame. */
export class AnswerView {
  constructor(name) {
    this.body = make("div", { className: "body waiting" });
    this.foot = make("footer");
    this.element = article("assistant", name, this.body, this.foot);
    this.element.setAttribute("aria-busy", "true");
    this.pending = null;
  }

  /** Names who answers, where the router chose. */
  rename(name) {
    this.element.firstChild.textContent = name;
    this.element.setAttribute("aria-label", name);
  }

  /** The text so far, and what was thought before it, folded. */
  show(text, thought = "") {
    [this.text, this.thought] = [text, thought];
    this.pending ??= requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    this.pending = null;
    if (this.thought) {
      if (!this.thoughts) {
        this.thoughts = make("div", { className: "body" });
        this.body.before(make("details", {}, make("summary", {}, "Thoughts"), this.thoughts));
      }
      render(this.thoughts, this.thought);
    }
    render(this.body, this.text);
  }

  /** The answer has ended: `note` says how, if not by itself. */
  end(facts, note) {
    if (this.pending !== null) cancelAnimationFrame(this.pending);
    if (this.text !== undefined) this.#draw();
    this.body.classList.remove("waiting");
    this.element.removeAttribute("aria-busy");
    this.foot.replaceChildren(described(facts, note));
  }

  /** The answer has ended with an error. */
  fail(facts, message) {
    this.end(facts);
    const alert = make("p", { className: "warning" }, message);
    alert.setAttribute("role", "alert");
    this.foot.before(alert);
  }
}

function described({ first, began, ended, usage, story }, note) {
  const parts = note ? [note] : [];
  if (usage) {
    const cached = usage.prompt_tokens_details?.cached_tokens;
    parts.push(`${usage.prompt_tokens} tokens read${cached ? ` (${cached} known)` : ""}, ${usage.completion_tokens} written`);
    if (first && usage.completion_tokens > 1 && ended > first) {
      parts.push(`${digits((1000 * (usage.completion_tokens - 1)) / (ended - first))} tok/s`);
    }
  }
  if (first) parts.push(`first after ${seconds((first - began) / 1000)}`);
  if (story) {
    parts.push(`${story.route}: ${story.reason}`);
    if (story.cost) parts.push(`cost ${digits(story.cost)}`);
    parts.push(...(story.notes ?? []));
  }
  return parts.join(" · ");
}
