// A heat map: rows are layers, columns experts; the more bits an expert has in memory, the fuller its colour.
import { byId, rows, say } from "./nodes.js";

export class HeatMap {
  #model = null;
  #drawn = "";

  constructor() {
    this.canvas = byId("heat");
    const again = () => this.#paint(true);
    new ResizeObserver(again).observe(this.canvas.parentElement);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
    byId("heat-details").addEventListener("toggle", () => this.#table());
    this.canvas.addEventListener("pointermove", (event) => this.#point(event));
    this.canvas.addEventListener("pointerleave", () => say(byId("heat-text"), this.#summary()));
  }

  /** Draws the experts of `model`, as /engine tells them; one that is not in memory has none. */
  show(model) {
    this.#model = model?.layers.length ? model : null;
    say(byId("heat-top"), this.#model ? this.#top().toFixed(2) : "");
    this.#paint(false);
  }

  #top() {
    return this.#model.full_bits || Math.max(0.01, ...this.#model.layers.flatMap((layer) => layer.bits));
  }

  #paint(forced) {
    const layers = this.#model?.layers ?? [];
    const key = JSON.stringify(layers);
    if (key === this.#drawn && !forced) return;
    this.#drawn = key;
    const [columns, scale] = [Math.max(1, ...layers.map((layer) => layer.bits.length)), devicePixelRatio || 1];
    const height = layers.length ? Math.max(layers.length * (layers.length > 24 ? 5 : 14), 60) : 0;
    this.canvas.style.height = `${height}px`;
    const [wide, high] = [this.canvas.clientWidth * scale, height * scale].map(Math.round);
    [this.canvas.width, this.canvas.height] = [wide, high];
    const ink = this.canvas.getContext("2d");
    ink.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--cell");
    const top = layers.length ? this.#top() : 1;
    const gap = wide / columns > 6 * scale && high / layers.length > 6 * scale ? scale : 0;
    layers.forEach((layer, row) => {
      const [above, below] = [row, row + 1].map((edge) => Math.round((edge * high) / layers.length));
      layer.bits.forEach((bits, column) => {
        const [left, right] = [column, column + 1].map((edge) => Math.round((edge * wide) / columns));
        ink.globalAlpha = Math.min(1, bits / top);
        if (bits) ink.fillRect(left, above, right - left - gap, below - above - gap);
      });
    });
    this.canvas.setAttribute("aria-label", this.#summary());
    say(byId("heat-text"), this.#summary());
    this.#table();
  }

  #summary() {
    if (!this.#model) return "No model is in memory: the next question loads one.";
    const all = this.#model.layers.flatMap((layer) => layer.bits);
    const present = all.filter((bits) => bits > 0).length;
    return `${present} of ${all.length} experts in ${this.#model.layers.length} layers are in memory; the mean is ${mean(all).toFixed(2)} bits per weight.`;
  }

  #table() {
    if (!byId("heat-details").open) return;
    const layers = this.#model?.layers ?? [];
    const count = (bits) => bits.filter((one) => one > 0).length;
    rows(byId("heat-rows"), layers.map(({ name, bits }) => [name, `${count(bits)} of ${bits.length}`, mean(bits).toFixed(2)]));
  }

  #point(event) {
    const layers = this.#model?.layers;
    if (!layers) return;
    const columns = Math.max(...layers.map((layer) => layer.bits.length));
    const row = Math.floor((event.offsetY * layers.length) / this.canvas.clientHeight);
    const column = Math.floor((event.offsetX * columns) / this.canvas.clientWidth);
    const bits = layers[row]?.bits[column];
    if (bits !== undefined) say(byId("heat-text"), `${layers[row].name}, expert ${column}: ${bits.toFixed(2)} bits per weight`);
  }
}

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / (values.length || 1);
