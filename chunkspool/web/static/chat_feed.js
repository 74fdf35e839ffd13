// Follow a chat's event stream without an end: a broken connection is made again, after the last seq that arrived.

import { requestHeaders, routeUrl } from "./address.js";

const MIN_PAUSE_MS = 250;
const MAX_PAUSE_MS = 8000;
// The server sends at least a comment every 15 s, so a longer silence means that the connection is dead.
const MAX_SILENCE_MS = 45_000;

/** Splits the text of a stream into server-sent events: {id, name, data, at}. */
class EventParser {
  #rest = "";

  /** Yield the events that `piece` completes. */
  *parse(piece) {
    this.#rest += piece;
    for (let end; (end = this.#rest.indexOf("\n\n")) >= 0; ) {
      const block = this.#rest.slice(0, end);
      this.#rest = this.#rest.slice(end + 2);
      const event = parseBlock(block);
      if (event.data !== undefined) yield event;
    }
  }
}

function parseBlock(block) {
  const event = { name: "message" };
  for (const line of block.split("\n")) {
    const colon = line.indexOf(":");
    const value = line.slice(colon + 1).replace(/^ /, "");
    const field = line.slice(0, colon);
    // `<seq>.<what proves the log>`: the server tells by it whether the log still is the one that was read.
    if (field === "id") Object.assign(event, { id: parseInt(value, 10), cursor: value });
    else if (field === "event") event.name = value;
    else if (field === "data") event.data = event.data === undefined ? value : `${event.data}\n${value}`;
    // A comment: with `times=true` it is the time at which the event was written.
    else if (field === "" && value) event.at = Number(value);
  }
  return event;
}

/** The events of one chat, in order. `seq` is the last one that the listener has received. */
export class ChatFeed {
  #chat;
  #listener;
  #abort = new AbortController();
  #endPause = () => {};
  #cursor;
  seq;

  /** `listener` has onEvent(event), onState("live" | "disconnected") and onEnd(problem). */
  constructor(chat, seq, listener) {
    this.#chat = chat;
    this.seq = seq;
    this.#cursor = seq;
    this.#listener = listener;
    addEventListener("online", () => this.#endPause());
    addEventListener("offline", () => this.#abort.abort());
    // The connections of a page that was frozen (a phone that slept) may have died without any error.
    addEventListener("pageshow", (event) => event.persisted && this.reconnect());
  }

  /** Drop the connection and make a new one at once. */
  reconnect() {
    this.#abort.abort();
    this.#endPause();
  }

  /** Follow until the server says that it makes no sense to reconnect. */
  async run() {
    for (let pause = MIN_PAUSE_MS; ; pause = Math.min(pause * 2, MAX_PAUSE_MS)) {
      const before = this.seq;
      try {
        await this.#readStream();
      } catch (error) {
        if (error instanceof FeedEnded) return this.#listener.onEnd(error.problem);
        this.#listener.onState("disconnected");
      }
      if (this.seq > before) pause = MIN_PAUSE_MS;
      await this.#pause(pause);
    }
  }

  /** Connect and read until the stream ends. Throws `FeedEnded`, or any other error that reconnecting may cure. */
  async #readStream() {
    this.#abort = new AbortController();
    const url = routeUrl(this.#chat, "/events");
    url.search = new URLSearchParams({ after: this.#cursor, follow: true, times: true });
    const reply = await fetch(url, { headers: requestHeaders(), signal: this.#abort.signal, cache: "no-store" });
    if (!reply.ok) throw errorOf(await readProblem(reply));
    this.#listener.onState("live");
    const parser = new EventParser();
    const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { value, done } = await this.#abortOnSilence(reader.read());
      if (done) return;
      for (const event of parser.parse(value)) {
        if (event.name === "problem") throw errorOf(JSON.parse(event.data));
        // A gap or a repetition: ask again from the seq that is known to be right.
        if (event.id !== this.seq + 1) return;
        this.seq = event.id;
        this.#cursor = event.cursor;
        this.#listener.onEvent(event);
      }
    }
  }

  async #abortOnSilence(reading) {
    const timer = setTimeout(() => this.#abort.abort(), MAX_SILENCE_MS);
    try {
      return await reading;
    } finally {
      clearTimeout(timer);
    }
  }

  #pause(ms) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#endPause = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

/** Reconnecting would not help: the chat does not exist, the cursor has expired, or access is denied. */
class FeedEnded extends Error {
  constructor(problem) {
    super(problem.detail);
    this.problem = problem;
  }
}

function errorOf(problem) {
  return problem.status >= 500 ? new Error(problem.detail) : new FeedEnded(problem);
}

/** Return the problem document of a reply, or a substitute if a proxy answered with something else. */
export async function readProblem(reply) {
  try {
    return await reply.json();
  } catch {
    return { status: reply.status, title: reply.statusText, detail: `The server answered ${reply.status}.` };
  }
}
