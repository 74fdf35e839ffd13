// Earlier answers: the page begins with the newest of a chat, and shows those in front of them when it is asked to.

import { Refused, Unreachable, send } from "./requests.js";
import { keepDistanceFromEnd } from "./scrolling.js";
import { announce } from "./status_line.js";

// Answers of one page.
export const PAGE = 30;
const ENDINGS = new Set(["generation.completed", "generation.stopped", "generation.failed"]);
const BEGINNINGS = new Set(["message", "generation.queued"]);
const button = document.getElementById("earlier");

/** What stands in front of the answers that are shown. */
export class Earlier {
  #chat;
  #listener;
  #before = null;
  // Those that are being written and are not shown.
  #active = new Set();
  // Events of answers that are not shown, while these are being loaded; else null.
  #missed = null;
  // Each reload of the chat makes what is still on its way useless.
  #epoch = 0;

  /** `listener` has onPage(snapshot), onEvent(seq, event), onChange(), and onAll(), where nothing is left to load. */
  constructor(chat, listener) {
    this.#chat = chat;
    this.#listener = listener;
    button.addEventListener("click", () => this.#load());
  }

  /** How many answers are active that are not shown. */
  get active() {
    return this.#active.size;
  }

  /** Begin with what a snapshot has; null: with nothing. */
  begin(snapshot) {
    this.#epoch += 1;
    this.#missed = null;
    this.#active = new Set(snapshot?.active);
    this.#take(snapshot);
  }

  /** Take an event of an answer that is not shown; return whether it belongs to an earlier one. */
  takes(seq, event) {
    // An answer begins with what it was asked, or with that it waits: what begins otherwise has begun before.
    if (this.#before === null || BEGINNINGS.has(event.type)) return false;
    this.#missed?.push([seq, event]);
    if (ENDINGS.has(event.type) && this.#active.delete(event.generation)) this.#listener.onChange();
    return true;
  }

  #take(snapshot) {
    this.#before = snapshot?.before ?? null;
    for (const { generation } of snapshot?.answers ?? []) this.#active.delete(generation);
    button.hidden = this.#before === null;
  }

  async #load() {
    if (this.#missed) return;
    const epoch = this.#epoch;
    // Whatever comes before the reply may be in it or not: its seq will tell.
    this.#missed = [];
    // Disabled, it would lose the focus.
    button.setAttribute("aria-busy", "true");
    try {
      const page = await send(this.#chat, `?limit=${PAGE}&before=${this.#before}`);
      if (epoch === this.#epoch) this.#show(page);
    } catch (error) {
      if (!(error instanceof Refused || error instanceof Unreachable)) throw error;
      announce(error.message);
    } finally {
      button.removeAttribute("aria-busy");
      if (epoch === this.#epoch) this.#missed = null;
    }
  }

  #show(page) {
    const missed = this.#missed;
    const hadFocus = document.activeElement === button;
    this.#take(page);
    keepDistanceFromEnd(() => {
      this.#listener.onPage(page);
      for (const [seq, event] of missed) this.#listener.onEvent(seq, event);
    });
    if (button.hidden && hadFocus) this.#listener.onAll();
    announce(`${page.answers.length} earlier answers are shown.`);
  }
}
