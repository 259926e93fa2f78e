// The page: passes each snapshot of the portal to every panel.
import { byId, keyed, el, show } from './dom.js';
import { watch, post, doing, say, copy } from './api.js';
import { initTabs } from './tabs.js';
import { showCalls } from './calls.js';
import { showObjects, onKind } from './objects.js';
import { showFaults } from './faults.js';
import { showApps } from './apps.js';
import { showDeliveries } from './deliveries.js';
import { showQueue, showPolled } from './queue.js';
import { showQuirks, showBuckets } from './quirks.js';
import { showCauses } from './cause.js';

const look = { failed: '', q: '', limit: 100, calls_failed: '', calls_q: '', kind: '' };
let stop = () => {};
let skew = 0;
let portal = null;
let port = null; // of the portal when the page was opened

function follow() {
  stop();
  stop = watch(new URLSearchParams(look).toString(), picture, live);
}

function picture(state) {
  portal = state.portal;
  skew = portal.clock_skew_s;
  showPortals(state.portals);
  show(byId('domain'), portal.domain);
  show(byId('member'), portal.member_id);
  show(byId('oauth'), portal.oauth_host);
  tick();
  showApps(state);
  showCauses(state);
  showDeliveries(state, look);
  showCalls(state);
  showObjects(state);
  showFaults(state);
  showQueue(state);
  showPolled(state);
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

// showPortals lists the portals of the process. Each has a page of its own on the same host.
function showPortals(portals) {
  byId('portals').hidden = portals.length < 2;
  byId('domain').closest('.fact').hidden = portals.length > 1;
  const at = (port) => Object.assign(new URL(location.href), { port, pathname: '/', search: '', hash: '' }).href;
  keyed(byId('portals'), portals, (p) => p.member_id, () => el('a'), (node, p) => {
    node.href = at(p.port);
    node.title = `member_id ${p.member_id}`;
    node.textContent = p.domain;
    if (p.member_id === portal.member_id) node.setAttribute('aria-current', 'page');
  });
  port ??= portal.port; // may differ from that of this page, for example behind a tunnel
  if (port !== portal.port) moved(at(portal.port));
}

// moved follows the portal to its new address after it was renamed.
function moved(address) {
  stop();
  location.replace(address);
}

byId('copy-member').addEventListener('click', () => copy(portal?.member_id ?? '', 'member_id'));
byId('failed-only').addEventListener('change', (event) => {
  look.failed = event.target.checked ? '1' : '';
  follow();
});
byId('refused-only').addEventListener('change', (event) => {
  look.calls_failed = event.target.checked ? '1' : '';
  follow();
});
onKind((kind) => {
  look.kind = kind;
  follow();
});
let typing = null;
for (const [id, name] of [['find', 'q'], ['find-call', 'calls_q']]) {
  byId(id).addEventListener('input', (event) => {
    clearTimeout(typing);
    typing = setTimeout(() => {
      look[name] = event.target.value;
      follow();
    }, 200);
  });
}
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
initTabs();
follow();
