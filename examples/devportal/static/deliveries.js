// The list of deliveries: event, handler, response and content.
import { byId, el, keyed, show, plural, clockTime, tree } from './dom.js';
import { get, post, say, sentence, doing, copy } from './api.js';

const lost = 'Bitrix24 makes one attempt and will not try again.';
let latest = null; // the newest delivery seen

export function showDeliveries(state, look) {
  const { shown, matching, acknowledged, failed, open } = state.deliveries;
  show(byId('tab-failed'), failed ? String(failed) : '');
  const all = byId('resend-failed');
  all.textContent = `Resend ${open === 1 ? 'the failed one' : `all ${open.toLocaleString()} failed`}`;
  all.hidden = open === 0;
  show(byId('nav-failed'), failed ? String(failed) : '');
  byId('delivery-counts').replaceChildren(
    el('span', { class: 'good' }, `${acknowledged.toLocaleString()} acknowledged`), ' · ', el('span', { class: failed ? 'bad' : '' }, `${failed.toLocaleString()} failed`));
  keyed(byId('lane-list'), state.lanes.filter((l) => l.waiting > 0 || l.gap_s > 0), (l) => l.url, () => el('li', { class: 'notice' }), (node, l) => {
    const parts = [];
    if (l.waiting > 0) parts.push(`${plural(l.waiting, 'delivery').replace('deliverys', 'deliveries')} waiting`);
    if (l.gap_s > 0) parts.push(`slow handler: called every ${Math.round(l.gap_s)} s at most`);
    node.replaceChildren(parts.join(' · '), ' ', el('span', { class: 'address' }, l.url));
  });
  keyed(byId('delivery-list'), shown, (d) => String(d.id), makeRow, updateRow);
  byId('delivery-more').hidden = matching <= shown.length || look.limit >= 500;
  showSelected();
  showEmpty(state, look, acknowledged + failed);
  announce(shown);
}

// announce reports failures to screen readers; others see them in red.
function announce(shown) {
  const newest = shown.length ? shown[0].id : 0;
  if (latest !== null) {
    const failed = shown.filter((d) => d.id > latest && !d.acknowledged);
    if (failed.length === 1) byId('announced').textContent = `${failed[0].event} failed: ${reason(failed[0])}. ${lost}`;
    if (failed.length > 1) byId('announced').textContent = `${failed.length} deliveries failed. ${lost}`;
  }
  latest = Math.max(latest ?? 0, newest);
}

function showEmpty(state, look, all) {
  const box = byId('delivery-empty');
  box.hidden = state.deliveries.shown.length > 0;
  if (box.hidden) return;
  let why = 'nothing';
  if (all > 0) why = 'filtered';
  else if (state.apps.length === 0 && state.webhooks.length === 0) why = 'no-apps';
  else if (state.webhooks.length === 0 && state.apps.every((a) => a.bindings.every((b) => b.offline))) why = 'no-bindings';
  if (box.dataset.why === why) return;
  box.dataset.why = why;
  const texts = {
    filtered: [el('p', {}, 'No delivery matches.')],
    'no-apps': [
      el('p', {}, el('b', {}, 'No events yet.')),
      el('ol', { class: 'steps' },
        el('li', {}, 'Start your handler with the credentials of the form (', el('i', {}, 'Copy settings'), ').'),
        el('li', {}, el('a', { href: '#install-box' }, 'Install the application'), ': the portal sends it ONAPPINSTALL.'),
        el('li', {}, el('a', { href: '#cause' }, 'Add a deal'), ' and watch it arrive here.'))],
    'no-bindings': [el('p', {}, el('b', {}, 'No application has bound an online event.')), el('p', {}, 'Call ', el('code', {}, 'event.bind'), ' when you are installed; the tab REST calls shows how it was answered.')],
    nothing: [el('p', {}, el('b', {}, 'Nothing was delivered yet.')), el('p', {}, el('a', { href: '#cause' }, 'Cause an event'), ' that a handler has bound.')],
  };
  box.replaceChildren(...texts[why]);
}

const reason = (d) => (d.error ? `no answer: ${d.error}` : `answered ${d.status}`);

function makeRow(d) {
  const id = `delivery-${d.id}`;
  const parts = {
    summary: el('button', { type: 'button', class: 'summary', 'aria-expanded': 'false', 'aria-controls': id }),
    verdict: el('div', { class: 'verdict', hidden: true }),
    body: el('div', { class: 'body', id, hidden: true }),
  };
  const pick = el('input', { type: 'checkbox', class: 'pick', 'aria-label': `Select delivery ${d.id}`, change: showSelected });
  const node = el('li', { class: 'row picked', 'data-id': d.id }, pick, parts.summary, parts.verdict, parts.body);
  node.parts = parts;
  parts.summary.addEventListener('click', () => toggle(node));
  return node;
}

