// Show one turn: what was asked above the answer, and what may be done with both.

import { randomId } from "./address.js";
import { isActive, reasonOfCut, reasonOfEmptiness } from "./answers.js";
import { EditForm } from "./edit_form.js";
import { appendButton, appendElement, whileBusy } from "./elements.js";
import { MarkdownView } from "./markdown.js";
import { appendMessage, textOf } from "./messages.js";
import { keepEndInView } from "./scrolling.js";
import { VersionSwitch } from "./version_switch.js";

export class Turn {
  #listener;
  #generation;
  #messages = [];
  #isKept = false;
  #form = null;
  // The same click is sent with the same key: if no reply came, the other version may have been asked for.
  #key;

  /**
   * `listener` has onVersion(generation, from, element), onCancel(generation), and what returns what went wrong, or "":
   * onRegenerate(generation, key) and onEdit(generation, text, key).
   */
  constructor(listener) {
    this.#listener = listener;
    this.item = appendElement("li", "turn", document.createDocumentFragment());
    this.asked = appendElement("div", "asked", this.item);
    this.questionActions = appendElement("p", "actions", this.item, { hidden: true });
    this.edit = appendButton("Edit", this.questionActions, () => this.#openForm(), "Edit the question");
    this.answer = appendElement("article", "answer", this.item, { ariaLabel: "Answer" });
    this.note = appendElement("p", "note", this.answer, { hidden: true });
    this.details = appendElement("details", "", this.answer);
    appendElement("summary", "", this.details, { textContent: "Reasoning" });
    this.reasoning = appendElement("p", "reasoning", this.details);
    this.tools = appendElement("ul", "tools", this.answer);
    this.text = new MarkdownView(appendElement("div", "text", this.answer), keepEndInView);
    const foot = appendElement("div", "foot", this.answer);
    this.facts = appendElement("p", "facts", foot);
    this.versions = new VersionSwitch(foot, listener.onVersion);
    this.regenerate = appendButton("Regenerate", foot, () => this.#regenerate(), "Regenerate the answer");
    this.cancel = appendButton("Cancel", foot, () => this.#cancel(), "Cancel this question");
    this.regenerate.hidden = this.cancel.hidden = true;
  }

  /** Whether somebody edits the question. */
  get isEdited() {
    return this.#form !== null;
  }

  /** Show a question that was not sent yet. */
  showQuestion(question) {
    this.#showMessages([{ role: "user", content: question }]);
  }

  /** Show where the answer stands in the conversation. `counted` is the version that counts, if any of them does. */
  showPlace({ answer: generation, messages, versions }, counted) {
    this.#generation = generation;
    // Where the log keeps no messages, what was asked here stands until the page is left.
    this.#isKept = messages.length > 0;
    if (this.#isKept) this.#showMessages(messages);
    this.questionActions.hidden = this.isEdited || messages.at(-1)?.role !== "user";
    this.versions.show(versions, generation, counted);
  }

  /** Show all of an answer. */
  showAnswer(answer) {
    this.showText(answer);
    this.details.hidden = !answer.reasoning;
    this.reasoning.textContent = answer.reasoning;
    this.#showTools(answer.tools);
    this.note.hidden = answer.attempt < 2;
    this.note.textContent = `Another worker took over: attempt ${answer.attempt}.`;
    // While it is busy, a screen reader waits for the whole answer and is not interrupted by every word.
    this.answer.ariaBusy = String(isActive(answer));
    this.answer.toggleAttribute("data-behind", answer.state === "queued" && answer.behind > 0);
    // What the log does not have cannot be asked again.
    this.regenerate.hidden = isActive(answer) || !this.#isKept;
    this.cancel.hidden = !answer.isOneOfMany || answer.state !== "queued";
    this.#showFacts(answer);
  }

  /** Show only the text of an answer. */
  showText(answer) {
    this.text.show(answer.text);
  }

  /** Show that the question was not sent, and a button that calls `retry`. */
  showFailure(message, retry) {
    this.answer.ariaBusy = "false";
    this.#showTrouble(message);
    appendButton("Send again", this.facts, retry);
  }

  #showTrouble(message) {
    this.facts.replaceChildren();
    appendElement("span", "failed", this.facts, { textContent: message });
  }

  #showMessages(messages) {
    if (messages === this.#messages || this.isEdited) return;
    this.#messages = messages;
    this.asked.replaceChildren();
    for (const message of messages) appendMessage(message, this.asked);
  }

  #openForm() {
    this.#form = new EditForm(textOf(this.#messages.at(-1)), [this.asked.lastElementChild, this.questionActions], {
      send: (text, key) => this.#listener.onEdit(this.#generation, text, key),
      onClose: (isSent) => {
        this.#form = null;
        if (!isSent) this.edit.focus({ preventScroll: true });
      },
    });
  }

  async #regenerate() {
    await whileBusy(this.regenerate, async () => {
      this.#key ??= randomId();
      const trouble = await this.#listener.onRegenerate(this.#generation, this.#key);
      if (trouble) this.#showTrouble(trouble);
      else this.#key = undefined;
    });
  }

  #cancel() {
    return whileBusy(this.cancel, () => this.#listener.onCancel(this.#generation));
  }

  #showTools(tools) {
    this.tools.hidden = tools.length === 0;
    this.tools.replaceChildren(
      ...tools.map((tool) => {
        const line = document.createElement("li");
        const output = tool.output === null ? "" : ` → ${JSON.stringify(tool.output)}`;
        line.textContent = `${tool.name}(${tool.arguments})${output}`;
        return line;
      }),
    );
  }

  #showFacts(answer) {
    const facts = {
      queued: [describeWaiting(answer)],
      running: answer.text ? [] : ["the model is thinking"],
      completed: [],
      stopped: [describeStop(answer)],
      failed: [],
    }[answer.state];
    if (answer.reason) facts.push(`“${answer.reason}”`);
    const emptiness = reasonOfEmptiness(answer);
    if (!emptiness && reasonOfCut(answer)) facts.push(reasonOfCut(answer));
    if (!isActive(answer) && answer.model) facts.push(answer.model);
    if (answer.usage) facts.push(`${answer.usage.output_tokens} tokens`);
    this.facts.replaceChildren();
    const trouble = answer.state === "failed" ? answer.error : emptiness;
    if (trouble) appendElement("span", "failed", this.facts, { textContent: trouble });
    for (const fact of facts) appendElement("span", "", this.facts, { textContent: fact });
  }
}

function describeStop({ stopped_by: by, attempt }) {
  if (by !== "user") return `stopped by ${by}`;
  return attempt ? "stopped" : "cancelled before it began";
}

/** Say for what a question waits, and how long as far as the server knows. */
function describeWaiting({ waiting, behind }) {
  if (behind) return `waiting for the ${behind === 1 ? "answer" : `${behind} answers`} before it`;
  if (!waiting) return "waiting for a worker";
  const others = { 0: "next in line", 1: "one is before it" }[waiting.ahead] ?? `${waiting.ahead} are before it`;
  const seconds = waiting.wait === null ? "" : `, about ${Math.max(1, Math.round(waiting.wait))} s`;
  return `waiting for a worker: ${others}${seconds}`;
}
