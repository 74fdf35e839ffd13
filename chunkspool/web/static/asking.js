// Ask: new questions, one after the other, edited questions and other versions of an answer.

import { randomId } from "./address.js";
import { emptyAnswer } from "./answers.js";
import { Refused, Unreachable, send } from "./requests.js";
import { announce } from "./status_line.js";

// Longer than a reply takes unless all connections that the browser makes to a server are taken by streams.
const CROWDED_MS = 1000;
// The model gets the conversation from the log; a question waits for the answers before it.
const WAY = { history: true, on_active: "queue" };

export class Asking {
  #chat;
  #turns;
  #listener;
  #line = Promise.resolve();
  // Questions by the keys of their turns: those of which no reply has come.
  #open = new Map();
  // Generations that were asked for and were not seen in the log yet.
  #unseen = new Set();

  /** `listener` has onChange(), onAsked({ generation, after }) and onCrowded(), which makes room for a request. */
  constructor(chat, turns, listener) {
    this.#chat = chat;
    this.#turns = turns;
    this.#listener = listener;
  }

  /** The generations that were asked for and were not seen in the log yet. */
  get unseen() {
    return [...this.#unseen];
  }

  /** The keys of the turns that stand behind all that the log has. */
  get pending() {
    return [...this.#unseen, ...this.#open.keys()];
  }

  /** Take a new answer of the log for that of a question which asks the same and of which no reply has come. */
  recognize({ generation, asked, replaces }) {
    const isMine = ([, one]) => one.isSent && !replaces && one.question === asked.at(-1)?.content;
    const [key, question] = [...this.#open].find(isMine) ?? [];
    if (key === undefined) return;
    question.generation = generation;
    this.#open.delete(key);
    this.#turns.rename(key, generation);
  }

  /** Note that these generations were seen in the log, or that it has them no more. */
  settle(generations) {
    for (const generation of generations) this.#unseen.delete(generation);
  }

  /** Ask a question. It is shown at once, and sent when those before it were. */
  ask(question) {
    const key = randomId();
    this.#turns.ensure(key).showQuestion(question);
    this.#open.set(key, { question, isSent: false });
    this.#enqueue(question, key);
  }

  /** Ask for another version of an answer; return what went wrong, or "". */
  regenerate(generation, key) {
    return this.#replace(generation, key, {});
  }

  /** Ask a generation's question with another text, which is all that is sent; return what went wrong, or "". */
  edit(generation, text, key) {
    return this.#replace(generation, key, { prompt: text });
  }

  /** Stop a generation, or all that are active; return what went wrong, or "". */
  stop(generation) {
    return this.#attempt(() => this.#post("/stop", generation && { generation }));
  }

  async #replace(generation, key, body) {
    const trouble = await this.#attempt(() =>
      this.#post("/generations", { ...body, ...WAY, replaces: generation, request_id: key }),
    );
    announce(trouble || "Another version was asked for.");
    return trouble;
  }

  #enqueue(question, key) {
    const turn = this.#turns.ensure(key);
    turn.showAnswer(emptyAnswer(key));
    this.#listener.onChange();
    this.#line = this.#line.then(() => this.#send(question, key));
  }

  async #send(question, key) {
    const sent = { question, isSent: true };
    this.#open.set(key, sent);
    let asked;
    const trouble = await this.#attempt(async () => {
      asked = await this.#post("/generations", { prompt: question, ...WAY, request_id: key });
    });
    // Though no reply came, the log may have shown that it was asked.
    if (trouble && this.#open.has(key)) return this.#showFailure(question, key, trouble);
    if (this.#open.delete(key)) {
      this.#turns.rename(key, asked.generation);
      this.#unseen.add(asked.generation);
    }
    announce("The question was sent.");
    this.#listener.onAsked(asked ?? { generation: sent.generation });
  }

  #showFailure(question, key, trouble) {
    // If no reply came, the server may have the question: the very same request is not answered twice.
    this.#turns.ensure(key).showFailure(trouble, () => this.#enqueue(question, key));
    announce(trouble);
  }

  /** Run `act`; return in words what went wrong, or "". */
  async #attempt(act) {
    try {
      await act();
      return "";
    } catch (error) {
      if (!(error instanceof Refused || error instanceof Unreachable)) throw error;
      return error.message;
    }
  }

  /** Send what somebody waits for. If the browser has no connection left, the streams of all tabs make room. */
  async #post(path, body) {
    const makeRoom = setTimeout(() => this.#listener.onCrowded(), CROWDED_MS);
    try {
      return await send(this.#chat, path, { method: "POST", body });
    } finally {
      clearTimeout(makeRoom);
    }
  }
}
