"""JavaScript that looks for what people cannot read, reach or hear on a page, after the rules of WCAG 2.2 AA."""

from __future__ import annotations

AUDIT = r"""
const wrong = [];
const shown = (e) => e.checkVisibility({checkVisibilityCSS: true, checkOpacity: true});
const what = (e) => `<${e.tagName.toLowerCase()} id="${e.id}" class="${e.className}"> ${e.textContent.slice(0, 30)}`;
const all = (selector) => [...document.querySelectorAll(selector)].filter(shown);

// 4.1.2 and 1.1.1: everything that is used or drawn has a name.
const named = (e) => (e.getAttribute('aria-label') || '').trim()
  || (e.getAttribute('aria-labelledby') || '').split(' ').some((id) => document.getElementById(id)?.textContent.trim())
  || [...(e.labels || [])].some((label) => label.textContent.trim());
for (const e of all('input, select, textarea')) if (!named(e)) wrong.push(`no label: ${what(e)}`);
for (const e of all('button, a, summary')) if (!named(e) && !e.textContent.trim()) wrong.push(`no name: ${what(e)}`);
for (const e of all('canvas, svg, [role=img], [role=meter], [role=log], [role=region], nav, dialog'))
  if (!named(e) && !e.closest('[aria-hidden=true]')) wrong.push(`no name: ${what(e)}`);

// Ids that references mean are there, once.
const ids = [...document.querySelectorAll('[id]')].map((e) => e.id);
for (const id of new Set(ids.filter((id, i) => ids.indexOf(id) !== i))) wrong.push(`twice: #${id}`);
for (const name of ['for', 'aria-labelledby', 'aria-describedby', 'aria-controls'])
  for (const e of document.querySelectorAll(`[${name}]`))
    for (const id of e.getAttribute(name).split(' ')) if (!ids.includes(id)) wrong.push(`${name} nowhere: ${id}`);

// 3.1.1, 2.4.2, 1.3.1: language, title, landmarks, one h1, no level left out.
if (!document.documentElement.lang) wrong.push('no language');
if (!document.title) wrong.push('no title');
if (all('main').length !== 1) wrong.push('not one main');
if (all('h1').length !== 1) wrong.push('not one h1');
let level = 1;
for (const e of all('h1, h2, h3, h4, h5, h6')) {
  const own = Number(e.tagName[1]);
  if (own > level + 1) wrong.push(`a level left out: ${what(e)}`);
  level = own;
}
for (const e of all('[tabindex]')) if (e.tabIndex > 0) wrong.push(`an order of its own: ${what(e)}`);
for (const e of all('[aria-hidden=true]')) if (e.querySelector('a, button, input')) wrong.push(`hidden: ${what(e)}`);

// 2.1.1: what scrolls can be scrolled with the keyboard.
for (const e of all('*')) {
  const scrolls = ['auto', 'scroll'].includes(getComputedStyle(e).overflowY) && e.scrollHeight > e.clientHeight + 1
    || ['auto', 'scroll'].includes(getComputedStyle(e).overflowX) && e.scrollWidth > e.clientWidth + 1;
  if (scrolls && e.tabIndex < 0 && !e.querySelector('a, button, input, summary, [tabindex]'))
    wrong.push(`cannot be scrolled: ${what(e)}`);
}

// 2.5.8: targets of at least 24 pixels, links within text and skip links left out.
for (const e of all('button, select, input:not([type=checkbox])')) {
  const box = e.getBoundingClientRect();
  if (Math.min(box.width, box.height) < 24) wrong.push(`small: ${what(e)}`);
}

// 1.4.3 and 1.4.11: contrast of text with what is behind it, and of the edges of what is used.
const parsed = (text) => { const [r, g, b, a = 1] = text.match(/[\d.]+/g).map(Number); return [r, g, b, a]; };
const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
const light = ([r, g, b]) => [r, g, b].map((v) => linear(v / 255))
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const ratio = (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);
const behind = (e) => {
  for (; e; e = e.parentElement) {
    const colour = parsed(getComputedStyle(e).backgroundColor);
    if (colour[3] === 1) return colour;
  }
  return [255, 255, 255, 1];
};
const disabled = (e) => e.closest('button:disabled');
for (const e of all('body *')) {
  const own = [...e.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  if (!own || disabled(e) || e.closest('option')) continue;
  const style = getComputedStyle(e);
  const large = parseFloat(style.fontSize) >= 24 || parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700;
  const found = ratio(parsed(style.color), behind(e));
  if (found < (large ? 3 : 4.5)) wrong.push(`contrast ${found.toFixed(2)}: ${what(e)}`);
}
for (const e of all('button:not(:disabled), select, input, textarea, .bar')) {
  const style = getComputedStyle(e);
  const found = Math.max(ratio(parsed(style.borderTopColor), behind(e.parentElement)),
    ratio(parsed(style.backgroundColor), behind(e.parentElement)));
  if (found < 3) wrong.push(`edge ${found.toFixed(2)}: ${what(e)}`);
}
for (const e of all('textarea, input')) {
  const found = ratio(parsed(getComputedStyle(e, '::placeholder').color), behind(e));
  if (found < 4.5) wrong.push(`placeholder ${found.toFixed(2)}: ${what(e)}`);
}
return wrong;
"""
