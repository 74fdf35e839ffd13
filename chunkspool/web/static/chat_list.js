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

/** Return what was sent, null where that is not possible now; tell of one that is refused for good. */
async function attempt(act, onRefused = () => {}) {
  try {
    return await act();
  } catch (error) {
    if (!(error instanceof Refused || error instanceof Unreachable)) throw error;
    if (error.status === 401 || error.status === 403) onRefused();
    return null;
  }
}

export class ChatList {
  #chat;
  #timer;
  #isRefused = false;
  #shown = "";

  constructor(chat) {
    this.#chat = chat;
    toggle.addEventListener("click", () => this.#open(aside.dataset.open !== "true"));
    // Escape closes the list, and stops an answer only when no list is open.
    addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || aside.dataset.open !== "true") return;
      event.stopImmediatePropagation();
      this.#open(false);
      toggle.focus();
    });
    addEventListener("pointerdown", (event) => {
      if (!aside.contains(event.target) && event.target !== toggle) this.#open(false);
    });
    setInterval(() => this.refresh(), REFRESH_MS);
  }

  /** Ask for the list anew, soon. */
  refresh() {
    if (this.#isRefused || document.hidden) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#load(), SETTLE_MS);
  }

  /** Name the chat after its first question. Whoever may ask may do that, also if they see no list. */
  async name(question) {
    const words = question.replace(/[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\s]+/gu, " ").trim();
    const title = words.length > MAX_TITLE ? `${[...words].slice(0, MAX_TITLE - 1).join("")}…` : words;
    await attempt(() => sendTo(`/${encodeURIComponent(this.#chat)}/title`, { method: "PUT", body: { title } }));
    this.refresh();
  }

  async #load() {
    const page = await attempt(
      () => sendTo(`?limit=${SHOWN}`),
      () => {
        this.#isRefused = true;
        toggle.hidden = aside.hidden = true;
      },
    );
    if (!page || JSON.stringify(page.chats) === this.#shown) return;
    this.#shown = JSON.stringify(page.chats);
    const focused = list.contains(document.activeElement) ? document.activeElement.href : undefined;
    list.replaceChildren(...page.chats.map((one) => this.#item(one)));
    // Whoever stands on a link of the old list stands on the same one of the new.
    [...list.querySelectorAll("a")].find((link) => link.href === focused)?.focus();
    toggle.hidden = aside.hidden = page.chats.length === 0;
  }

  #item({ chat_id: chat, title, state, active }) {
    const [item, link, name] = ["li", "a", "span"].map((kind) => document.createElement(kind));
    name.textContent = link.title = title ?? chat;
    name.dir = "auto";
    link.href = addressOf(chat);
    link.append(name);
    if (chat === this.#chat) link.setAttribute("aria-current", "page");
    // The newest question may wait for an answer that is being written.
    const seen = active.length > 1 ? "running" : state;
    const told = active.length || state === "failed" || state === "lost" ? STATES[seen] : undefined;
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
