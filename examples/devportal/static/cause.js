// The forms that cause events: by changes of objects, and by name.
import { byId, el, options } from './dom.js';
import { get, post, say, submitting } from './api.js';

const change = byId('change-form');
const raise = byId('raise-form');
let events = null;

export function showCauses({ users, apps }) {
  for (const form of [change, raise]) {
    options(form.elements.user, [...users.filter((u) => !u.dismissed).map((u) => [String(u.id), `${u.name}${u.admin ? ', admin' : ''}`]), ['0', 'nobody (robot)']]);
  }
  options(change.elements.bot, apps.filter((a) => a.state === 'installed').flatMap((a) => (a.bots.length
    ? a.bots.map((b) => [JSON.stringify({ app: a.id, bot: b.id }), `${b.name} (${b.id})`])
    : [[JSON.stringify({ app: a.id, bot: 0 }), `a new bot of ${a.id}`]])));
  const bots = apps.flatMap((a) => a.bots.filter((b) => b.mode !== 'old').map((b) => [String(b.id), `${b.name} (bot ${b.id})`]));
  options(raise.elements.bot, [['', 'everyone'], ...bots]);
  byId('raise-for').hidden = bots.length === 0;
  if (events === null) {
    events = new Map();
    get('/api/events').then((list) => {
      events = new Map(list.map((e) => [e.name, e]));
      byId('event-names').replaceChildren(...list.map((e) => el('option', { value: e.name }, e.title)));
    }, () => { events = null; });
  }
}

// fit shows the fields of the chosen kind.
function fit() {
  const { kind, action, fields, id } = change.elements;
  for (const label of change.querySelectorAll('[data-for]')) label.hidden = label.dataset.for !== kind.value;
  fields.placeholder = kind.value === 'message' ? '{"MESSAGE": "Hello"}' : '{"TITLE": "Rocket"}';
  fields.disabled = action.value === 'delete';
  id.disabled = action.value === 'add';
}

change.addEventListener('change', fit);
fit();

// withJSON adds a member as the user wrote it, because JavaScript would round large numbers.
function withJSON(body, name, text, what) {
  if (text.trim() === '') return body;
  try {
    JSON.parse(text);
  } catch {
    throw new Error(`${what} are not JSON; write {"NAME": "value"}`);
  }
  return `${JSON.stringify(body).slice(0, -1)},${JSON.stringify(name)}:${text}}`;
}

submitting(change, async () => {
  const f = change.elements;
  const body = { kind: f.kind.value, action: f.action.value, times: Number(f.times.value), user: Number(f.user.value) };
  body.id = f.id.disabled ? 0 : Number(f.id.value);
  if (body.kind === 'item') body.entity_type_id = Number(f.entity_type_id.value);
  if (body.kind === 'message' && body.action === 'add') {
    if (f.bot.value === '') throw new Error('no application is installed that could have a chat bot');
    Object.assign(body, JSON.parse(f.bot.value));
  }
  const { text, heard, why } = await post('/api/objects', f.fields.disabled ? body : withJSON(body, 'fields', f.fields.value, 'The fields'));
  say(`${text.charAt(0).toUpperCase()}${text.slice(1)}.${heard ? '' : ` Nothing gets it: ${why}.`}`);
});

let proposed = '';

// Fill in sample data for a known event, unless the user wrote some.
raise.elements.event.addEventListener('input', () => {
  const { event, data } = raise.elements;
  const known = events?.get(event.value.trim().toUpperCase());
  byId('event-hint').textContent = known ? `${known.title} · permission ${known.scope}` : '';
  if (!known || (data.value !== '' && data.value !== proposed)) return;
  proposed = Object.keys(known.sample).length ? JSON.stringify(known.sample) : '';
  data.value = proposed;
});

submitting(raise, async () => {
  const f = raise.elements;
  const to = f.bot.value === '' ? '/api/raise' : `/api/bots/${f.bot.value}/raise`;
  const result = await post(to, withJSON({ event: f.event.value, user: Number(f.user.value), times: Number(f.times.value) }, 'data', f.data.value, 'The data'));
  if (!result.heard) throw new Error(`raised, but nothing gets it: ${result.why}`);
  say(`${result.text}.`);
});

