// The offline queue: one record for each event and object, in the state that the platform has it in.
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
  const node = el('li', { class: 'row record', 'data-id': r.id });
  node.head = el('p', { class: 'record-head' });
  node.facts = el('p', { class: 'muted' });
  node.data = el('div');
  node.append(node.head, node.facts, el('details', {}, el('summary', {}, 'Data'), node.data));
  return node;
}

function updateRow(node, r) {
  const [tone, word, meaning] = states[r.state];
  node.dataset.state = r.state;
  node.dataset.merged = r.merged > 0 ? 'yes' : 'no';
  node.head.replaceChildren(
    el('span', { class: `badge ${tone}`, title: meaning }, word), el('b', {}, r.event), r.entity ? el('span', { class: 'entity' }, r.entity) : '',
    r.merged > 0 ? el('span', { class: 'badge violet', title: 'later changes of the same object, which left no record of their own' }, `+${r.merged} merged`) : '');
  const facts = [`record ${r.id}`, clockTime(r.time), r.user ? `user ${r.user}` : 'nobody'];
  if (r.connector) facts.push(`connector ${r.connector}`);
  if (r.process_id) facts.push(`process ${r.process_id.slice(0, 8)}…`);
  node.facts.replaceChildren(facts.join(' · '));
  node.data.replaceChildren(r.data !== null && typeof r.data === 'object' ? tree(r.data) : el('p', { class: 'muted' }, String(r.data)));
}
