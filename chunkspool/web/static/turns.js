// Show the conversation: one turn a generation, the question above its answer.

import { isActive } from "./answers.js";

const list = document.getElementById("turns");
const turns = new Map();

function made(tag, name, parent) {
  const element = document.createElement(tag);
  element.className = name;
  parent.append(element);
  return element;
}

/** One question with its answer. */
class Turn {
  constructor(key) {
    this.key = key;
    this.item = made("li", "turn", list);
    this.question = made("p", "question", this.item);
    this.question.hidden = true;
    this.answer = made("article", "answer", this.item);
    this.answer.setAttribute("aria-label", "Answer");
    this.note = made("p", "note", this.answer);
    this.note.hidden = true;
    this.details = made("details", "", this.answer);
    made("summary", "", this.details).textContent = "Reasoning";
    this.reasoning = made("p", "reasoning", this.details);
    this.tools = made("ul", "tools", this.answer);
    this.text = made("p", "text", this.answer);
    this.said = document.createTextNode("");
    this.text.append(this.said);
    this.facts = made("p", "facts", this.answer);
  }

  ask(question) {
    this.question.textContent = question;
    this.question.hidden = false;
  }

  /** Show all of an answer. */
  show(answer) {
    // Only what is new is put into the page: thousands of small pieces must not each rewrite the whole text.
    if (answer.text.startsWith(this.said.data)) this.said.appendData(answer.text.slice(this.said.length));
    else this.said.data = answer.text;
    this.details.hidden = !answer.reasoning;
    this.reasoning.textContent = answer.reasoning;
    this.#showTools(answer.tools);
    if (answer.attempt > 1) this.#showRestart(answer);
    // A screen reader waits for the whole answer instead of being interrupted by every word.
    this.answer.setAttribute("aria-busy", String(isActive(answer)));
    this.#showFacts(answer);
  }

  /** Show only the text of an answer that has grown. */
  grow(answer) {
    this.said.appendData(answer.text.slice(this.said.length));
  }

  /** Show that the question did not reach the server, and a way to send it again. */
  fail(message, again) {
    this.answer.setAttribute("aria-busy", "false");
    this.facts.replaceChildren();
    made("span", "failed", this.facts).textContent = message;
    const button = made("button", "again", this.facts);
    button.type = "button";
    button.textContent = "Send again";
    button.addEventListener("click", again);
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
      queued: ["waiting for a worker"],
      running: answer.text ? [] : ["the model is thinking"],
      completed: [],
      stopped: [answer.stopped_by === "user" ? "stopped" : `stopped by ${answer.stopped_by}`],
      failed: [],
    }[answer.state];
    if (answer.reason) facts.push(`“${answer.reason}”`);
    if (answer.finish_reason === "length") facts.push("cut at its greatest length");
    if (!isActive(answer) && answer.model) facts.push(answer.model);
    if (answer.usage) facts.push(`${answer.usage.output_tokens} tokens`);
    this.facts.replaceChildren();
    if (answer.state === "failed") made("span", "failed", this.facts).textContent = answer.error;
    for (const fact of facts) made("span", "", this.facts).textContent = fact;
  }
}

/** Return the turn with this key; make it, as the last one, if there is none. */
export function turnOf(key) {
  if (!turns.has(key)) turns.set(key, new Turn(key));
  return turns.get(key);
}

/** A question that was sent by `key` has become the generation `id`. */
export function becomes(key, id) {
  const asked = turns.get(key);
  turns.delete(key);
  if (turns.has(id)) {
    // Its first event was here before the reply.
    if (asked) {
      asked.item.remove();
      turns.get(id).ask(asked.question.textContent);
    }
  } else if (asked) {
    turns.set(id, asked);
  }
}

/** Keep the end in sight, if the reader is there. */
export function following(change) {
  const page = document.documentElement;
  const atEnd = page.scrollHeight - page.clientHeight - page.scrollTop < 80;
  change();
  if (atEnd) page.scrollTop = page.scrollHeight;
}
