// The switch between the versions of an answer. It changes what is looked at, not what counts.

import { appendElement } from "./elements.js";

export class VersionSwitch {
  #versions = [];
  #at = 0;

  /** `onChoose(generation, from, element)` is told which version is to be shown, by which button of which switch. */
  constructor(parent, onChoose) {
    const choose = (step, from) => onChoose(this.#versions[this.#at + step], from, this.element);
    this.element = appendElement("span", "versions", parent, { role: "group", ariaLabel: "Versions", hidden: true });
    this.buttons = { previous: this.#appendButton("‹", "Previous version"), next: null };
    this.place = appendElement("span", "", this.element, { ariaHidden: "true" });
    this.buttons.next = this.#appendButton("›", "Next version");
    this.note = appendElement("span", "", parent, { hidden: true });
    this.buttons.previous.addEventListener("click", () => choose(-1, "previous"));
    this.buttons.next.addEventListener("click", () => choose(1, "next"));
  }

  /** Show that `versions` has `generation` shown; `counted` is the one that the conversation goes on with, if any is. */
  show(versions, generation, counted) {
    this.#versions = versions;
    this.#at = versions.indexOf(generation);
    this.element.hidden = versions.length < 2;
    this.element.ariaLabel = this.text;
    this.place.textContent = `${this.#at + 1}/${versions.length}`;
    this.buttons.previous.disabled = this.#at === 0;
    this.buttons.next.disabled = this.#at === versions.length - 1;
    this.note.hidden = counted === undefined || counted === generation;
    this.note.textContent = `the conversation goes on with version ${versions.indexOf(counted) + 1}`;
  }

  /** What it shows, in words. */
  get text() {
    return `Version ${this.#at + 1} of ${this.#versions.length}`;
  }

  /** Let the keyboard go on at the button by which this version was reached, or at the other one. */
  focus(name) {
    const { previous, next } = this.buttons;
    const button = this.buttons[name].disabled ? (name === "next" ? previous : next) : this.buttons[name];
    button.focus({ preventScroll: true });
  }

  #appendButton(text, label) {
    const button = appendElement("button", "again", this.element, { type: "button", textContent: text });
    button.setAttribute("aria-label", label);
    return button;
  }
}
