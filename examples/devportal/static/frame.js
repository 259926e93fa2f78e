// The document around an application's page. It opens the page as Bitrix24 does, by a form in a frame,
// and answers the requests of the library BX24 in it.
import { byId, el } from './dom.js';
import { get, post, sentence } from './api.js';

const id = new URLSearchParams(location.search).get('app');
const path = `/api/apps/${encodeURIComponent(id)}`;
const frame = document.querySelector('iframe');
let origin = ''; // of the page
let form = null; // that opened it
let portal = null;

function problem(error) {
  const box = byId('problem');
  box.textContent = sentence(error.message);
  box.hidden = false;
}

// open posts the form of a user into the frame.
async function open() {
  byId('problem').hidden = true;
  try {
    const state = await get('/api/state?limit=1');
    portal = state.portal;
    byId('step').hidden = state.apps.find((a) => a.id === id)?.state !== 'installing';
    if (!byId('user').options.length) {
      byId('user').append(...state.users.filter((u) => !u.dismissed).map((u) => el('option', { value: String(u.id) }, u.name, u.admin ? ', admin' : '')));
    }
    const got = await post(`${path}/frame`, { user: Number(byId('user').value) });
    form = Object.fromEntries(got.fields);
    origin = new URL(got.action).origin;
    const node = el('form', { method: 'post', action: got.action, target: frame.name, hidden: true },
      got.fields.map(([name, value]) => el('input', { type: 'hidden', name, value })));
    document.body.append(node);
    node.submit();
    node.remove();
  } catch (error) {
    problem(error);
  }
}

async function tokens() {
  const g = await post(`${path}/grant`, { user: Number(byId('user').value) });
  return { access_token: g.access_token, refresh_token: g.refresh_token, expires_in: g.expires_in, domain: g.domain, member_id: g.member_id };
}

const answers = {
  async init() {
    const state = await get('/api/state?limit=1');
    return {
      auth: { access_token: form.AUTH_ID, refresh_token: form.REFRESH_ID, expires_in: Number(form.AUTH_EXPIRES), domain: portal.domain, member_id: form.member_id },
      domain: portal.domain, protocol: 'http', admin: state.users.find((u) => String(u.id) === byId('user').value)?.admin,
      installing: state.apps.find((a) => a.id === id)?.state === 'installing',
      placement: form.PLACEMENT, options: JSON.parse(form.PLACEMENT_OPTIONS || '{}'),
    };
  },
  refreshAuth: tokens,
  async installFinish() {
    await post(`${path}/finish`);
    byId('note').textContent = 'Installed: the page called BX24.installFinish.';
    setTimeout(open, 0); // as the platform does: from now on it is the page, and not the installation page
  },
  setTitle({ title }) { byId('title').textContent = title.slice(0, 200); },
  closeApplication() { parent.postMessage({ devportal: 'close' }, location.origin); },
  reloadWindow() { setTimeout(open, 0); },
};

window.addEventListener('message', async (message) => {
  const { bx24: name, id: number, params } = message.data ?? {};
  if (message.source !== frame.contentWindow || message.origin !== origin || !Object.hasOwn(answers, name ?? '')) return;
  const reply = { bx24: 'reply', id: number };
  try {
    reply.result = await answers[name](params);
  } catch (error) {
    reply.error = error.message;
  }
  message.source.postMessage(reply, origin);
});

byId('title').textContent = id;
byId('user').addEventListener('change', open);
byId('again').addEventListener('click', open);
open();
