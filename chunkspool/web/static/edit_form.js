// The form in which a question is edited, in its place.

import { randomId } from "./address.js";
import { appendButton, appendElement, whileBusy } from "./elements.js";

/** Shown below `anchor`, which it hides until it is closed. */
export class EditForm {
  #anchors;
  #onClose;
  #send;
  // The same text is sent with the same key: if no reply came, it may have been asked.
  #sent = {};

  /**
   * Open it with `text`. `send(text, key)` sends what is written and returns what went wrong, or "".
   *
   * `anchors` are the elements that it stands for; `onClose(isSent)` is called when it is gone.
   */
  constructor(text, anchors, { send, onClose }) {
    this.#anchors = anchors;
    this.#send = send;
    this.#onClose = onClose;
    this.form = document.createElement("form");
    this.form.className = "editing";
    this.field = appendElement("textarea", "", this.form, { value: text, rows: 1, maxLength: 100_000 });
    this.field.setAttribute("aria-label", "Edit the question");
    const buttons = appendElement("p", "actions", this.form);
    this.trouble = appendElement("span", "failed", buttons);
    appendButton("Cancel", buttons, () => this.#close(false), "Cancel the edit");
    this.button = appendElement("button", "again", buttons, { type: "submit", textContent: "Send" });
    this.button.setAttribute("aria-label", "Send the edited question");
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.form.addEventListener("keydown", (event) => this.#onKey(event));
    anchors.at(-1).after(this.form);
    for (const anchor of anchors) anchor.hidden = true;
    this.field.focus();
  }

  #onKey(event) {
    if (event.key === "Escape") {
      // It closes this form, and stops no answer.
      event.stopPropagation();
      this.#close(false);
    }
    if (event.target !== this.field || event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    this.#submit();
  }

  async #submit() {
    const text = this.field.value.trim();
    if (!text) return;
    await whileBusy(this.button, async () => {
      if (this.#sent.text !== text) this.#sent = { text, key: randomId() };
      this.trouble.textContent = await this.#send(text, this.#sent.key);
      if (!this.trouble.textContent) this.#close(true);
    });
  }

  #close(isSent) {
    this.form.remove();
    for (const anchor of this.#anchors) anchor.hidden = false;
    this.#onClose(isSent);
  }
}
