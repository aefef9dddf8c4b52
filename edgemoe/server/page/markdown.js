// Markdown as elements: no HTML is ever parsed, no image is loaded, and links lead only to the web and to mail.
import { make } from "./nodes.js";

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*?)\s*#*$/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)$/;
const RULE = /^ {0,3}([-*_])(\s*\1){2,}\s*$/;
const QUOTE = /^ {0,3}> ?/;
const DIVIDER = /^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/;
const DEEPEST = 8;

/** Splits a text into blocks: {kind, lines, ...}. Text that still grows only changes its last blocks. */
export function blocks(text) {
  const lines = text.split("\n");
  const found = [];
  for (let at = 0; at < lines.length; ) {
    const [block, next] = blockAt(lines, at);
    if (block) found.push(block);
    at = next;
  }
  return found;
}

function blockAt(lines, at) {
  const line = lines[at];
  if (!line.trim()) return [null, at + 1];
  let match = FENCE.exec(line);
  if (match) {
    let end = at + 1;
    while (end < lines.length && !isClosing(lines[end], match[1])) end++;
    return [{ kind: "code", language: match[2].trim(), lines: lines.slice(at + 1, end) }, end + 1];
  }
  if ((match = HEADING.exec(line))) return [{ kind: "heading", level: match[1].length, lines: [match[2]] }, at + 1];
  if (RULE.test(line)) return [{ kind: "rule", lines: [] }, at + 1];
  if (QUOTE.test(line)) {
    const end = until(lines, at, (other) => !QUOTE.test(other));
    return [{ kind: "quote", lines: lines.slice(at, end).map((other) => other.replace(QUOTE, "")) }, end];
  }
  if (ITEM.test(line)) {
    const end = until(lines, at, (other, i) => !other.trim() && !(ITEM.test(lines[i + 1] ?? "") || /^ {2,}\S/.test(lines[i + 1] ?? "")));
    return [{ kind: "list", lines: lines.slice(at, end) }, end];
  }
  if (line.includes("|") && DIVIDER.test(lines[at + 1] ?? "") && lines[at + 1].includes("-")) {
    const end = until(lines, at, (other) => !other.includes("|"));
    return [{ kind: "table", lines: lines.slice(at, end) }, end];
  }
  const end = until(lines, at + 1, (other) => !other.trim() || [FENCE, HEADING, QUOTE, ITEM].some((one) => one.test(other)));
  return [{ kind: "paragraph", lines: lines.slice(at, end) }, end];
}

function isClosing(line, fence) {
  const marks = line.trim();
  return marks.length >= fence.length && marks === fence[0].repeat(marks.length);
}

function until(lines, at, ends) {
  let end = at;
  while (end < lines.length && !ends(lines[end], end)) end++;
  return Math.max(end, at);
}

/** The element of a block. */
export function element(block, depth = 0) {
  const text = block.lines.join("\n");
  switch (block.kind) {
    case "code":
      return code(text, block.language);
    case "heading":
      return make(`h${Math.min(6, block.level + 2)}`, {}, ...inline(text));
    case "rule":
      return make("hr");
    case "quote":
      return make("blockquote", {}, ...nested(text, depth));
    case "list":
      return list(block.lines, depth);
    case "table":
      return table(block.lines);
    default:
      return make("p", {}, ...inline(text));
  }
}

function nested(text, depth) {
  return depth < DEEPEST ? blocks(text).map((block) => element(block, depth + 1)) : [text];
}

function code(text, language) {
  const pre = make("pre", { tabIndex: 0 }, make("code", {}, text));
  pre.setAttribute("role", "region");
  pre.setAttribute("aria-label", language ? `Code, ${language.slice(0, 40)}` : "Code");
  return pre;
}

function list(lines, depth) {
  const first = ITEM.exec(lines[0]);
  const ordered = /\d/.test(first[2]);
  const found = make(ordered ? "ol" : "ul");
  if (ordered) found.start = parseInt(first[2], 10);
  let item = [];
  const close = () => {
    if (item.length) found.append(make("li", {}, ...tight(nested(item.join("\n"), depth))));
  };
  for (const line of lines) {
    const match = ITEM.exec(line);
    if (match && match[1].length <= first[1].length) {
      close();
      item = [match[3]];
    } else {
      item.push(line.replace(new RegExp(`^\\s{0,${first[1].length + first[2].length + 1}}`), ""));
    }
  }
  close();
  return found;
}