function updateRow(node, d) {
  const { summary, verdict } = node.parts;
  node.dataset.state = d.acknowledged ? 'acknowledged' : 'failed';
  node.delivery = d;
  const outcome = d.acknowledged ? (d.status === 200 ? 'acknowledged' : `acknowl. ${d.status}`) : d.status ? `failed ${d.status}` : 'failed';
  summary.replaceChildren(
    el('span', { class: `badge ${d.acknowledged ? 'green' : 'red'}`, title: d.status ? `status ${d.status}` : null }, outcome),
    el('span', { class: 'what' }, el('b', {}, d.event), d.entity ? el('span', { class: 'entity' }, d.entity) : '',
      d.resend_of ? el('span', { class: 'badge' }, `resend of ${d.resend_of}`) : '', el('span', { class: 'address' }, d.url)),
    el('span', { class: 'latency' }, `${d.latency_ms < 10 ? d.latency_ms.toFixed(1) : Math.round(d.latency_ms)} ms`),
    el('time', { datetime: d.time }, clockTime(d.time)));
  verdict.hidden = d.acknowledged;
  if (d.acknowledged) return;
  const text = el('p', {}, el('b', {}, sentence(reason(d))), ` ${lost}`,
    d.resent ? ` It was resent as ${d.resent}.` : '');
  if (verdict.firstElementChild) verdict.firstElementChild.replaceWith(text); // the button next to it keeps the focus
  else verdict.append(text, resendButton(node));
}

function resendButton(node) {
  const label = `Resend delivery ${node.dataset.id}`;
  return el('button', { type: 'button', class: 'small', 'aria-label': label, title: 'No real portal has this', click: (event) => doing(event.currentTarget, async () => {
    const again = await post(`/api/deliveries/${node.delivery.id}/resend`);
    say(again.acknowledged ? `Resent as ${again.id}: acknowledged.` : `Resent as ${again.id}, and failed again: ${reason(again)}.`, !again.acknowledged);
  }) }, 'Resend');
}

const selected = () => [...byId('delivery-list').querySelectorAll('.pick:checked')];

function showSelected() {
  const n = selected().length;
  const button = byId('resend-selected');
  button.hidden = n === 0;
  button.textContent = `Resend ${n} selected`;
}

const told = ({ resent, left }) => `${plural(resent, 'delivery').replace('deliverys', 'deliveries')} resent.${left ? ` ${left} are left; press again.` : ''}`;

byId('resend-failed').addEventListener('click', (event) => doing(event.currentTarget, async () => {
  say(told(await post('/api/deliveries/resend', { failed: true, q: byId('find').value })));
}));
byId('resend-selected').addEventListener('click', (event) => doing(event.currentTarget, async () => {
  const picked = selected();
  say(told(await post('/api/deliveries/resend', { ids: picked.map((box) => Number(box.closest('.row').dataset.id)) })));
  for (const box of picked) box.checked = false;
  showSelected();
}));

async function toggle(node) {
  const { summary, body } = node.parts;
  const open = body.hidden;
  body.hidden = !open;
  summary.setAttribute('aria-expanded', String(open));
  if (!open || body.dataset.loaded) return;
  body.dataset.loaded = 'yes';
  body.replaceChildren(el('p', { class: 'hint' }, 'loading …'));
  try {
    fill(node, await get(`/api/deliveries/${node.delivery.id}`));
  } catch (error) {
    delete body.dataset.loaded;
    body.replaceChildren(el('p', { class: 'problem' }, error.message));
  }
}

function fill(node, d) {
  const raw = el('div', { class: 'reveal', hidden: true });
  const reveal = el('button', { type: 'button', class: 'small', 'aria-expanded': 'false', click: (event) => doing(event.currentTarget, () => toggleRaw(d, raw, reveal)) }, 'Reveal raw body');
  node.parts.body.replaceChildren(
    el('dl', { class: 'facts-list' }, facts(d).flatMap(([name, ...what]) => [el('dt', {}, name), el('dd', {}, what)])),
    tree({ data: d.decoded.data, ...(d.decoded.payload ? { payload: d.decoded.payload } : {}) }),
    el('p', { class: 'buttons' }, node.delivery.acknowledged ? resendButton(node) : '', reveal,
      el('span', { class: 'hint' }, `${d.bytes.toLocaleString()} bytes as sent, tokens included`)),
    raw);
}

const auths = { none: 'no tokens', user: 'an access token', 'user+refresh': 'an access token and a refresh token' };

function facts(d) {
  const is = d.decoded;
  const list = [
    ['Delivery', `${d.id}, ${new Date(d.time).toLocaleString([], { hour12: false })}`],
    ['Sent to', el('span', { class: 'address' }, d.url)],
    ['From', d.app ? `application ${d.app}, handler ${d.handler_id}` : 'an outgoing webhook'],
    ['Caused by', is.user_id ? `user ${is.user_id}` : 'nobody', `; ${auths[is.auth] ?? is.auth} came along`],
    ['Decodes to', is.payload_error ? el('span', { class: 'bad' }, is.payload_error) : el('code', {}, is.type ?? 'nothing known: the catalogue lacks it')],
    ['Answer', d.status ? `${d.status} after ${d.latency_ms} ms` : reason(d)],
  ];
  if (d.answer) list.push(['', el('pre', { class: 'answer', tabindex: '0' }, d.answer)]);
  return list;
}

async function toggleRaw(d, raw, reveal) {
  if (raw.hidden) {
    const { body, bytes } = await post(`/api/deliveries/${d.id}/raw`);
    const cut = body.length < bytes && bytes > 1 << 20;
    raw.replaceChildren(
      el('pre', { tabindex: '0', class: 'wrap' }, body.replaceAll('&', '\n&')),
      cut ? el('p', { class: 'hint' }, 'The rest is too long to show.') : '',
      el('p', { class: 'buttons' }, el('button', { type: 'button', class: 'small', click: () => copy(body, 'Body') }, 'Copy')));
  } else {
    raw.replaceChildren();
  }
  raw.hidden = !raw.hidden;
  reveal.textContent = raw.hidden ? 'Reveal raw body' : 'Hide raw body';
  reveal.setAttribute('aria-expanded', String(!raw.hidden));
}
