// Remember what was asked in this browser: the log holds the answers, and the questions are the app's own.

const MOST_CHATS = 50;

export class Questions {
  #key;

  constructor(chat) {
    this.#key = `chunkspool:${chat}`;
  }

  /** Return generation id → question. */
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
      this.#forgetOld();
    } catch {
      // No storage, or a full one: a reload then shows the answers alone.
    }
  }

  /** Call `changed` when another tab has asked something. */
  watch(changed) {
    addEventListener("storage", (event) => event.key === this.#key && changed());
  }

  #forgetOld() {
    const kept = Object.keys(localStorage).filter((key) => key.startsWith("chunkspool:"));
    for (const key of kept.slice(0, Math.max(0, kept.length - MOST_CHATS))) {
      if (key !== this.#key) localStorage.removeItem(key);
    }
  }
}
