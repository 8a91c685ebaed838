// What was set, in the address: `#reconstruct&model=photos4&image=cat&mask=random&ratio=0.5&seed=3`. Whoever opens it
// sees the same.

/** Whether a text is a number that a slider has. Of other texts the browser makes the middle. */
export function within({ min, max }, text) {
  const value = text.trim() === '' ? NaN : Number(text);
  return value >= Number(min) && value <= Number(max);
}

export class Address {
  #tab;
  /** name → { tab, read, write, plain }: the text of the setting, and what it was when the page was opened */
  #settings = new Map();
  #waiting = false;

  /** `tab` is { read, write } of the open tab's name. */
  constructor(tab) {
    this.#tab = tab;
  }

  /** Declares a setting of a tab. `write` gets a text from somebody's link, and ignores one that makes no sense. */
  add(tab, name, { read, write }) {
    this.#settings.set(name, { tab, read, write, plain: read() });
  }

  /** Declares a setting that is the value of a control. */
  control(tab, name, control) {
    this.add(tab, name, {
      read: () => control.value,
      write(text) {
        if (control.type === 'range' && !within(control, text)) return;
        const before = control.value;
        control.value = text;
        if (control instanceof HTMLSelectElement && control.selectedIndex < 0) control.value = before;
      },
    });
  }

  /** The address of what is set now: all settings of the open tab, and those of others that were changed. */
  toString() {
    const open = this.#tab.read();
    const parts = [open];
    for (const [name, { tab, read, plain }] of this.#settings) {
      const value = read();
      if (value !== '' && (tab === open || value !== plain)) parts.push(`${name}=${encodeURIComponent(value)}`);
    }
    return `#${parts.join('&')}`;
  }

  /** Puts what is set into the address bar, soon: a slider that is dragged changes it once. */
  changed() {
    if (this.#waiting) return;
    this.#waiting = true;
    setTimeout(() => {
      this.#waiting = false;
      if (location.hash !== this.toString()) history.replaceState(null, '', this.toString());
    }, 200);
  }

  /** Sets everything that the address bar says; what it does not name is as when the page was opened. */
  apply() {
    const [tab, ...parts] = location.hash.slice(1).split('&');
    const given = new Map([tab, ...parts].filter((part) => part.includes('=')).map((part) => {
      const [name, ...value] = part.split('=');
      let text = value.join('=');
      try { text = decodeURIComponent(text); } catch { /* taken as it is */ }
      return [name, text];
    }));
    for (const [name, { write, plain }] of this.#settings) write(given.get(name) ?? plain);
    this.#tab.write(tab.includes('=') ? '' : tab);
  }
}

/** A mask as text, four patches a letter. */
export const maskText = (mask) => Array.from({ length: Math.ceil(mask.length / 4) }, (_, i) => (
  [0, 1, 2, 3].reduce((sum, bit) => sum + (mask[i * 4 + bit] ? 8 >> bit : 0), 0).toString(16)
)).join('');

/** The mask of a text, or `null` if it is none for `count` patches. */
export function maskOf(text, count) {
  if (!/^[0-9a-f]+$/.test(text) || text.length !== Math.ceil(count / 4)) return null;
  return Float32Array.from({ length: count }, (_, i) => (Number.parseInt(text[i >> 2], 16) >> (3 - (i & 3))) & 1);
}