/** A lone paragraph of an item stands without its element. */
function tight(nodes) {
  return nodes[0]?.tagName === "P" ? [...nodes[0].childNodes, ...nodes.slice(1)] : nodes;
}

function table(lines) {
  const cells = (line) => line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());
  const row = (tag, line) => make("tr", {}, ...cells(line).map((cell) => make(tag, {}, ...inline(cell))));
  const found = make("table", {}, make("thead", {}, row("th", lines[0])), make("tbody", {}, ...lines.slice(2).map((line) => row("td", line))));
  const wide = make("div", { className: "wide", tabIndex: 0 }, found);
  wide.setAttribute("role", "region");
  wide.setAttribute("aria-label", "Table");
  return wide;
}

const INLINE = [
  [/^(`+)([^`]|[^`][\s\S]*?[^`])\1(?!`)/, (match) => make("code", {}, match[2])],
  [/^\*\*(?=\S)([\s\S]*?\S)\*\*/, (match, depth) => make("strong", {}, ...inline(match[1], depth))],
  [/^__(?=\S)([\s\S]*?\S)__(?!\w)/, (match, depth) => make("strong", {}, ...inline(match[1], depth))],
  [/^~~(?=\S)([\s\S]*?\S)~~/, (match, depth) => make("s", {}, ...inline(match[1], depth))],
  [/^\*(?=[^\s*])([^*]*[^\s*])\*/, (match, depth) => make("em", {}, ...inline(match[1], depth))],
  [/^_(?=[^\s_])([^_]*[^\s_])_(?!\w)/, (match, depth) => make("em", {}, ...inline(match[1], depth))],
  [/^!?\[([^\]]*)\]\((\S+?)(?:\s+"[^"]*")?\)/, (match, depth) => link(match[2], inline(match[1] || match[2], depth))],
  [/^<(https?:\/\/[^\s<>]+)>/, (match) => link(match[1], [match[1]])],
  [/^\\([!-/:-@[-`{-~])/, (match) => match[1]],
];
const SPECIAL = /[`*_~![<\\]/g;

/** Nodes of a line's text. */
export function inline(text, depth = 0) {
  const found = [];
  let plain = 0;
  SPECIAL.lastIndex = 0;
  for (let at = next(text, 0); at >= 0 && depth < DEEPEST; at = next(text, at)) {
    const word = at > 0 && text[at] === "_" && /\w/.test(text[at - 1]); // snake_case is no emphasis
    const rest = text.slice(at, at + 4000);
    const made = word ? null : INLINE.map(([pattern, build]) => [pattern.exec(rest), build]).find(([match]) => match);
    if (!made) {
      at += 1;
      continue;
    }
    if (at > plain) found.push(text.slice(plain, at));
    found.push(made[1](made[0], depth + 1));
    at += made[0][0].length;
    plain = at;
  }
  if (plain < text.length) found.push(text.slice(plain));
  return found;
}

function next(text, at) {
  SPECIAL.lastIndex = at;
  return SPECIAL.exec(text)?.index ?? -1;
}

function link(address, children) {
  let url;
  try {
    url = new URL(address);
  } catch {
    return make("span", {}, ...children);
  }
  if (!["http:", "https:", "mailto:"].includes(url.protocol)) return make("span", {}, ...children);
  return make("a", { href: url.href, target: "_blank", rel: "noopener noreferrer nofollow" }, ...children);
}

/** Shows a text that may have grown since the last time: blocks that have not changed keep their elements. */
export function render(target, text) {
  const wanted = blocks(text);
  const known = target.drawn ?? [];
  const sources = wanted.map((block) => JSON.stringify(block));
  let same = 0;
  while (same < sources.length && sources[same] === known[same]) same++;
  while (target.children.length > same) target.lastChild.remove();
  for (const block of wanted.slice(same)) target.append(element(block));
  target.drawn = sources;
}
