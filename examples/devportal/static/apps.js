// Applications with their handlers, and outgoing webhooks.
import { byId, el, keyed, plural, options } from './dom.js';
import { post, say, doing, submitting, copy } from './api.js';

const installForm = byId('install-form');
const webhookForm = byId('webhook-form');
const incomingForm = byId('incoming-form');
const userForm = byId('user-form');
let first = true;

export function showApps(state) {
  const { portal } = state;
  if (first) {
    first = false;
    byId('install-box').open = state.apps.length === 0 && state.webhooks.length === 0;
    installForm.elements.handler.value = portal.handler || 'http://127.0.0.1:8080/bitrix24/events';
    installForm.elements.install_page.value = portal.install_page;
    installForm.elements.page.value = portal.page;
    installForm.elements.scope.value = portal.scope;
    if (portal.handler) webhookForm.elements.url.value = portal.handler;
    newCredentials();
  }
  keyed(byId('app-list'), state.apps, (a) => a.id, makeApp, updateApp);
  keyed(byId('webhook-list'), state.webhooks.map((w, i) => ({ ...w, i })), (w) => String(w.i), () => el('li', { class: 'card' }), (node, w) => {
    if (w.incoming) {
      node.replaceChildren(
        el('p', { class: 'card-head' }, el('b', {}, 'Incoming webhook')),
        el('p', { class: 'muted' }, `user ${w.user} · `, (w.scope ?? []).join(' · ') || 'basic permissions only'));
      return;
    }
    node.replaceChildren(
      el('p', { class: 'card-head' }, el('b', {}, 'Outgoing webhook')),
      el('p', { class: 'address' }, w.url),
      el('p', { class: 'events' }, w.events.map((e) => el('code', { class: 'event' }, e))));
  });
  options(incomingForm.elements.user, state.users.filter((u) => !u.dismissed).map((u) => [String(u.id), u.name]));
  keyed(byId('user-list'), state.users, (u) => String(u.id), () => el('li', {}), (node, u) => {
    node.replaceChildren(el('span', {}, `${u.name} `, el('span', { class: 'muted' }, `${u.id}${u.admin ? ', admin' : ''}`)),
      u.dismissed ? el('span', { class: 'badge red' }, 'dismissed')
        : el('button', { type: 'button', class: 'small', 'aria-label': `Dismiss ${u.name}`, click: (event) => doing(event.currentTarget, async () => {
          await post(`/api/users/${u.id}/dismiss`);
          say(`${u.name} is dismissed: calls with this user's tokens and webhooks are refused.`);
        }) }, 'Dismiss'));
  });
}

function makeApp(app) {
  const parts = { head: el('p', { class: 'card-head' }), facts: el('div'), bound: el('div', { class: 'bound' }), buttons: el('div', { class: 'buttons' }), secret: el('div', { class: 'reveal', hidden: true }) };
  const node = el('li', { class: 'card', 'data-app': app.id }, parts.head, parts.facts, parts.bound, parts.buttons, parts.secret);
  node.parts = parts;
  return node;
}

const states = {
  installed: ['green', 'installed'],
  installing: ['amber', 'waits for installFinish'],
  not_installed: ['', 'not installed'],
};

