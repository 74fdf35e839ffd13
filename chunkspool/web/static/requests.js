// Send requests to the routes of a chat: with a time limit, and with errors that a person understands.

import { requestHeaders, routeUrl, urlOfChats } from "./address.js";

// A little more than the server takes by default before it answers 503 itself.
const MAX_WAIT_MS = 15_000;

const TEXTS = {
  "chat-busy": "Another answer is still being written in this chat. Wait for it to end, or stop it.",
  "chat-contended": "Too much is happening in this chat at once. Try again in a moment.",
  "request-id-reused": "This question was sent before with another conversation. Ask it again.",
  "too-large": "This is too long to be sent. Shorten it, or begin a new chat.",
  unauthorized: "Your access has ended. Open this chat again from the page that led you here.",
  forbidden: "You have no permission to do this in this chat.",
  "still-reading": "This chat is very long and is still being read. One moment.",
  "generation-not-found": "This answer is no longer kept.",
  "shutting-down": "The server is restarting. Try again in a moment.",
};

const LIMITS = {
  active: "Too many questions wait in this chat. Wait for an answer, or cancel a question.",
  chat_bytes: "This chat is full. Begin a new one.",
};

/** The request was refused. `status` and `kind` say why to the program, the message to a person. */
export class Refused extends Error {
  constructor(document) {
    const kind = String(document.type ?? "").split(":").pop();
    super(LIMITS[document.limit] ?? TEXTS[kind] ?? fallbackText(document));
    this.status = document.status;
    this.kind = kind;
  }

  /** Whether the same request may succeed later without anybody doing anything. */
  get passes() {
    return this.status >= 500 || this.status === 429 || this.status === 408;
  }
}

/** No reply came: nobody knows whether the server got the request. */
export class Unreachable extends Error {
  constructor() {
    super("The server cannot be reached.");
  }
}

function fallbackText({ status, detail }) {
  if (status === 429) return "Too many requests. Try again in a moment.";
  if (status >= 500) return "The service is not available right now. Try again in a moment.";
  // What is wrong with what was asked, only the server can say: a hook of the app, say, in its own words.
  if (status === 422 && typeof detail === "string" && detail) return `The server refused this: ${detail}`;
  return `The server refused this (${status}).`;
}

/** Return what is wrong by a reply; a proxy may have sent it instead of the server. */
export async function refusalOf(reply) {
  let document = null;
  try {
    document = await reply.json();
  } catch {
    // No JSON: the status has to do.
  }
  return new Refused({ ...(document instanceof Object ? document : {}), status: reply.status });
}

/** Send a request about a chat: see `sendTo`. */
export function send(chat, path, options) {
  return sendTo(routeUrl(chat, path), options);
}

/**
 * Send a request and return the body of its reply, null if it has none. Throws `Refused` or `Unreachable`.
 *
 * `target` is a URL, or what follows that of all chats.
 */
export async function sendTo(target, { method = "GET", body } = {}) {
  let reply, found;
  try {
    reply = await fetch(target instanceof URL ? target : urlOfChats(target), {
      method,
      headers: requestHeaders(body === undefined ? {} : { "content-type": "application/json" }),
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
      // Before the streams of other tabs, should the browser have to choose.
      priority: "high",
      signal: AbortSignal.timeout(MAX_WAIT_MS),
    });
    if (reply.ok) found = reply.status === 204 ? null : await reply.json();
  } catch {
    throw new Unreachable();
  }
  if (!reply.ok) throw await refusalOf(reply);
  return found;
}
