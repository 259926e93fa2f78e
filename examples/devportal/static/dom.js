// Helpers for elements of the page. Text from the portal always becomes text nodes.

// el creates an element. Attributes that are functions become listeners; null and false are left out.
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === 'function') node.addEventListener(name, value);
    else if (value === true) node.setAttribute(name, '');
    else node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((c) => c !== null && c !== undefined && c !== false).map((c) => (typeof c === 'string' ? visible(c) : c)));
  return node;
}

export const byId = (id) => document.getElementById(id);

// show sets the text of an element and hides it if there is none.
export function show(node, text) {
  if (node.textContent !== text) node.textContent = text;
  node.hidden = text === '';
}

// keyed makes parent's children match items. It keeps the nodes of items that stay, with their focus and open details.
// make(item) returns a node, update(node, item) fills it; it runs only if the item changed.
export function keyed(parent, items, keyOf, make, update) {
  const known = parent.known ?? (parent.known = new Map());
  const wanted = new Set(items.map(keyOf));
  for (const [key, entry] of known) {
    if (!wanted.has(key)) {
      entry.node.remove();
      known.delete(key);
    }
  }
  let cursor = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    let entry = known.get(key);
    if (!entry) {
      entry = { node: make(item), was: null };
      known.set(key, entry);
    }
    if (entry.node === cursor) cursor = cursor.nextElementSibling;
    else parent.insertBefore(entry.node, cursor);
    const is = JSON.stringify(item);
    if (entry.was !== is) {
      update(entry.node, item);
      entry.was = is;
    }
  }
}

// options fills a select, and keeps its choice if that is still there.
export function options(select, wanted) {
  const key = JSON.stringify(wanted);
  if (select.dataset.key === key) return;
  const was = select.value;
  select.dataset.key = key;
  select.replaceChildren(...wanted.map(([value, text]) => el('option', { value }, text)));
  if (wanted.some(([value]) => value === was)) select.value = was;
}

export const clockTime = (iso) => new Date(iso).toLocaleTimeString([], { hour12: false });

export const plural = (n, noun) => `${n.toLocaleString()} ${noun}${n === 1 ? '' : 's'}`;

// tree shows JSON as nested lists that fold, with at most 2000 values.
export function tree(value) {
  const budget = { left: 2000 };
  return el('ul', { class: 'tree' }, branch(value, budget, 0));
}

function branch(value, budget, depth) {
  const entries = Array.isArray(value) ? value.map((v, i) => [i, v]) : Object.entries(value);
  const items = [];
  for (const [key, v] of entries) {
    if (budget.left-- <= 0) {
      items.push(el('li', { class: 'hint' }, '… more than can be shown'));
      break;
    }
    const name = el('span', { class: 'key' }, String(key));
    if (v !== null && typeof v === 'object') {
      const size = Object.keys(v).length;
      items.push(size === 0
        ? el('li', {}, name, ' ', el('span', { class: 'nil' }, Array.isArray(v) ? '[]' : '{}'))
        : el('li', {}, el('details', { open: depth < 4 }, el('summary', {}, name, ' ', el('span', { class: 'nil' }, Array.isArray(v) ? `[${size}]` : `{${size}}`)),
          el('ul', {}, branch(v, budget, depth + 1)))));
    } else {
      items.push(el('li', {}, name, ' ', leaf(v)));
    }
  }
  return items;
}

// visible escapes control characters, and those that turn the direction of text.
export const visible = (text) => text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g,
  (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);

export function leaf(v) {
  if (v === '[redacted]') return el('span', { class: 'redacted' }, 'redacted');
  if (typeof v === 'string') return el('span', { class: 'text' }, JSON.stringify(v));
  return el('span', { class: v === null ? 'nil' : 'number' }, String(v));
}
