// Applications with their handlers, and outgoing webhooks.
import { byId, el, keyed, plural } from './dom.js';
import { post, say, doing, submitting, copy } from './api.js';

const installForm = byId('install-form');
const webhookForm = byId('webhook-form');
let portal = null;
let first = true;

export function showApps(state) {
  portal = state.portal;
  if (first) {
    first = false;
    byId('install-box').open = state.apps.length === 0 && state.webhooks.length === 0;
    installForm.elements.handler.value = portal.handler || 'http://127.0.0.1:8080/bitrix24/events';
    installForm.elements.scope.value = portal.scope;
    if (portal.handler) webhookForm.elements.url.value = portal.handler;
    newCredentials();
  }
  keyed(byId('app-list'), state.apps, (a) => a.id, makeApp, updateApp);
  keyed(byId('webhook-list'), state.webhooks.map((w, i) => ({ ...w, i })), (w) => String(w.i), () => el('li', { class: 'card' }), (node, w) => {
    node.replaceChildren(
      el('p', { class: 'card-head' }, el('b', {}, 'Outgoing webhook')),
      el('p', { class: 'address' }, w.url),
      el('p', { class: 'events' }, w.events.map((e) => el('code', { class: 'event' }, e))));
  });
}

function makeApp(app) {
  const parts = { head: el('p', { class: 'card-head' }), facts: el('div'), bound: el('div', { class: 'bound' }), buttons: el('p', { class: 'buttons' }), secret: el('div', { class: 'reveal', hidden: true }) };
  const node = el('li', { class: 'card', 'data-app': app.id }, parts.head, parts.facts, parts.bound, parts.buttons, parts.secret);
  node.parts = parts;
  return node;
}

const states = {
  installed: ['green', 'installed'],
  installing: ['amber', 'waits for installFinish'],
  removed: ['', 'not installed'],
};

function updateApp(node, app) {
  const { head, facts, bound, buttons, secret } = node.parts;
  const [tone, word] = states[app.state];
  node.dataset.state = app.state;
  head.replaceChildren(el('b', { class: 'id', title: app.id }, app.id), el('span', { class: `badge ${tone}` }, word),
    app.active ? '' : el('span', { class: 'badge red' }, 'switched off'), app.payment_expired ? el('span', { class: 'badge red' }, 'unpaid') : '');
  facts.replaceChildren(
    el('p', { class: 'address' }, app.handler || 'no handler URL'),
    el('p', { class: 'muted' }, app.ui ? 'has pages · ' : '', app.scope.length ? app.scope.join(' · ') : 'basic permissions only'));
  bound.replaceChildren(...bindings(app));
  if (app.state === 'removed') secret.hidden = true;
  // Replace the buttons only if their set changes, so that the focus stays.
  const set = [app.state, app.ui, app.active, app.payment_expired].join();
  if (buttons.dataset.set === set) return;
  const had = buttons.contains(document.activeElement);
  buttons.dataset.set = set;
  buttons.replaceChildren(...appButtons(app, secret));
  if (had) buttons.querySelector('button')?.focus();
}

// bindings groups event handlers by their address.
function bindings(app) {
  const groups = new Map();
  for (const b of app.bindings) {
    const where = b.offline ? `offline queue${b.connector ? `, connector ${b.connector}` : ''}` : b.handler;
    if (!groups.has(where)) groups.set(where, { offline: Boolean(b.offline), events: [] });
    groups.get(where).events.push(b);
  }
  if (groups.size === 0) return app.state === 'removed' ? [] : [el('p', { class: 'hint' }, 'It has bound no event, so it gets none.')];
  const more = app.bound > app.bindings.length ? [el('p', { class: 'hint' }, `${app.bound - app.bindings.length} more are not shown.`)] : [];
  return [...groups].map(([where, group]) => el('details', { open: group.events.length <= 8 },
    el('summary', {}, el('span', { class: `badge ${group.offline ? 'violet' : 'blue'}` }, group.offline ? 'offline' : 'online'), ` ${plural(group.events.length, 'event')} → `,
      el('span', { class: 'address' }, group.offline ? where.replace('offline ', '') : where === app.handler ? 'the handler URL' : where)),
    el('p', { class: 'events' }, group.events.map((b) => el('code', { class: 'event', title: `handler ${b.id}${b.user ? `, with the tokens of user ${b.user}` : ''}` },
      b.event, b.user ? ` · user ${b.user}` : '', !b.offline && b.connector ? ` · ${b.connector}` : ''))))).concat(more);
}