function updateApp(node, app) {
  const { head, facts, bound, buttons, secret } = node.parts;
  const [tone, word] = states[app.state];
  node.dataset.state = app.state;
  head.replaceChildren(el('b', { class: 'id', title: app.id }, app.id), el('span', { class: `badge ${tone}` }, word),
    app.active ? '' : el('span', { class: 'badge red' }, 'switched off'), app.payment_expired ? el('span', { class: 'badge red' }, 'unpaid') : '');
  facts.replaceChildren(
    el('p', { class: 'address' }, app.handler || 'no event URL'),
    app.install_page ? el('p', { class: 'address' }, el('span', { class: 'label' }, 'installation '), app.install_page) : '',
    app.page ? el('p', { class: 'address' }, el('span', { class: 'label' }, 'page '), app.page) : '',
    el('p', { class: 'muted' }, app.scope.length ? app.scope.join(' · ') : 'basic permissions only'),
    ...app.bots.map((b) => el('p', { class: 'muted' }, `bot ${b.id} ${b.name} `, el('code', {}, b.code), b.mode === 'old' ? '' : ` · ${b.mode} mode`)));
  bound.replaceChildren(...(app.why && app.state !== 'not_installed' ? [el('p', { class: 'notice amber silence' }, `It gets no events: ${app.why}.`)] : []), ...bindings(app));
  if (app.state === 'not_installed') secret.hidden = true;
  // Replace the buttons only if their set changes, so that the focus stays.
  const set = [app.state, hasPages(app), app.active, app.payment_expired].join();
  if (buttons.dataset.set === set) return;
  const had = buttons.contains(document.activeElement);
  const more = buttons.querySelector('details')?.open;
  buttons.dataset.set = set;
  buttons.replaceChildren(...appButtons(app, secret));
  if (more && buttons.querySelector('details')) buttons.querySelector('details').open = true;
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
  if (groups.size === 0) return app.state === 'not_installed' ? [] : [el('p', { class: 'hint' }, 'It has bound no event, so it gets none.')];
  const more = app.bound > app.bindings.length ? [el('p', { class: 'hint' }, `${app.bound - app.bindings.length} more are not shown.`)] : [];
  return [...groups].map(([where, group]) => el('details', { open: group.events.length <= 8 },
    el('summary', {}, el('span', { class: `badge ${group.offline ? 'violet' : 'blue'}` }, group.offline ? 'offline' : 'online'), ` ${plural(group.events.length, 'event')} → `,
      el('span', { class: 'address' }, group.offline ? where.replace('offline ', '') : where === app.handler ? 'the event URL' : where)),
    el('p', { class: 'events' }, group.events.map((b) => el('code', { class: 'event', title: `handler ${b.id}${b.user ? `, with the tokens of user ${b.user}` : ''}` },
      b.event, b.user ? ` · user ${b.user}` : '', !b.offline && b.connector ? ` · ${b.connector}` : ''))))).concat(more);
}

const hasPages = (app) => app.install_page !== '' || app.page !== '';

// begun says what happens after an application's installation has begun.
function begun(app) {
  if (app.install_page !== '') return 'Its installation page is open; it is installed when the page calls BX24.installFinish.';
  return app.page === '' ? 'Installed.' : 'Installed: it has no installation page. Its page is open.';
}

function appButtons(app, secret) {
  const path = `/api/apps/${encodeURIComponent(app.id)}`;
  const button = (text, action, quiet = true) => el('button', { type: 'button', class: quiet ? 'small' : 'primary small', click: (event) => doing(event.currentTarget, action) }, text);
  const list = [];
  const clean = el('input', { type: 'checkbox', checked: true });
  if (app.state === 'not_installed') {
    list.push(
      button('Install', async () => {
        told(await post(`${path}/install`, { in_browser: hasPages(app) }), begun(app));
        if (hasPages(app)) openFrame(app.id);
      }, false),
      button('Settings', () => settings(path, secret)));
    return list;
  }
  if (app.state === 'installing') {
    list.push(button('Open installation page', async () => openFrame(app.id), false));
    list.push(button('Finish without the page', async () => {
      await post(`${path}/finish`);
      say('Installed, as if the page had called BX24.installFinish.');
    }));
  } else if (hasPages(app)) {
    list.push(button('Open page', async () => openFrame(app.id)));
  }
  list.push(
    button('Settings', () => settings(path, secret)),
    el('details', { class: 'more full' }, el('summary', {}, 'More'), el('p', { class: 'buttons' },
      button(app.active ? 'Switch off' : 'Switch on', async () => {
        await post(`${path}/status`, { active: !app.active });
        say(app.active ? 'Switched off: calls are refused, events are dropped.' : 'Switched on.');
      }),
      button(app.payment_expired ? 'Renew' : 'Let subscription lapse', async () => {
        await post(`${path}/status`, { payment_expired: !app.payment_expired });
        say(app.payment_expired ? 'The subscription was renewed.' : 'The subscription ran out: REST works, events are dropped.');
      }),
      button('Update', async () => {
        await post(`${path}/update`);
        say('Updated: ONAPPUPDATE was raised.');
      }),
      button('Revoke tokens', async () => {
        await post(`${path}/revoke`);
        say('Revoked: calls get invalid_token, refreshes invalid_grant.');
      }),
      button('Rotate application_token', async () => {
        await post(`${path}/rotate`);
        say('Rotated: Settings shows the new application_token.');
      }),
      button('Uninstall', async () => {
        await post(`${path}/uninstall`, { clean: clean.checked });
        say('Uninstalled: ONAPPUNINSTALL was sent, its tokens, handlers and queue are gone.');
      }),
      el('label', { class: 'check' }, clean, 'and wipe its data'))));
  return list;
}

