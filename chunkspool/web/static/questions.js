// Remember the questions that were asked in this browser: the log holds only the answers.

const MAX_CHATS = 50;

export class Questions {
  #key;

  constructor(chat) {
    this.#key = `chunkspool:${chat}`;
  }

  /** Return a map from generation id to question. */
  all() {
    try {
      return JSON.parse(localStorage.getItem(this.#key)) ?? {};
    } catch {
      return {};
    }
  }

  remember(generation, question) {
    try {
      localStorage.setItem(this.#key, JSON.stringify({ ...this.all(), [generation]: question }));
      this.#forgetOldChats();
    } catch {
      // The storage is disabled or full: after a reload, only the answers are shown.
    }
  }

  /** Forget the questions of these generations. */
  forget(generations) {
    const kept = Object.entries(this.all()).filter(([generation]) => !generations.includes(generation));
    try {
      if (kept.length) localStorage.setItem(this.#key, JSON.stringify(Object.fromEntries(kept)));
      else localStorage.removeItem(this.#key);
    } catch {
      // The storage is disabled: there is nothing to forget.
    }
  }

  /** Call `onChange` when another tab has stored a question of this chat. */
  watch(onChange) {
    addEventListener("storage", (event) => event.key === this.#key && onChange());
  }

  #forgetOldChats() {
    const keys = Object.keys(localStorage).filter((key) => key.startsWith("chunkspool:"));
    for (const key of keys.slice(0, Math.max(0, keys.length - MAX_CHATS))) {
      if (key !== this.#key) localStorage.removeItem(key);
    }
  }
}
