// The engine at work: asks the server once a second, as long as somebody can see it.
import { engine } from "./api.js";
import { HeatMap } from "./heatmap.js";
import { byId, digits, figures, make, percent, rows, say, seconds, size } from "./nodes.js";

const PERIOD = 1000; // milliseconds
const LOST = 5000; // after which a server is asked again that did not answer
const WINDOW = 5; // readings over which "now" is meant
const HISTORY = 120;

export class EnginePanel {
  #readings = []; // of the model that is shown: {at, counters}
  #speeds = [];
  #shown = null; // its name
  #chosen = null; // the model that somebody wants to see
  #heat = new HeatMap();

  constructor() {
    byId("engine-model").addEventListener("change", (event) => (this.#chosen = event.target.value));
  }

  async run() {
    for (;;) {
      const lost = await this.#look();
      await new Promise((resolve) => setTimeout(resolve, lost ? LOST : PERIOD));
      if (document.hidden) {
        await new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
      }
    }
  }

  /** One reading; true where there was none. */
  async #look() {
    try {
      this.#show(await engine());
    } catch (error) {
      say(byId("connection"), error.message);
      return !(byId("connection").hidden = false);
    }
    byId("connection").hidden = true;
    return false;
  }

  #show(state) {
    const model = this.#select(state.models);
    this.#read(model);
    this.#memory(model.memory);
    this.#figures(state, model);
    this.#speed();
    this.#heat.show(model);
    this.#routes(state);
    rows(byId("recent"), state.recent.map(answered));
    const memory = model.memory;
    const parts = [model.loaded ? model.name : `${model.name} is not in memory`];
    if (memory) parts.push(`${size(memory.process)}${memory.budget ? ` of ${size(memory.budget)}` : ""}`);
    say(byId("summary"), parts.join(" · "));
  }

  /** The model that is shown: the one that was chosen, or else one that is loaded. */
  #select(models) {
    const choice = byId("engine-model");
    byId("engine-choice").hidden = models.length < 2;
    if (choice.length !== models.length) {
      choice.replaceChildren(...models.map(({ name }) => make("option", {}, name)));
    }
    const found =
      models.find(({ name }) => name === this.#chosen) ??
      models.find(({ name, loaded }) => loaded && name === this.#shown) ??
      models.find(({ loaded }) => loaded) ??
      models[0];
    if (found.name !== this.#shown) [this.#readings, this.#speeds] = [[], []];
    choice.value = this.#shown = found.name;
    return found;
  }

  #read({ counters }) {
    const at = performance.now() / 1000;
    let last = this.#readings.at(-1);
    if (!counters) {
      this.#readings = [{ at, counters: null }]; // a model that is loaded later begins from here
      return;
    }
    if (last && !last.counters) {
      const none = Object.fromEntries(Object.keys(counters).map((name) => [name, 0]));
      this.#readings = [(last = { at: last.at, counters: none })];
    } else if (last && counters.bytes_read < last.counters.bytes_read) {
      [this.#readings, last] = [[], null]; // it was loaded again meanwhile
    }
    if (last) this.#speeds.push((counters.decode_tokens - last.counters.decode_tokens) / (at - last.at));
    this.#readings.push({ at, counters });
    if (this.#readings.length > WINDOW + 1) this.#readings.shift();
    if (this.#speeds.length > HISTORY) this.#speeds.shift();
  }

  #memory(memory) {
    const whole = memory ? Math.max(memory.budget ?? memory.process, memory.process, 1) : 1;
    const share = (bytes) => (100 * Math.max(0, bytes)) / whole;
    const [experts, all] = [memory?.experts ?? 0, memory?.process ?? 0];
    byId("memory-experts").style.width = `${share(Math.min(experts, all))}%`;
    byId("memory-rest").style.width = `${share(all - experts)}%`;
    const budget = memory?.budget ? ` of a budget of ${size(memory.budget)}` : "; there is no budget";
    const text = memory
      ? `${size(all)}${budget}; ${size(experts)} of experts, which may take ${size(memory.cache)}`
      : "The model is not in memory.";
    byId("memory").setAttribute("aria-valuenow", Math.round(share(all)));
    byId("memory").setAttribute("aria-valuetext", text);
    say(byId("memory-text"), text);
  }

  #figures(state, { counters, active, waiting, parallel }) {
    const now = counters && grown(this.#readings);
    const used = (c) => c.hits + c.misses;
    const rate = (c) => (c && used(c) ? percent(c.hits / used(c)) : "–");
    const speed = (c) => (c?.decode_seconds ? digits(c.decode_tokens / c.decode_seconds) : "–");
    const bits = (c) => (c?.used_weights ? digits(c.used_bits / c.used_weights) : "–");
    const tokens = counters ? counters.prompt_tokens + counters.decode_tokens : 0;
    figures(byId("figures"), [
      ["Tokens per second", speed(now), `${speed(counters)} since the load`],
      ["Hit rate", rate(now), `${rate(counters)} since the load`],
      ["Read from disk", now ? `${size(now.bytes_read / now.time)}/s` : "–", counters ? `${size(counters.bytes_read)} in all, ${size(tokens && counters.bytes_read / tokens)} a token` : ""],
      ["Bits per weight used", bits(now), `${bits(counters)} since the load`],
      ["Computed together", `${active} of ${parallel}`, `${waiting} wait for a place`],
      ["Requests", `${state.in_progress} of ${state.most}`, `${state.totals.requests ?? 0} have ended, ${state.totals["outcome.busy"] ?? 0} found it full`],
    ]);
  }

  #speed() {
    const top = Math.max(1, ...this.#speeds);
    const start = HISTORY - this.#speeds.length;
    const points = this.#speeds.map((speed, i) => `${2 * (start + i)},${(46 - (44 * speed) / top).toFixed(1)}`);
    byId("speed-line").setAttribute("points", points.join(" "));
    const label = `Tokens per second: ${digits(this.#speeds.at(-1) ?? 0)} now, at most ${digits(Math.max(0, ...this.#speeds))}`;
    byId("speed").setAttribute("aria-label", label);
  }

  #routes({ routed, totals, cost }) {
    byId("routes").hidden = !routed;
    const count = (name) => String(totals[name] ?? 0);
    figures(byId("route-figures"), [
      ["Answered here", count("route.local"), `${count("escalations")} replaced by the cloud`],
      ["By the cloud", count("route.cloud"), `cost ${digits(cost)}`],
    ]);
  }
}

/** What counters have grown by since the oldest reading that is kept, and in which `time`; null without two readings. */
function grown(readings) {
  const [first, last] = [readings[0], readings.at(-1)];
  if (readings.length < 2) return null;
  const found = { time: last.at - first.at };
  for (const name of Object.keys(last.counters)) found[name] = last.counters[name] - first.counters[name];
  return found;
}

function answered({ model, route, outcome, prompt_tokens, completion_tokens, first_token, tokens_per_second }) {
  return [
    route ? `${model} (${route})` : model,
    outcome,
    `${prompt_tokens} + ${completion_tokens}`,
    first_token === null ? "–" : seconds(first_token),
    tokens_per_second === null ? "–" : digits(tokens_per_second),
  ];
}
