// Run the AI SDK's own client against the routes: `node client.mjs URL SCENARIO` prints its final state as JSON.
import { AbstractChat, DefaultChatTransport, readUIMessageStream } from "ai";

const [url, scenario] = process.argv.slice(2);
const api = `${url}/api/chat`;

/** The chat's state, which useChat keeps in React. */
class State {
  constructor(messages) {
    this.messages = messages;
  }
  status = "ready";
  error = undefined;
  pushMessage = (message) => this.messages.push(structuredClone(message));
  popMessage = () => this.messages.pop();
  replaceMessage = (index, message) => (this.messages[index] = structuredClone(message));
  snapshot = (value) => structuredClone(value);
}

/** A chat without React: useChat is built on the same class. */
class Chat extends AbstractChat {
  constructor(id, messages = []) {
    super({ id, transport: new DefaultChatTransport({ api }), state: new State(messages), onError: () => {} });
  }
}

const textOf = (message) => message.parts.filter((part) => part.type === "text").map((part) => part.text);
const withoutVoidParts = (message) => ({
  ...message,
  parts: message.parts.slice(message.parts.findLastIndex((part) => part.type === "data-chunkspool-restart") + 1),
});
const summaryOf = (chat) => ({
  status: chat.status,
  error: chat.error?.message,
  roles: chat.messages.map((message) => message.role),
  texts: textOf(chat.messages.at(-1)),
  valid: textOf(withoutVoidParts(chat.messages.at(-1))),
  metadata: chat.messages.at(-1).metadata,
});

const waitUntil = async (condition) => {
  const deadline = Date.now() + 60_000;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`did not happen within a minute: ${condition}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
};

const countingSlowly = (words) => ({
  body: { params: { pace: 0.02, script: [...Array(words).keys()].map((n) => ({ text: `${n} ` })) } },
});
const hasSaid = (chat, word) => () => {
  const last = chat.messages.at(-1);
  return last?.role === "assistant" && textOf(last).join("").includes(word);
};

const scenarios = {
  /** Send a message; after its answer send another one, with the history. */
  async send() {
    const chat = new Chat("send");
    await chat.sendMessage({ text: "hello there" });
    const first = summaryOf(chat);
    await chat.sendMessage({ text: "once more" });
    return { first, second: summaryOf(chat) };
  },

  /** Hang up in mid-answer, then resume: in a new client, as after a reload, and in the same client. */
  async resume() {
    const chat = new Chat("resume");
    const sent = chat.sendMessage({ text: "count" }, countingSlowly(80));
    await waitUntil(hasSaid(chat, "10 "));
    await chat.stop();
    await sent;
    const dropped = summaryOf(chat);
    const reloaded = new Chat("resume", chat.messages.slice(0, 1));
    await Promise.all([reloaded.resumeStream(), chat.resumeStream()]);
    const idle = new Chat("resume", chat.messages.slice(0, 1));
    await idle.resumeStream();
    return { dropped, reloaded: summaryOf(reloaded), sameClient: summaryOf(chat), idle: summaryOf(idle) };
  },

  /** Call the stop route in mid-answer; the client's stream ends. */
  async stop() {
    const chat = new Chat("stop");
    const endless = { pace: 0.02, script: [{ text: "again ", repeat: 100_000 }] };
    const sent = chat.sendMessage({ text: "go on" }, { body: { params: endless } });
    await waitUntil(hasSaid(chat, "again again"));
    const reply = await fetch(`${api}/stop/stop`, { method: "POST" });
    await sent;
    return { code: reply.status, chat: summaryOf(chat) };
  },

  /** In mid-answer, ask the test (by a line on stderr) to kill the worker; stay connected until the end. */
  async restart() {
    const chat = new Chat("restart");
    const sent = chat.sendMessage({ text: "count" }, countingSlowly(80));
    await waitUntil(hasSaid(chat, "10 "));
    console.error("kill");
    await sent;
    return summaryOf(chat);
  },

  /** Read tools, reasoning and app data with the SDK's reader of raw streams. */
  async parts() {
    const script = [{ reasoning: "hm" }, { tool_call: { id: "1", name: "clock", arguments: '{"zone":"UTC"}' } }, { text: "noon" }, { usage: [3, 4] }];
    const messages = [{ id: "m1", role: "user", parts: [{ type: "text", text: "what time is it?" }] }];
    const transport = new DefaultChatTransport({ api, body: { params: { script } } });
    const stream = await transport.sendMessages({ chatId: "parts", messages, trigger: "submit-message" });
    let last;
    for await (const message of readUIMessageStream({ stream, terminateOnError: true })) last = message;
    return last;
  },

  /** Let the model fail, then a route: the client's error has the server's message. */
  async fail() {
    const failing = new Chat("fail");
    const fail = { code: "overloaded", message: "The model is overloaded.", retryable: true };
    await failing.sendMessage({ text: "x" }, { body: { params: { script: [{ text: "so far" }, { fail }] } } });
    const refused = new Chat("not/an/id");
    await refused.sendMessage({ text: "x" });
    return { failing: summaryOf(failing), refused: { status: refused.status, error: refused.error.message } };
  },
};

console.log(JSON.stringify(await scenarios[scenario]()));
