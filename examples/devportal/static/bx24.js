// BX24 for pages of applications under test. Include it in place of //api.bitrix24.com/api/v1/
// while you develop: it talks to devportal, which must have opened the page in its frame.
// It has init, install, installFinish, getAuth, refreshAuth, callMethod, callBatch, isAdmin,
// getLang, getDomain, placement.info, ready, setTitle, closeApplication, reloadWindow, fitWindow
// and resizeWindow.
(() => {
  const waiting = new Map();
  const installs = [];
  let asked = 0;
  let state = null; // what init learned
  let starting = null;

  window.addEventListener('message', (message) => {
    const reply = message.data;
    if (message.source !== window.parent || reply?.bx24 !== 'reply' || !waiting.has(reply.id)) return;
    const { resolve, reject } = waiting.get(reply.id);
    waiting.delete(reply.id);
    if (reply.error) reject(new Error(reply.error));
    else resolve(reply.result);
  });

  // ask sends a request to the frame around the page. Requests hold no secrets.
  function ask(name, params = {}) {
    if (window.parent === window) return Promise.reject(new Error('BX24: the page is not in a frame; open it from devportal'));
    return new Promise((resolve, reject) => {
      asked += 1;
      waiting.set(asked, { resolve, reject });
      window.parent.postMessage({ bx24: name, id: asked, params }, '*');
    });
  }

  function start() {
    if (!starting) starting = ask('init').then((got) => { state = got; });
    return starting;
  }

  // encode adds parameters to a form, with PHP's brackets.
  function encode(form, name, value) {
    if (value === null || value === undefined) form.append(name, '');
    else if (value instanceof Date) form.append(name, value.toISOString());
    else if (typeof value === 'object') for (const [key, v] of Object.entries(value)) encode(form, name ? `${name}[${key}]` : key, v);
    else form.append(name, value === true ? '1' : value === false ? '0' : String(value));
    return form;
  }

  class Result {
    constructor(answer, status, again) { Object.assign(this, { answer, status, again }); }
    data() { return this.answer.result; }
    error() { return this.answer.error === undefined ? undefined : { ex: this.answer, status: this.status, toString: () => this.answer.error_description || this.answer.error }; }
    error_description() { return this.answer.error_description; }
    more() { return this.answer.next !== undefined; }
    total() { return this.answer.total; }
    next(callback) { return this.more() && this.again ? (this.again(this.answer.next, callback), true) : false; }
  }

  async function send(method, params) {
    const { auth, domain, protocol } = state;
    const body = encode(new URLSearchParams(), '', params ?? {});
    body.append('auth', auth.access_token);
    const response = await fetch(`${protocol}://${domain}/rest/${method}.json`, { method: 'POST', body });
    return { answer: await response.json(), status: response.status };
  }

  async function call(method, params, callback) {
    let got;
    try {
      await start();
      got = await send(method, params);
      if (got.answer.error === 'expired_token') {
        await refresh();
        got = await send(method, params);
      }
    } catch (error) {
      got = { answer: { error: 'NETWORK_ERROR', error_description: error.message }, status: 0 };
    }
    const result = new Result(got.answer, got.status, (from, then) => call(method, { ...params, start: from }, then ?? callback));
    callback?.(result);
    return result;
  }

  async function refresh() {
    state.auth = await ask('refreshAuth');
    return state.auth;
  }

  const auth = () => (state ? { ...state.auth } : false);

  window.BX24 = {
    init(callback) {
      start().then(() => {
        if (state.installing) installs.splice(0).forEach((f) => f());
        callback?.();
      });
    },
    install(callback) { installs.push(callback); },
    async installFinish() {
      await start();
      await ask('installFinish');
    },
    ready(callback) {
      if (document.readyState === 'loading') document.addEventListener('DOMContentLoaded', callback);
      else callback();
    },
    getAuth: auth,
    refreshAuth(callback) { start().then(refresh).then(() => callback?.(auth())); },
    callMethod(method, params, callback) { call(method, params, callback); },
    callBatch(calls, callback, halt) {
      const cmd = {};
      for (const [key, c] of Object.entries(calls)) {
        const [method, params] = Array.isArray(c) ? c : [c.method, c.params];
        cmd[key] = `${method}?${encode(new URLSearchParams(), '', params ?? {})}`;
      }
      call('batch', { halt: halt ? 1 : 0, cmd }, (result) => {
        const parts = result.answer.result;
        if (!parts) return callback?.(result);
        const results = Array.isArray(calls) ? [] : {};
        for (const key of Object.keys(calls)) {
          const failure = parts.result_error?.[key];
          results[key] = new Result(failure ?? { result: parts.result?.[key], total: parts.result_total?.[key], next: parts.result_next?.[key] }, result.status);
        }
        callback?.(results);
      });
    },
    isAdmin: () => Boolean(state?.admin),
    getLang: () => 'en',
    getDomain: () => state?.domain,
    placement: { info: () => ({ placement: state?.placement, options: state?.options }) },
    setTitle(title, callback) { ask('setTitle', { title: String(title) }).then(() => callback?.()); },
    closeApplication(callback) { ask('closeApplication').then(() => callback?.()); },
    reloadWindow() { ask('reloadWindow'); },
    fitWindow(callback) { callback?.(); },
    resizeWindow(width, height, callback) { callback?.(); },
  };
})();
