// Follow a chat's event stream without an end: a broken connection is made again, after the last event that arrived.

import { requestHeaders, routeUrl } from "./address.js";
import { Refused, refusalOf } from "./requests.js";
import { takeSlot } from "./slots.js";
import { EventParser } from "./sse_parser.js";

const MIN_PAUSE_MS = 250;
const MAX_PAUSE_MS = 8000;
// Until the reply begins. A network that swallows everything sends no error, and the browser itself waits for minutes.
const MAX_CONNECT_MS = 15_000;
// A tab that may not hold a stream looks again and again, for a moment.
const GLIMPSE_MS = 250;
const GLIMPSE_PAUSE_MS = 2000;

/** The events of one chat, in order. `seq` is the last one that the listener has received. */
export class ChatFeed {
  #chat;
  #listener;
  #maxSilenceMs;
  #connection = new AbortController();
  #life = new AbortController();
  #silence;
  #endPause = () => {};
  #isWanted = false;
  #cursor;
  seq;

  /**
   * Follow the chat after `seq`, whose `cursor` also says of which log it is.
   *
   * `heartbeatMs` is how long the server is silent at most. `listener` has onEvent(event), onState("live" |
   * "disconnected" | "paused") and onEnd(refusal), which is called when reconnecting would not help.
   */
  constructor(chat, { seq, cursor }, heartbeatMs, listener) {
    this.#chat = chat;
    this.seq = seq;
    this.#cursor = cursor;
    // The server looks four times a heartbeat; the rest is for the way.
    this.#maxSilenceMs = heartbeatMs * 1.5 + 2000;
    this.#listener = listener;
    const { signal } = this.#life;
    addEventListener("online", () => this.reconnect(), { signal });
    addEventListener("offline", () => this.#connection.abort(), { signal });
    // The connections of a page that was frozen (a phone that slept) may have died without any error.
    addEventListener("pageshow", (event) => event.persisted && this.reconnect(), { signal });
    document.addEventListener("visibilitychange", () => this.reconnect(), { signal });
  }

  /** Drop the connection and make a new one at once, if the tab is visible. */
  reconnect() {
    this.#isWanted = true;
    this.#connection.abort();
    this.#endPause();
  }

  /** Drop the connection for good. */
  close() {
    this.#life.abort();
    clearTimeout(this.#silence);
    this.reconnect();
  }

  /** Follow until the server says that it makes no sense to reconnect, or until it is closed. */
  async run() {
    const { signal } = this.#life;
    for (let failures = 0; !signal.aborted; ) {
      if (document.hidden) await this.#waitUntilVisible();
      if (signal.aborted) return;
      this.#isWanted = false;
      const release = await takeSlot();
      const before = this.seq;
      try {
        // Closed or hidden while it waited for that.
        if (signal.aborted || document.hidden) continue;
        await this.#readStream(release === null);
        failures = 0;
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof Refused && !error.passes) {
          this.close();
          return this.#listener.onEnd(error);
        }
        failures = this.seq > before || this.#isWanted ? 0 : failures + 1;
        if (!this.#isWanted) this.#listener.onState("disconnected");
      } finally {
        release?.();
      }
      const pause = Math.min(MIN_PAUSE_MS * 2 ** failures, MAX_PAUSE_MS);
      if (!this.#isWanted) await this.#pause(release ? pause : Math.max(pause, GLIMPSE_PAUSE_MS));
    }
  }

  /**
   * Connect and read until the stream ends, or only what is there if it `isGlimpse`.
   *
   * Throws `Refused`, or any other error that reconnecting may cure.
   */
  async #readStream(isGlimpse) {
    const connection = new AbortController();
    this.#connection = connection;
    let timer = setTimeout(() => connection.abort(), MAX_CONNECT_MS);
    try {
      const reply = await fetch(this.#url(), {
        headers: requestHeaders(),
        signal: connection.signal,
        cache: "no-store",
        // After the questions and stops of all tabs.
        priority: "low",
      });
      if (!reply.ok) throw await refusalOf(reply);
      clearTimeout(timer);
      this.#noteSign();
      const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
      if (isGlimpse) timer = setTimeout(() => reader.cancel(), GLIMPSE_MS);
      await this.#readEvents(reader);
    } finally {
      clearTimeout(timer);
      // Also where it ends of itself, or because of a gap: an unread stream would keep its connection.
      connection.abort();
    }
  }

  async #readEvents(reader) {
    const parser = new EventParser();
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      this.#noteSign();
      for (const event of parser.parse(value)) {
        if (event.name === "problem") throw new Refused(JSON.parse(event.data));
        // A gap or a repetition: ask again from the seq that is known to be right.
        if (event.id !== this.seq + 1) return;
        this.seq = event.id;
        this.#cursor = event.cursor;
        this.#listener.onEvent(event);
      }
    }
  }

  #url() {
    const url = routeUrl(this.#chat, "/events");
    url.search = new URLSearchParams({ after: this.#cursor, follow: true, times: true });
    return url;
  }

  /** Note a sign of life. Without another one in time the connection counts as dead, whatever the browser thinks. */
  #noteSign() {
    this.#listener.onState("live");
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => {
      this.#listener.onState("disconnected");
      this.#connection.abort();
    }, this.#maxSilenceMs);
  }

  async #waitUntilVisible() {
    clearTimeout(this.#silence);
    this.#listener.onState("paused");
    while (document.hidden && !this.#life.signal.aborted) await this.#pause();
  }

  /** Wait for `ms`, or until somebody ends the pause. */
  #pause(ms) {
    return new Promise((resolve) => {
      const timer = ms === undefined ? undefined : setTimeout(resolve, ms);
      this.#endPause = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}
