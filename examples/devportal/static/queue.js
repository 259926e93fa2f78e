// The offline queue: one record for each event and object, with its state.
import { byId, el, keyed, show, clockTime, tree } from './dom.js';

const states = {
  waiting: ['', 'waiting', 'the next event.offline.get takes it'],
  reserved: ['blue', 'reserved', 'a process holds it until event.offline.clear'],
  errored: ['red', 'errored', 'parked by event.offline.error; only error=1 reads it, and newer changes merge into it unseen'],
  reread: ['red', 'errored, reserved', 'parked, and read again with error=1'],
};

export function showQueue(state) {
  const q = state.queue;
  show(byId('nav-queue'), q.total ? String(q.total) : '');
  byId('queue-counts').replaceChildren(...[['', 'waiting', q.waiting], ['blue', 'reserved', q.reserved], ['red', 'errored', q.errored], ['violet', 'merged', q.merged]]
    .map(([tone, word, n]) => el('span', { class: `badge ${n ? tone : 'faint'}` }, `${n.toLocaleString()} ${word}`)));
  byId('queue-empty').hidden = q.total > 0;
  show(byId('queue-more'), q.total > q.rows.length ? `The first ${q.rows.length} of ${q.total.toLocaleString()} are shown.` : '');
  keyed(byId('queue-list'), q.rows, (r) => String(r.id), makeRow, updateRow);
}

function makeRow(r) {
  const node = el('li', { class: 'row', 'data-id': r.id });
  node.head = el('summary');
  node.body = el('div', { class: 'record-body' });
  node.append(el('details', { class: 'record' }, node.head, node.body));
  return node;
}

function updateRow(node, r) {
  const [tone, word, meaning] = states[r.state];
  node.dataset.state = r.state;
  node.dataset.merged = r.merged > 0 ? 'yes' : 'no';
  const who = r.user ? `user ${r.user}` : 'nobody';
  node.head.replaceChildren(
    el('span', { class: 'record-head' }, el('span', { class: `badge ${tone}` }, word), el('b', {}, r.event)),
    el('span', { class: 'record-facts' }, r.entity ? el('span', { class: 'entity' }, `${r.entity} · `) : '', `${clockTime(r.time)} · ${who} `,
      r.merged > 0 ? el('span', { class: 'badge violet' }, `+${r.merged} merged`) : ''));
  const lines = [`Record ${r.id}, ${meaning}.`];
  if (r.merged > 0) lines.push(`It stands for ${r.merged + 1} changes; the platform keeps the latest.`);
  if (r.process_id) lines.push(`Held by process ${r.process_id}.`);
  if (r.connector) lines.push(`Connector ${r.connector}.`);
  lines.push(`Application ${r.app}.`);
  node.body.replaceChildren(el('p', { class: 'hint' }, lines.join(' ')),
    r.data !== null && typeof r.data === 'object' ? tree(r.data) : el('p', { class: 'hint' }, `Data: ${r.data}`));
}
