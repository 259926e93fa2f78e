// The page: passes each snapshot of the portal to every panel.
import { byId, keyed, el, show, clockTime } from './dom.js';
import { watch, post, doing, say, copy } from './api.js';
import { showApps } from './apps.js';
import { showDeliveries } from './deliveries.js';
import { showQueue } from './queue.js';
import { showQuirks, showBuckets } from './quirks.js';
import { showCauses } from './cause.js';

const look = { failed: '', q: '', limit: 100 };
let stop = () => {};
let skew = 0;
let portal = null;

function follow() {
  stop();
  stop = watch(new URLSearchParams(look).toString(), picture, live);
}

function picture(state) {
  portal = state.portal;
  skew = portal.clock_skew_s;
  show(byId('domain'), portal.domain);
  show(byId('member'), portal.member_id);
  show(byId('oauth'), portal.oauth_host);
  tick();
  showApps(state);
  showCauses(state);
  showDeliveries(state, look);
  showCalls(state.calls);
  showQueue(state);
  showBuckets(state);
  showQuirks(state);
}

function live(on) {
  const mark = byId('live');
  const text = on ? 'live' : 'no connection; is devportal running?';
  if (mark.textContent === text) return;
  mark.dataset.state = on ? 'live' : 'lost';
  mark.textContent = text;
}

function tick() {
  const now = new Date(Date.now() + skew * 1000);
  byId('clock').textContent = now.toLocaleString([], { dateStyle: 'medium', timeStyle: 'medium', hour12: false });
  show(byId('skew'), skew > 0 ? `${span(skew)} ahead` : '');
}

function span(seconds) {
  const units = [[86400, 'd'], [3600, 'h'], [60, 'min'], [1, 's']];
  return units.flatMap(([size, unit]) => {
    const n = Math.floor(seconds / size);
    seconds -= n * size;
    return n > 0 ? [`${n} ${unit}`] : [];
  }).slice(0, 2).join(' ');
}

function showCalls(calls) {
  const failed = calls.filter((c) => c.error).length;
  show(byId('call-counts'), calls.length === 0 ? '' : `the latest ${calls.length}${failed ? `, ${failed} refused` : ''}`);
  byId('call-empty').hidden = calls.length > 0;
  const numbered = calls.map((c, i) => ({ ...c, key: calls.length - i }));
  keyed(byId('call-list'), numbered, (c) => `${c.time}|${c.method}|${c.key}`, () => el('li'), (node, c) => {
    node.className = c.error ? 'bad' : '';
    node.replaceChildren(
      el('time', { datetime: c.time }, clockTime(c.time)),
      el('code', {}, c.method), c.batch ? el('span', { class: 'badge' }, 'in a batch') : '',
      el('span', { class: 'outcome' }, c.error ? `${c.status} ${c.error}` : `${c.status} ok`),
      el('span', { class: 'muted' }, c.app));
  });
}

byId('copy-member').addEventListener('click', () => copy(portal?.member_id ?? '', 'member_id'));
byId('failed-only').addEventListener('change', (event) => {
  look.failed = event.target.checked ? '1' : '';
  follow();
});
let typing = null;
byId('find').addEventListener('input', (event) => {
  clearTimeout(typing);
  typing = setTimeout(() => {
    look.q = event.target.value;
    follow();
  }, 200);
});
byId('show-more').addEventListener('click', () => {
  look.limit = Math.min(look.limit + 200, 500);
  follow();
});
byId('forget').addEventListener('click', (event) => doing(event.currentTarget, async () => {
  await post('/api/deliveries/forget');
  say('Deliveries and calls cleared.');
}));
// A browser has six connections to one address, so tabs in the background close theirs.
document.addEventListener('visibilitychange', () => (document.hidden ? stop() : follow()));
setInterval(tick, 1000);
follow();
