// Quirks: how portals differ, to be switched while this one runs; the limit on requests; the clock.
import { byId, el, keyed, show } from './dom.js';
import { post, say, doing, sentence } from './api.js';

const groups = [
  ['Events', [
    ['no_user', 'No user in events', 'as if a robot did it: no tokens in deliveries'],
    ['no_data', 'No data in events', 'deliveries lack the section data'],
    ['slow_handlers_s', 'Slow handlers are called less often', '', [[0, 'no'], [0.1, 'from 0.1 s on'], [1, 'from 1 s on'], [5, 'from 5 s on']]],
    ['delivery_jitter_s', 'Events overtake each other', '', [[0, 'no'], [1, 'within 1 s'], [5, 'within 5 s']]],
    ['offline_lag_s', 'The offline queue lags', '', [[0, 'no'], [0.5, 'by 0.5 s'], [5, 'by 5 s']]],
    ['no_install_event', 'ONAPPINSTALL never comes', 'the installation page is all there is'],
    ['no_uninstall_event', 'ONAPPUNINSTALL never comes', 'as if the program were down at that moment'],
    ['user_ready', 'ONAPPUSERREADY, tokens of a system user', '', [[0, 'never'], [1, 'before ONAPPINSTALL'], [2, 'after ONAPPINSTALL']]],
    ['whole_bot_auth', 'Whole auth block for v2 bots', 'not only domain and application_token'],
    ['install_delay_s', 'ONAPPINSTALL comes late', '', [[0, 'at once'], [10, '10 s late'], [60, '1 min late'], [3600, '1 h late']]],
  ]],
  ['Plan', [
    ['no_extended_offline', 'No extended offline mode', 'reading the queue deletes: clear=0 is refused'],
    ['no_connectors', 'No connectors', 'auth_connector is refused'],
    ['box', 'On the customer’s own server', 'features are named en_selfhosted'],
  ]],
  ['Load and build', [
    ['rate', 'Request limit', '', [['0/0', 'none'], ['2/50', '2/s, burst 50'], ['5/250', '5/s, burst 250'], ['1/3', '1/s, burst 3']]],
    ['operating_limit_s', 'Operating limit', '', [[0, 'none'], [480, '480 s in 10 min'], [5, '5 s in 10 min']]],
    ['latency_ms', 'Slow portal', '', [[0, 'no'], [200, '200 ms a call'], [1000, '1 s a call'], [5000, '5 s a call'], [30000, '30 s a call']]],
    ['oauth_latency_ms', 'Slow OAuth server', '', [[0, 'no'], [200, '200 ms a request'], [1000, '1 s a request'], [5000, '5 s a request']]],
    ['racing_reservations', 'Reservations race', 'two at a time get the same records'],
    ['racing_binds', 'Equal binds race', 'the second one is refused'],
    ['honour_min_timeout', 'Old build: minTimeout counts', 'for ONOFFLINEEVENT'],
  ]],
  ['Tokens', [
    ['token_lifetime_s', 'Access tokens live', '', [[3600, '1 hour'], [300, '5 minutes'], [60, '1 minute'], [10, '10 seconds']]],
  ]],
];

const controls = new Map();
let built = false;

export function showQuirks({ quirks }) {
  if (!built) build();
  built = true;
  const all = { ...quirks, rate: `${quirks.rate_per_second}/${quirks.rate_burst}` };
  let unusual = 0;
  for (const [name, { input, usual }] of controls) {
    const value = all[name];
    if (value !== usual) unusual++;
    input.closest('.quirk').dataset.on = value !== usual;
    if (input.type === 'checkbox') {
      if (document.activeElement !== input || input.getAttribute('aria-disabled') !== 'true') input.checked = value;
      continue;
    }
    if (![...input.options].some((o) => o.value === String(value))) input.add(new Option(String(value), String(value)));
    if (input.value !== String(value)) input.value = String(value);
  }
  show(byId('nav-quirks'), unusual ? String(unusual) : '');
}

