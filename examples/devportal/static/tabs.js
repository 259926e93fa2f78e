// The tabs in the middle: deliveries, REST calls, objects. Arrow keys move between them.
import { byId } from './dom.js';

const names = ['deliveries', 'calls', 'objects'];
const tab = (name) => byId(`tab-${name}`);

export function choose(name, focus = false) {
  for (const other of names) {
    const on = other === name;
    tab(other).setAttribute('aria-selected', String(on));
    tab(other).tabIndex = on ? 0 : -1;
    byId(other).hidden = !on;
  }
  if (focus) tab(name).focus();
}

export function initTabs() {
  for (const [i, name] of names.entries()) {
    tab(name).addEventListener('click', () => choose(name));
    tab(name).addEventListener('keydown', (event) => {
      const step = { ArrowRight: 1, ArrowLeft: names.length - 1 }[event.key];
      const to = { Home: 0, End: names.length - 1 }[event.key] ?? (step ? (i + step) % names.length : null);
      if (to === null) return;
      event.preventDefault();
      choose(names[to], true);
    });
  }
  // Links to a section open its tab, also when the section is hidden.
  document.addEventListener('click', (event) => {
    const name = event.target.closest?.('a[href^="#"]')?.hash.slice(1);
    if (names.includes(name)) choose(name);
  });
  if (names.includes(location.hash.slice(1))) choose(location.hash.slice(1));
}
