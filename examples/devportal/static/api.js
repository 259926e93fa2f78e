// The API of the program: commands by POST, snapshots of the portal by server-sent events.
import { byId, visible } from './dom.js';

export async function get(path) {
  return answer(await fetch(path, { headers: { Accept: 'application/json' } }));
}

// post sends a command: an object, or JSON as text.
export async function post(path, body = {}) {
  const text = typeof body === 'string' ? body : JSON.stringify(body);
  return answer(await fetch(path, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: text }));
}

async function answer(response) {
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(body.error ?? `the portal answered ${response.status}`);
  return body;
}

// watch calls picture with each new state, and live with whether the program responds.
export function watch(query, picture, live) {
  let source = null;
  let again = null;
  const connect = () => {
    source = new EventSource(`/api/stream?${query}`);
    source.onopen = () => live(true);
    source.onmessage = (message) => picture(JSON.parse(message.data));
    source.onerror = () => {
      live(false);
      source.close();
      again = setTimeout(connect, 1000);
    };
  };
  connect();
  return () => {
    clearTimeout(again);
    source.close();
  };
}

let fade = null;

// say shows the result of an action, also for screen readers.
export function say(text, bad = false) {
  const toast = byId('said');
  toast.textContent = visible(text);
  toast.dataset.state = bad ? 'bad' : 'good';
  toast.classList.add('shown');
  clearTimeout(fade);
  fade = setTimeout(() => toast.classList.remove('shown'), bad ? 8000 : 4000);
}

// doing runs the action of a button, disables the button meanwhile, and shows errors.
export async function doing(button, action) {
  if (button.getAttribute('aria-disabled') === 'true') return;
  button.setAttribute('aria-disabled', 'true');
  try {
    await action();
  } catch (error) {
    say(sentence(error.message), true);
  } finally {
    button.removeAttribute('aria-disabled');
  }
}

// submitting runs a form's action instead of sending the form, and shows errors in it.
export function submitting(form, action) {
  const problem = form.querySelector('.problem');
  const button = form.querySelector('button.primary');
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    if (button.getAttribute('aria-disabled') === 'true') return;
    button.setAttribute('aria-disabled', 'true');
    problem.hidden = true;
    try {
      await action(new FormData(form));
    } catch (error) {
      problem.textContent = sentence(error.message);
      problem.hidden = false;
    } finally {
      button.removeAttribute('aria-disabled');
    }
  });
}

export const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?…]$/.test(text) ? '' : '.');

// copy puts text on the clipboard. It reports whether the browser allowed that, as it does on loopback and over https.
export async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    say('The browser does not let the page copy; select the text instead.', true);
    return false;
  }
  say(`${what} copied.`);
  return true;
}