function build() {
  byId('quirk-list').replaceChildren(...groups.map(([title, quirks]) => el('fieldset', {}, el('legend', {}, title), quirks.map(control), title === 'Tokens' ? tokens() : '')), clock(), renaming());
}

function control([name, title, hint, choices]) {
  const id = `quirk-${name}`;
  const input = choices
    ? el('select', { id }, choices.map(([value, text]) => el('option', { value: String(value) }, text)))
    : el('input', { id, type: 'checkbox', role: 'switch' });
  const usual = name === 'rate' ? '0/0' : choices ? choices[0][0] : false;
  controls.set(name, { input, usual });
  input.addEventListener('change', () => set(name, title, input));
  const label = el('label', { for: id }, title, hint ? el('span', { class: 'hint' }, hint) : '');
  return el('p', { class: choices ? 'quirk choice' : 'quirk' }, choices ? [label, input] : [input, label]);
}

async function set(name, title, input) {
  const wanted = input.type === 'checkbox' ? input.checked : input.value;
  let change = { [name]: input.type === 'checkbox' ? wanted : Number(wanted) };
  if (name === 'rate') {
    const [perSecond, burst] = wanted.split('/').map(Number);
    change = { rate_per_second: perSecond, rate_burst: burst };
  }
  try {
    await post('/api/quirks', change);
    say(input.type === 'checkbox' ? `${title}: ${wanted ? 'on' : 'off'}.` : `${title}: ${input.selectedOptions[0].text}.`);
  } catch (error) {
    if (input.type === 'checkbox') input.checked = !wanted;
    say(sentence(error.message), true);
  }
}

const button = (text, path, body) => el('button', { type: 'button', class: 'small', click: (event) => doing(event.currentTarget, async () => say(sentence((await post(path, body)).text))) }, text);

function tokens() {
  return el('p', { class: 'buttons' }, button('Expire tokens now', '/api/tokens/expire', {}));
}

// renaming gives the portal a new domain. The page moves with it.
function renaming() {
  return el('fieldset', {}, el('legend', {}, 'Domain'), el('p', { class: 'hint' }, 'On loopback a new port. The old address redirects, and this page moves.'),
    el('p', { class: 'buttons' }, el('button', { type: 'button', class: 'small', id: 'rename', click: (event) => doing(event.currentTarget, () => post('/api/rename')) }, 'Rename the portal')));
}

function clock() {
  const steps = [['1 minute', '1m'], ['1 hour', '1h'], ['1 day', '24h'], ['35 days', '840h']];
  return el('fieldset', {}, el('legend', {}, 'Clock'), el('p', { class: 'hint' }, 'Forward only; tokens expire, limits recover, old records go.'),
    el('p', { class: 'buttons' }, steps.map(([text, by]) => button(`+ ${text}`, '/api/clock', { by }))));
}

export function showBuckets({ buckets, quirks }) {
  const limited = quirks.rate_burst > 0;
  const empty = byId('bucket-empty');
  show(empty, limited ? (buckets.length ? '' : 'No request came since.') : 'Off. Switch it on below, as the cloud has it.');
  keyed(byId('bucket-list'), buckets, (b) => b.source, (b) => {
    const node = el('li');
    node.meter = el('meter', { min: '0', 'aria-label': `bucket of ${b.source}` });
    node.text = el('p', {});
    node.append(node.text, node.meter);
    return node;
  }, (node, b) => {
    const level = Math.min(b.level, b.burst);
    node.meter.max = b.burst;
    node.meter.high = b.burst * 0.75;
    node.meter.low = b.burst * 0.5;
    node.meter.optimum = 0;
    node.meter.value = level;
    node.text.replaceChildren(el('code', {}, b.source), ` ${Math.ceil(level)} of ${b.burst}, drains ${b.per_second} a second`,
      b.level + 1 > b.burst ? el('span', { class: 'badge red' }, 'full: 503') : '');
  });
}
