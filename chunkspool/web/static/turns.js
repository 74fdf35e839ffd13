// Show the conversation: one turn per generation, with the question above its answer.

import { isActive, reasonOfCut, reasonOfEmptiness } from "./answers.js";
import { MarkdownView } from "./markdown.js";

const list = document.getElementById("turns");
const turns = new Map();

function appendElement(tag, className, parent) {
  const element = document.createElement(tag);
  element.className = className;
  parent.append(element);
  return element;
}

/** One question with its answer. */
class Turn {
  constructor() {
    this.item = appendElement("li", "turn", list);
    this.question = appendElement("p", "question", this.item);
    this.question.hidden = true;
    this.answer = appendElement("article", "answer", this.item);
    this.answer.setAttribute("aria-label", "Answer");
    this.note = appendElement("p", "note", this.answer);
    this.note.hidden = true;
    this.details = appendElement("details", "", this.answer);
    appendElement("summary", "", this.details).textContent = "Reasoning";
    this.reasoning = appendElement("p", "reasoning", this.details);
    this.tools = appendElement("ul", "tools", this.answer);
    this.text = new MarkdownView(appendElement("div", "text", this.answer), keepEndInView);
    this.facts = appendElement("p", "facts", this.answer);
  }

  /** Put it last: turns stand in the order of the log, also one whose question was sent before others' and came late. */
  moveToEnd() {
    if (this.item !== list.lastElementChild) list.append(this.item);
  }

  /** Put it first, because it is older than all that are shown, at its full height: what is in view must not move. */
  moveToStart() {
    list.prepend(this.item);
    this.text.flush();
  }

  showQuestion(question) {
    this.question.textContent = question;
    this.question.hidden = false;
  }

  /** Show all of an answer. */
  showAnswer(answer) {
    this.showText(answer);
    this.details.hidden = !answer.reasoning;
    this.reasoning.textContent = answer.reasoning;
    this.#showTools(answer.tools);
    if (answer.attempt > 1) this.#showRestart(answer);
    // While it is busy, a screen reader waits for the whole answer and is not interrupted by every word.
    this.answer.setAttribute("aria-busy", String(isActive(answer)));
    this.#showFacts(answer);
  }

  /** Show only the text of an answer. */
  showText(answer) {
    this.text.show(answer.text);
  }

  /** Show that the question was not sent, and a button that calls `retry`. */
  showFailure(message, retry) {
    this.answer.setAttribute("aria-busy", "false");
    this.facts.replaceChildren();
    appendElement("span", "failed", this.facts).textContent = message;
    const button = appendElement("button", "again", this.facts);
    button.type = "button";
    button.textContent = "Send again";
    button.addEventListener("click", retry);
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

  #showRestart(answer) {
    this.note.hidden = false;
    this.note.textContent = `Another worker took over: attempt ${answer.attempt}.`;
  }

  #showFacts(answer) {
    const facts = {
      queued: [describeWaiting(answer.waiting)],
      running: answer.text ? [] : ["the model is thinking"],
      completed: [],
      stopped: [answer.stopped_by === "user" ? "stopped" : `stopped by ${answer.stopped_by}`],
      failed: [],
    }[answer.state];
    if (answer.reason) facts.push(`“${answer.reason}”`);
    const emptiness = reasonOfEmptiness(answer);
    if (!emptiness && reasonOfCut(answer)) facts.push(reasonOfCut(answer));
    if (!isActive(answer) && answer.model) facts.push(answer.model);
    if (answer.usage) facts.push(`${answer.usage.output_tokens} tokens`);
    this.facts.replaceChildren();
    const trouble = answer.state === "failed" ? answer.error : emptiness;
    if (trouble) appendElement("span", "failed", this.facts).textContent = trouble;
    for (const fact of facts) appendElement("span", "", this.facts).textContent = fact;
  }
}

/** Say how long a question waits, as far as the server knows. */
function describeWaiting(waiting) {
  if (!waiting) return "waiting for a worker";
  const others = { 0: "next in line", 1: "one is before it" }[waiting.ahead] ?? `${waiting.ahead} are before it`;
  const seconds = waiting.wait === null ? "" : `, about ${Math.max(1, Math.round(waiting.wait))} s`;
  return `waiting for a worker: ${others}${seconds}`;
}

/** Remove the turns of these generations: their chat is gone. */
export function removeTurns(generations) {
  for (const generation of generations) {
    turns.get(generation)?.item.remove();
    turns.delete(generation);
  }
}

/** Return the turn with this key; if there is none, append one. */
export function ensureTurn(key) {
  if (!turns.has(key)) turns.set(key, new Turn());
  return turns.get(key);
}

/** Let the keyboard go on at the turn with this key, without scrolling. */
export function focusTurn(key) {
  const { item } = ensureTurn(key);
  item.tabIndex = -1;
  item.focus({ preventScroll: true });
}

/** Give the turn of a question that was sent as `key` the id of the generation that answers it. */
export function renameTurn(key, generation) {
  const sent = turns.get(key);
  turns.delete(key);
  if (turns.has(generation)) {
    // The first event came before the reply to the POST and has already made a turn: keep that one.
    if (sent) {
      sent.item.remove();
      turns.get(generation).showQuestion(sent.question.textContent);
    }
  } else if (sent) {
    turns.set(generation, sent);
  }
}

/** Run `change`, which may make the page longer; scroll along if the end was in view. */
export function keepEndInView(change) {
  const page = document.documentElement;
  const atEnd = page.scrollHeight - page.clientHeight - page.scrollTop < 80;
  change();
  if (atEnd) page.scrollTop = page.scrollHeight;
}
