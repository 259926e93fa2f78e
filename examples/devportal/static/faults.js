// Faults: what goes wrong with the next calls of a method.
import { byId, el, keyed } from './dom.js';
import { post, say, sentence, doing, submitting } from './api.js';

const form = byId('fault-form');

const kinds = [
  ['503 QUERY_LIMIT_EXCEEDED', { fault: 'error' }],
  ['429 OPERATION_TIME_LIMIT', { fault: 'error', code: 'OPERATION_TIME_LIMIT' }],
  ['500 INTERNAL_SERVER_ERROR', { fault: 'error', code: 'INTERNAL_SERVER_ERROR' }],
  ['403 ACCESS_DENIED', { fault: 'error', code: 'ACCESS_DENIED' }],
  ['an expired token', { fault: 'expired_token' }],
  ['a revoked token', { fault: 'revoked_token' }],
  ['a refused refresh (oauth/token)', { fault: 'refused_refresh' }],
  ['a closed connection', { fault: 'reset' }],
  ['a lost answer, after it ran', { fault: 'lost_answer' }],
  ['half an answer, after it ran', { fault: 'cut_answer' }],
  ['502 and a page of HTML', { fault: 'html' }],
  ['a PHP notice before the answer', { fault: 'notice' }],
  ['a byte order mark', { fault: 'bom' }],
  ['an answer that was not encoded', { fault: 'wrong_encoding' }],
  ['5 seconds of delay', { fault: 'delay', seconds: 5 }],
  ['30 seconds of delay', { fault: 'delay', seconds: 30 }],
];
form.elements.fault.append(...kinds.map(([text], i) => el('option', { value: String(i) }, text)));

export function showFaults({ faults }) {
  byId('fault-empty').hidden = faults.length > 0;
  keyed(byId('fault-list'), faults, (f) => f.method, () => el('li', {}), (node, f) => {
    const parts = [];
    if (f.once) parts.push(f.once === 1 ? 'the next call' : `the next ${f.once} calls`);
    if (f.always) parts.push(f.once ? 'then all' : 'all calls');
    node.replaceChildren(el('span', {}, el('code', {}, f.method === '*' ? 'any method' : f.method), ` ${parts.join(', ')}`),
      el('button', { type: 'button', class: 'small', 'aria-label': `Heal ${f.method}`, click: (event) => doing(event.currentTarget, async () => {
        await post('/api/faults/heal', { method: f.method });
        say('Healed.');
      }) }, 'Heal'));
  });
}

submitting(form, async () => {
  const f = form.elements;
  const { text } = await post('/api/faults', { method: f.method.value.trim(), times: Number(f.times.value), ...kinds[Number(f.fault.value)][1] });
  say(sentence(text));
});
