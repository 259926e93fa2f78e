// The offline queue: one record for each event and object, with its state.
import { byId, el, keyed, show, clockTime, plural, tree } from './dom.js';

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

// showPolled shows the events that wait to be polled, a log for each bot in fetch mode and each subscribed user.
export function showPolled({ polled }) {
  byId('polled').hidden = polled.length === 0;
  keyed(byId('polled-list'), polled, (p) => `${p.bot ?? ''}/${p.user ?? ''}`, (p) => {
    const node = el('li', { class: 'row', 'data-bot': p.bot, 'data-user': p.user });
    node.head = el('summary');
    node.body = el('div', { class: 'record-body' });
    node.append(el('details', { class: 'record' }, node.head, node.body));
    return node;
  }, (node, p) => {
    node.dataset.waiting = String(p.waiting);
    node.dataset.next = String(p.next_offset);
    node.head.replaceChildren(
      el('span', { class: 'record-head' }, el('span', { class: `badge ${p.waiting ? 'violet' : 'faint'}` }, plural(p.waiting, 'event')), el('b', {}, p.bot ? `bot ${p.bot} ` : `user ${p.user} `), p.name),
      el('span', { class: 'record-facts' }, p.waiting ? `offset ${p.next_offset} acknowledges all` : 'nothing waits'));
    node.body.replaceChildren(...(p.app ? [el('p', { class: 'hint' }, `Application ${p.app}.`)] : []),
      ...p.latest.map((e) => el('details', { class: 'record', 'data-event': e.id },
        el('summary', {}, el('b', {}, e.event), ` ${e.id} `, el('span', { class: 'record-facts' }, clockTime(e.time))),
        e.data !== null && typeof e.data === 'object' ? tree(e.data) : el('p', { class: 'hint' }, `Data: ${e.data}`))),
      p.waiting > p.latest.length ? el('p', { class: 'hint' }, `The latest ${p.latest.length} of ${p.waiting.toLocaleString()} are shown.`) : '');
  });
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