function told(result, text) {
  say(result.warning ? `Added, but ${result.warning}.` : text, Boolean(result.warning));
}

// openFrame opens the page of an application as Bitrix24 does: in a frame, by a form with tokens.
function openFrame(id) {
  byId('frame').src = `/frame?app=${encodeURIComponent(id)}`;
  byId('frame-box').showModal();
}

function closeFrame() { byId('frame-box').close(); }
byId('frame-box').addEventListener('close', () => byId('frame').removeAttribute('src'));
byId('frame-close').addEventListener('click', closeFrame);
window.addEventListener('message', (message) => {
  if (message.origin === location.origin && message.source === byId('frame').contentWindow && message.data?.devportal === 'close') closeFrame();
});

// settings shows the settings that make a program this application.
async function settings(path, secret) {
  if (!secret.hidden) {
    secret.hidden = true;
    secret.replaceChildren();
    return;
  }
  const { settings: lines, application_token: token } = await post(`${path}/settings`);
  secret.replaceChildren(
    el('p', { class: 'hint' }, 'Secrets, with fresh tokens of the administrator once it is installed. Press Settings again to hide them.'),
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

// inForm returns the application that the form describes.
function inForm() {
  const names = ['client_id', 'client_secret', 'handler', 'install_page', 'page', 'scope'];
  return Object.fromEntries(names.map((name) => [name, installForm.elements[name].value.trim()]));
}

byId('copy-settings').addEventListener('click', (event) => doing(event.currentTarget, async () => {
  const { settings: text } = await post('/api/settings', inForm());
  const shown = byId('form-settings');
  shown.hidden = await copy(text, 'Settings for your handler');
  shown.textContent = shown.hidden ? '' : text;
}));

function added() {
  byId('install-box').open = false;
  byId('install-box').querySelector('summary').focus();
  newCredentials();
}

byId('add-only').addEventListener('click', (event) => doing(event.currentTarget, async () => {
  if (!installForm.reportValidity()) return;
  await post('/api/apps', { ...inForm(), install: false });
  added();
  say('Added. Its card installs it.');
}));

submitting(installForm, async () => {
  const app = inForm();
  const result = await post('/api/apps', { ...app, in_browser: hasPages(app) });
  added();
  told(result, begun(app));
  if (hasPages(app)) openFrame(result.id);
});

// reveal shows a secret once.
function reveal(box, secret, hint, what) {
  box.replaceChildren(
    el('p', { class: 'hint' }, hint),
    el('pre', { tabindex: '0' }, secret),
    el('p', { class: 'buttons' }, el('button', { type: 'button', class: 'small', click: () => copy(secret, what) }, 'Copy'),
      el('button', { type: 'button', class: 'small quiet', click: () => { box.hidden = true; box.replaceChildren(); } }, 'Hide')));
  box.hidden = false;
  say('Webhook added.');
}

submitting(webhookForm, async (data) => {
  const { token } = await post('/api/webhooks', { url: data.get('url').trim(), events: data.get('events') });
  reveal(byId('webhook-token'), token, 'Its token, shown this once. Set it as B24_APPLICATION_TOKEN:', 'The token');
});

submitting(incomingForm, async (data) => {
  const { url } = await post('/api/webhooks/incoming', { user: Number(data.get('user')), scope: data.get('scope') });
  reveal(byId('incoming-url'), url, 'Its URL, shown this once. Pass it to rest.NewWebhook:', 'The URL');
});

submitting(userForm, async (data) => {
  await post('/api/users', { name: data.get('name').trim(), admin: data.has('admin') });
  userForm.reset();
  say('User added.');
});