function appButtons(app, secret) {
  const path = `/api/apps/${encodeURIComponent(app.id)}`;
  const button = (text, action, quiet = true) => el('button', { type: 'button', class: quiet ? 'small' : 'primary small', click: (event) => doing(event.currentTarget, action) }, text);
  const list = [];
  const clean = el('input', { type: 'checkbox', checked: true });
  if (app.state === 'removed') {
    list.push(button('Install again', async () => told(await post(`${path}/install`), 'Installed.'), false));
    return list;
  }
  if (app.state === 'installing') {
    list.push(button('Finish installation', async () => {
      await post(`${path}/finish`);
      say('Installed: BX24.installFinish was called.');
    }, false));
  }
  if (app.ui) {
    list.push(button('Open page', async () => {
      const { status } = await post(`${path}/open`);
      say(`The page answered ${status}.`);
    }));
  }
  list.push(
    button('Settings', () => settings(path, secret)),
    button(app.active ? 'Switch off' : 'Switch on', async () => {
      await post(`${path}/status`, { active: !app.active });
      say(app.active ? 'Switched off: calls are refused, events are dropped.' : 'Switched on.');
    }),
    button(app.payment_expired ? 'Renew' : 'Let subscription lapse', async () => {
      await post(`${path}/status`, { payment_expired: !app.payment_expired });
      say(app.payment_expired ? 'The subscription was renewed.' : 'The subscription ran out: REST works, events are dropped.');
    }),
    button('Uninstall', async () => {
      await post(`${path}/uninstall`, { clean: clean.checked });
      say('Uninstalled: ONAPPUNINSTALL was sent, its tokens, handlers and queue are gone.');
    }),
    el('label', { class: 'check' }, clean, 'and wipe its data'));
  return list;
}

function told(result, text) {
  say(result.warning ? `Added, but ${result.warning}.` : text, Boolean(result.warning));
}

// settings shows the settings that make a program this application.
async function settings(path, secret) {
  if (!secret.hidden) {
    secret.hidden = true;
    secret.replaceChildren();
    return;
  }
  const { settings: lines, application_token: token } = await post(`${path}/settings`);
  secret.replaceChildren(
    el('p', { class: 'hint' }, 'Secrets, with fresh tokens of the administrator. Press Settings again to hide them.'),
    el('pre', { tabindex: '0' }, lines),
    el('p', { class: 'hint' }, 'application_token: ', el('code', {}, token)),
    el('p', { class: 'buttons' }, el('button', { type: 'button', class: 'small', click: () => copy(lines, 'Settings') }, 'Copy')));
  secret.hidden = false;
}

const random = (length, alphabet) => [...crypto.getRandomValues(new Uint32Array(length))].map((n) => alphabet[n % alphabet.length]).join('');

function newCredentials() {
  installForm.elements.client_id.value = `local.${random(14, '0123456789abcdef')}.${random(8, '0123456789')}`;
  installForm.elements.client_secret.value = random(50, '0123456789abcdefghijklmnopqrstuvwxyz');
}

byId('new-credentials').addEventListener('click', newCredentials);
byId('copy-settings').addEventListener('click', async () => {
  const f = installForm.elements;
  const word = (text) => `'${text.replaceAll("'", `'\\''`)}'`;
  const lines = { B24_CLIENT_ID: f.client_id.value, B24_CLIENT_SECRET: f.client_secret.value, PUBLIC_URL: f.handler.value, B24_OAUTH_HOSTS: portal.oauth_host, B24_INSECURE_HTTP: '1' };
  const text = Object.entries(lines).map(([k, v]) => `export ${k}=${word(v)}\n`).join('');
  const shown = byId('form-settings');
  shown.hidden = await copy(text, 'Settings for your handler');
  shown.textContent = shown.hidden ? '' : text;
});

submitting(installForm, async (data) => {
  const result = await post('/api/apps', { client_id: data.get('client_id').trim(), client_secret: data.get('client_secret').trim(), handler: data.get('handler').trim(), scope: data.get('scope'), ui: data.has('ui') });
  byId('install-box').open = false;
  byId('install-box').querySelector('summary').focus();
  told(result, data.has('ui') ? 'Its page was opened; it is installed when the page is done.' : 'Installed.');
  newCredentials();
});

submitting(webhookForm, async (data) => {
  const { token } = await post('/api/webhooks', { url: data.get('url').trim(), events: data.get('events') });
  const box = byId('webhook-token');
  box.replaceChildren(
    el('p', { class: 'hint' }, 'Its token, shown this once. Set it as B24_APPLICATION_TOKEN:'),
    el('pre', { tabindex: '0' }, token),
    el('p', { class: 'buttons' }, el('button', { type: 'button', class: 'small', click: () => copy(token, 'The token') }, 'Copy'),
      el('button', { type: 'button', class: 'small quiet', click: () => { box.hidden = true; box.replaceChildren(); } }, 'Hide')));
  box.hidden = false;
  say('Webhook added.');
});
