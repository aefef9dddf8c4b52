// Elements without HTML: whatever a text says, it stays text.

/** An element with properties and children (nodes or texts). */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

export const byId = (id) => document.getElementById(id);

/** Sets a text only if it has changed, so that screen readers and layout are left alone. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A definition list of [name, value, note]. */
export function figures(list, rows) {
  while (list.children.length > rows.length) list.lastElementChild.remove();
  while (list.children.length < rows.length) {
    list.append(make("div", {}, make("dt"), make("dd"), make("dd", { className: "note" })));
  }
  rows.forEach((texts, row) => texts.forEach((text, column) => say(list.children[row].children[column], text)));
}

/** The body of a table: one array of texts for each row; the first cell is the row's head. */
export function rows(body, table) {
  while (body.rows.length > table.length) body.deleteRow(-1);
  table.forEach((texts, number) => {
    const row = body.rows[number] ?? body.insertRow();
    texts.forEach((text, column) => {
      let cell = row.cells[column];
      if (!cell) {
        cell = make(column ? "td" : "th");
        if (!column) cell.scope = "row";
        row.append(cell);
      }
      say(cell, text);
    });
  });
}

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

/** Bytes with three significant digits: 1536 is "1.50 KiB". */
export function size(bytes) {
  let unit = 0;
  while (bytes >= 1000 && unit < UNITS.length - 1) [bytes, unit] = [bytes / 1024, unit + 1];
  return `${unit ? digits(bytes) : Math.round(bytes)} ${UNITS[unit]}`;
}

/** A number with three significant digits, and no exponent. */
export function digits(value) {
  const whole = Math.abs(value) < 1 ? 2 : Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))));
  return value.toFixed(whole);
}

export const seconds = (value) => (value < 1 ? `${Math.round(value * 1000)} ms` : `${digits(value)} s`);
export const percent = (share) => `${(100 * share).toFixed(share > 0.995 || share < 0.1 ? 1 : 0)} %`;
