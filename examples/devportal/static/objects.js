// The objects of the portal with their fields, so that one sees what an application wrote.
import { byId, el, keyed, show, leaf, tree } from './dom.js';
import { get } from './api.js';

let choose = () => {};

// onKind sets what happens when the user chooses a kind.
export function onKind(f) { choose = f; }

export function showObjects(state) {
  const { kinds, kind, shown } = state.objects;
  const all = kinds.reduce((n, k) => n + k.count, 0);
  show(byId('tab-objects-count'), all ? all.toLocaleString() : '');
  byId('object-empty').hidden = all > 0;
  byId('kind-list').hidden = all === 0;
  keyed(byId('kind-list'), kinds, (k) => k.kind, (k) => el('button', { type: 'button', class: 'small', click: () => choose(k.kind) }), (node, k) => {
    node.textContent = `${k.name} ${k.count.toLocaleString()}`;
  });
  for (const [i, button] of [...byId('kind-list').children].entries()) button.setAttribute('aria-pressed', String(kinds[i].kind === kind));
  const count = kinds.find((k) => k.kind === kind)?.count ?? 0;
  show(byId('object-more'), count > shown.length ? `The latest ${shown.length} of ${count.toLocaleString()} are shown.` : '');
  keyed(byId('object-list'), shown.map((o) => ({ ...o, kind })), (o) => `${kind} ${o.id}`, makeRow, updateRow);
}

function makeRow(o) {
  const id = `object-${o.kind.replaceAll('.', '-')}-${o.id}`;
  const summary = el('button', { type: 'button', class: 'summary object', 'aria-expanded': 'false', 'aria-controls': id });
  const body = el('div', { class: 'body', id, hidden: true });
  const node = el('li', { class: 'row', 'data-object': `${o.kind} ${o.id}` }, summary, body);
  Object.assign(node, { summary, body, path: `/api/objects/${o.kind}/${o.id}`, fields: null });
  summary.addEventListener('click', () => {
    body.hidden = !body.hidden;
    summary.setAttribute('aria-expanded', String(!body.hidden));
    if (!body.hidden) load(node);
  });
  return node;
}

function updateRow(node, o) {
  node.summary.replaceChildren(
    el('span', { class: 'id' }, String(o.id)),
    el('span', { class: 'what' }, el('b', {}, o.title || '(no title)'), el('span', { class: 'address' }, o.by && o.by !== '0' ? `changed by user ${o.by}` : 'changed by nobody')),
    el('time', {}, o.changed.replace('T', ' ').replace(/[+-]\d\d:\d\d$/, '')));
  if (!node.body.hidden) load(node);
}

// load shows the fields. Those that changed while they were on the screen are marked.
async function load(node) {
  try {
    const { fields, order } = await get(node.path);
    const before = node.fields;
    node.fields = fields;
    node.body.replaceChildren(el('dl', { class: 'facts-list fields-list' }, order.flatMap((name) => {
      const fresh = before !== null && JSON.stringify(before[name]) !== JSON.stringify(fields[name]);
      return [el('dt', { class: fresh ? 'fresh' : null }, name), el('dd', { class: fresh ? 'fresh' : null }, value(fields[name]), fresh ? el('span', { class: 'badge violet' }, 'changed') : '')];
    })));
  } catch (error) {
    node.body.replaceChildren(el('p', { class: 'problem' }, error.message));
  }
}

const value = (v) => (v !== null && typeof v === 'object' && Object.keys(v).length ? tree(v) : leaf(v));
