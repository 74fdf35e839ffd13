// Show the conversation: its turns, one per generation that is looked at, in order.

import { Turn } from "./turn.js";

const list = document.getElementById("turns");

export class Turns {
  #listener;
  #turns = new Map();

  /** `listener` is that of each turn. */
  constructor(listener) {
    this.#listener = listener;
  }

  /** Return the turn with this key; if there is none, make one. It is shown when it is arranged. */
  ensure(key) {
    if (!this.#turns.has(key)) this.#turns.set(key, new Turn(this.#listener));
    return this.#turns.get(key);
  }

  /** Return the key of a turn that is shown and whose question somebody edits, if any. */
  get edited() {
    return [...this.#turns].find(([, turn]) => turn.isEdited && turn.item.isConnected)?.[0];
  }

  /** Show exactly the turns with these keys, in this order. */
  arrange(keys) {
    const items = keys.map((key) => this.ensure(key).item);
    const wanted = new Set(items);
    const shown = [...list.children];
    const focused = shown.findIndex((item) => item.contains(document.activeElement));
    const keepsFocus = focused < 0 || wanted.has(shown[focused]);
    for (const item of shown) if (!wanted.has(item)) item.remove();
    let next = list.firstElementChild;
    for (const item of items) {
      if (item === next) next = next.nextElementSibling;
      else list.insertBefore(item, next);
    }
    // The keyboard goes on at the version that has taken its place.
    if (!keepsFocus && items.length) focus(items[Math.min(focused, items.length - 1)]);
  }

  /** Remove the turns with these keys for good. */
  remove(keys) {
    for (const key of keys) {
      this.#turns.get(key)?.item.remove();
      this.#turns.delete(key);
    }
  }

  /** Give the turn of a question that was sent as `key` the id of the generation that answers it. */
  rename(key, generation) {
    const sent = this.#turns.get(key);
    // The first event may have come before the reply to the POST, and have made a turn: that one is kept.
    if (this.#turns.has(generation)) return this.remove([key]);
    this.#turns.delete(key);
    this.#turns.set(generation, sent);
  }

  /** Show the texts of all turns at once: their full heights. */
  flush() {
    for (const turn of this.#turns.values()) turn.text.flush();
  }

  /** Let the keyboard go on at the first turn, without scrolling. */
  focusFirst() {
    if (list.firstElementChild) focus(list.firstElementChild);
  }
}

function focus(item) {
  item.tabIndex = -1;
  item.focus({ preventScroll: true });
}
