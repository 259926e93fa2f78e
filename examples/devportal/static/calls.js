// The list of REST and OAuth calls: method, outcome, parameters and answer.
import { byId, el, keyed, show, clockTime, tree, leaf } from './dom.js';
import { get, post, doing } from './api.js';

export function showCalls(state) {
  const { shown, matching, total, refused } = state.calls;
  show(byId('tab-refused'), refused ? String(refused) : '');
  byId('call-counts').replaceChildren(total === 0 ? '' : `${total.toLocaleString()} in all · `,
    total === 0 ? '' : el('span', { class: refused ? 'bad' : '' }, `${refused.toLocaleString()} refused`),
    matching > shown.length ? ` · the latest ${shown.length} are shown` : '');
  show(byId('call-empty'), shown.length ? '' : total ? 'No call matches.' : 'No application has called yet.');
  keyed(byId('call-list'), shown, (c) => String(c.id), makeRow, updateRow);
}

function makeRow(c) {
  const id = `call-${c.id}`;
  const summary = el('button', { type: 'button', class: 'summary', 'aria-expanded': 'false', 'aria-controls': id });
  const body = el('div', { class: 'body', id, hidden: true });
  const node = el('li', { class: 'row', 'data-call': c.id }, summary, body);
  node.summary = summary;
  summary.addEventListener('click', () => toggle(c.id, summary, body));
  return node;
}

function updateRow(node, c) {
  node.dataset.state = c.error ? 'failed' : 'acknowledged';
  const who = c.app || (c.user ? 'an incoming webhook' : 'unknown caller');
  node.summary.replaceChildren(
    el('span', { class: `badge ${c.error ? 'red' : 'green'}` }, c.error ? `refused ${c.status}` : String(c.status)),
    el('span', { class: 'what' }, el('b', {}, c.method), c.error ? el('span', { class: 'bad' }, c.error) : '',
      c.batch ? el('span', { class: 'badge' }, 'in a batch') : '', el('span', { class: 'address' }, who, c.user ? ` · user ${c.user}` : '')),
    el('span', { class: 'latency' }),
    el('time', { datetime: c.time }, clockTime(c.time)));
}

async function toggle(id, summary, body) {
  const open = body.hidden;
  body.hidden = !open;
  summary.setAttribute('aria-expanded', String(open));
  if (!open || body.dataset.loaded) return;
  body.dataset.loaded = 'yes';
  try {
    fill(id, body, await get(`/api/calls/${id}`), false);
  } catch (error) {
    delete body.dataset.loaded;
    body.replaceChildren(el('p', { class: 'problem' }, error.message));
  }
}

const content = (value) => (value !== null && typeof value === 'object'
  ? (Object.keys(value).length ? tree(value) : el('p', { class: 'hint' }, 'none'))
  : el('p', { class: 'tree' }, leaf(value)));

function fill(id, body, c, revealed) {
  const reveal = el('button', { type: 'button', class: 'small', 'aria-pressed': String(revealed), click: (event) => doing(event.currentTarget, async () => {
    const next = revealed ? await get(`/api/calls/${id}`) : await post(`/api/calls/${id}/raw`);
    fill(id, body, next, !revealed);
    body.querySelector('[aria-pressed]').focus();
  }) }, revealed ? 'Hide secrets' : 'Reveal secrets');
  let answer = content(c.answer);
  if (c.answer_bytes === 0) answer = el('p', { class: 'hint' }, 'A planned fault broke or replaced it.');
  else if (c.answer === null && c.answer_bytes > 4) answer = el('p', { class: 'hint' }, `${c.answer_bytes.toLocaleString()} bytes, too long to keep.`);
  body.replaceChildren(
    el('h3', {}, 'Parameters'), content(c.params),
    el('h3', {}, c.error ? `Error, status ${c.status}` : 'Result'), answer,
    el('p', { class: 'buttons' }, reveal));
}
