// The list of chats beside the conversation, for those who may see one: the one that was asked last first.

import { addressOf } from "./address.js";
import { Refused, Unreachable, sendTo } from "./requests.js";

const REFRESH_MS = 15_000;
const SHOWN = 50;
const MAX_TITLE = 60;
// So that many events in a row cost one request.
const SETTLE_MS = 300;
const STATES = { queued: "waiting", running: "answering", stalled: "answering", failed: "failed", lost: "failed" };

const aside = document.getElementById("chats");
const list = document.getElementById("chat-list");
const toggle = document.getElementById("show-chats");

export class ChatList {
  #chat;
  #timer;
  #isRefused = false;

  constructor(chat) {
    this.#chat = chat;
    toggle.addEventListener("click", () => this.#open(aside.dataset.open !== "true"));
    addEventListener("keydown", (event) => event.key === "Escape" && this.#open(false));
    setInterval(() => this.refresh(), REFRESH_MS);
  }

  /** Ask for the list anew, soon. */
  refresh() {
    if (this.#isRefused || document.hidden) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#load(), SETTLE_MS);
  }

  /** Name the chat after its first question. */
  async name(question) {
    if (this.#isRefused) return;
    const words = question.replace(/[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\s]+/gu, " ").trim();
    const title = words.length > MAX_TITLE ? `${[...words].slice(0, MAX_TITLE - 1).join("")}…` : words;
    await this.#try(() => sendTo(`/${encodeURIComponent(this.#chat)}/title`, { method: "PUT", body: { title } }));
    this.refresh();
  }

  async #load() {
    const page = await this.#try(() => sendTo(`?limit=${SHOWN}`));
    if (!page) return;
    list.replaceChildren(...page.chats.map((one) => this.#item(one)));
    toggle.hidden = aside.hidden = page.chats.length === 0;
  }

  /** Return what was sent, null where that is not possible now. Who may see no list sees none. */
  async #try(act) {
    try {
      return await act();
    } catch (error) {
      if (!(error instanceof Refused || error instanceof Unreachable)) throw error;
      if (error.status === 401 || error.status === 403) {
        this.#isRefused = true;
        toggle.hidden = aside.hidden = true;
      }
      return null;
    }
  }

  #item({ chat_id: chat, title, state, active }) {
    const [item, link, name] = ["li", "a", "span"].map((kind) => document.createElement(kind));
    name.textContent = link.title = title ?? chat;
    name.dir = "auto";
    link.href = addressOf(chat);
    link.append(name);
    if (chat === this.#chat) link.setAttribute("aria-current", "page");
    const told = active.length || state === "failed" || state === "lost" ? STATES[state] : undefined;
    if (told) {
      const mark = document.createElement("small");
      mark.dataset.state = told;
      mark.textContent = told;
      link.append(mark);
    }
    item.append(link);
    return item;
  }

  #open(isOpen) {
    aside.dataset.open = String(isOpen);
    toggle.setAttribute("aria-expanded", String(isOpen));
    if (isOpen) aside.querySelector("a")?.focus();
  }
}
