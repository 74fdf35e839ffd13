// Follow a chat's event stream, for ever: what breaks is connected again after the last seq that was seen.

import { headers, route } from "./address.js";

const SHORTEST_MS = 250;
const LONGEST_MS = 8000;
// Longer than the server is silent: it sends a comment every 15 s.
const SILENCE_MS = 45_000;

/** Split a stream of text into server-sent events: {id, name, data, at}. */
export class Parser {
  #rest = "";

  *take(piece) {
    this.#rest += piece;
    for (let end; (end = this.#rest.indexOf("\n\n")) >= 0; ) {
      const block = this.#rest.slice(0, end);
      this.#rest = this.#rest.slice(end + 2);
      const event = parsed(block);
      if (event.data !== undefined) yield event;
    }
  }
}

function parsed(block) {
  const event = { name: "message" };
  for (const line of block.split("\n")) {
    const colon = line.indexOf(":");
    const value = line.slice(colon + 1).replace(/^ /, "");
    const field = line.slice(0, colon);
    if (field === "id") event.id = Number(value);
    else if (field === "event") event.name = value;
    else if (field === "data") event.data = event.data === undefined ? value : `${event.data}\n${value}`;
    else if (field === "" && value) event.at = Number(value);
  }
  return event;
}

/** The stream of one chat. `seq` is the last one that was handed on. */
export class Events {
  #chat;
  #told;
  #abort = new AbortController();
  #wake = () => {};
  seq;

  /** `told` has onEvent(event), onState("connecting" | "live" | "away"), onGone(problem). */
  constructor(chat, seq, told) {
    this.#chat = chat;
    this.seq = seq;
    this.#told = told;
    addEventListener("online", () => this.#wake());
    addEventListener("offline", () => this.#abort.abort());
    // A phone that was asleep has connections that died without a word.
    addEventListener("pageshow", (event) => event.persisted && this.reconnect());
  }

  /** Drop the connection and make a new one at once. */
  reconnect() {
    this.#abort.abort();
    this.#wake();
  }

  /** Follow until the chat is gone. */
  async run() {
    for (let pause = SHORTEST_MS; ; pause = Math.min(pause * 2, LONGEST_MS)) {
      const before = this.seq;
      try {
        if (await this.#connected()) return;
      } catch (error) {
        if (error instanceof Gone) return this.#told.onGone(error.problem);
        this.#told.onState("away");
      }
      if (this.seq > before) pause = SHORTEST_MS;
      await this.#paused(pause);
    }
  }

  async #connected() {
    this.#abort = new AbortController();
    const address = route(this.#chat, "/events");
    address.search = new URLSearchParams({ after: this.seq, follow: true, times: true });
    const reply = await fetch(address, { headers: headers(), signal: this.#abort.signal, cache: "no-store" });
    if (!reply.ok) throw await refusal(reply);
    this.#told.onState("live");
    const parser = new Parser();
    const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { value, done } = await this.#inTime(reader.read());
      if (done) return false;
      for (const event of parser.take(value)) {
        if (event.name === "problem") throw gone(JSON.parse(event.data));
        if (event.id !== this.seq + 1) return false;
        this.seq = event.id;
        this.#told.onEvent(event);
      }
    }
  }

  async #inTime(reading) {
    const timer = setTimeout(() => this.#abort.abort(), SILENCE_MS);
    try {
      return await reading;
    } finally {
      clearTimeout(timer);
    }
  }

  #paused(ms) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

/** The chat, or the cursor, or the token is no more. */
class Gone extends Error {
  constructor(problem) {
    super(problem.detail);
    this.problem = problem;
  }
}

async function refusal(reply) {
  const problem = await problemOf(reply);
  return gone(problem);
}

function gone(problem) {
  return problem.status >= 500 ? new Error(problem.detail) : new Gone(problem);
}

/** Return the problem document of a reply, or something like one. */
export async function problemOf(reply) {
  try {
    return await reply.json();
  } catch {
    return { status: reply.status, title: reply.statusText, detail: `The server answered ${reply.status}.` };
  }
}
