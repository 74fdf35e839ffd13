// The AI SDK's own client against the routes: `node client.mjs URL SCENARIO`, the outcome as JSON on stdout.
import { AbstractChat, DefaultChatTransport, readUIMessageStream } from "ai";

const [url, scenario] = process.argv.slice(2);
const api = `${url}/api/chat`;

/** What useChat keeps in React's state. */
class State {
  constructor(messages) {
    this.messages = messages;
  }
  status = "ready";
  error = undefined;
  pushMessage = (message) => this.messages.push(structuredClone(message));
  popMessage = () => this.messages.pop();
  replaceMessage = (index, message) => (this.messages[index] = structuredClone(message));
  snapshot = (thing) => structuredClone(thing);
}

/** What useChat is made of. */
class Chat extends AbstractChat {
  constructor(id, messages = []) {
    super({ id, transport: new DefaultChatTransport({ api }), state: new State(messages), onError: () => {} });
  }
}

const textOf = (message) => message.parts.filter((part) => part.type === "text").map((part) => part.text);
const validOf = (message) => ({
  ...message,
  parts: message.parts.slice(message.parts.findLastIndex((part) => part.type === "data-chunkspool-restart") + 1),
});
const told = (chat) => ({
  status: chat.status,
  error: chat.error?.message,
  roles: chat.messages.map((message) => message.role),
  texts: textOf(chat.messages.at(-1)),
  valid: textOf(validOf(chat.messages.at(-1))),
  metadata: chat.messages.at(-1).metadata,
});

const until = async (condition) => {
  const deadline = Date.now() + 60_000;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`not within a minute: ${condition}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
};

const slowly = (words) => ({
  body: { params: { pace: 0.02, script: [...Array(words).keys()].map((n) => ({ text: `${n} ` })) } },
});
const hasSaid = (chat, word) => () => {
  const last = chat.messages.at(-1);
  return last?.role === "assistant" && textOf(last).join("").includes(word);
};

const scenarios = {
  /** A message is sent and answered; then another one, with the history. */
  async send() {
    const chat = new Chat("send");
    await chat.sendMessage({ text: "hello there" });
    const first = told(chat);
    await chat.sendMessage({ text: "once more" });
    return { first, second: told(chat) };
  },

  /** The connection drops in mid-answer; the page is reloaded, and elsewhere the same client goes on. */
  async resume() {
    const chat = new Chat("resume");
    const sent = chat.sendMessage({ text: "count" }, slowly(80));
    await until(hasSaid(chat, "10 "));
    await chat.stop();
    await sent;
    const dropped = told(chat);
    const reloaded = new Chat("resume", chat.messages.slice(0, 1));
    await Promise.all([reloaded.resumeStream(), chat.resumeStream()]);
    const idle = new Chat("resume", chat.messages.slice(0, 1));
    await idle.resumeStream();
    return { dropped, reloaded: told(reloaded), sameClient: told(chat), idle: told(idle) };
  },

  /** The user presses Stop: the route stops the generation, and the client is told. */
  async stop() {
    const chat = new Chat("stop");
    const endless = { pace: 0.02, script: [{ text: "again ", repeat: 100_000 }] };
    const sent = chat.sendMessage({ text: "go on" }, { body: { params: endless } });
    await until(hasSaid(chat, "again again"));
    const reply = await fetch(`${api}/stop/stop`, { method: "POST" });
    await sent;
    return { code: reply.status, chat: told(chat) };
  },

  /** The worker is killed in mid-answer by whoever started this. */
  async restart() {
    const chat = new Chat("restart");
    const sent = chat.sendMessage({ text: "count" }, slowly(80));
    await until(hasSaid(chat, "10 "));
    console.error("kill");
    await sent;
    return told(chat);
  },

  /** Tools, reasoning and app data, read by the SDK's reader of raw streams. */
  async parts() {
    const script = [{ reasoning: "hm" }, { tool_call: { id: "1", name: "clock", arguments: '{"zone":"UTC"}' } }, { text: "noon" }, { usage: [3, 4] }];
    const messages = [{ id: "m1", role: "user", parts: [{ type: "text", text: "what time is it?" }] }];
    const transport = new DefaultChatTransport({ api, body: { params: { script } } });
    const stream = await transport.sendMessages({ chatId: "parts", messages, trigger: "submit-message" });
    let last;
    for await (const message of readUIMessageStream({ stream, terminateOnError: true })) last = message;
    return last;
  },

  /** What fails reaches the client as an error with the server's words: the model, and the route. */
  async fail() {
    const failing = new Chat("fail");
    const fail = { code: "overloaded", message: "The model is overloaded.", retryable: true };
    await failing.sendMessage({ text: "x" }, { body: { params: { script: [{ text: "so far" }, { fail }] } } });
    const refused = new Chat("not/an/id");
    await refused.sendMessage({ text: "x" });
    return { failing: told(failing), refused: { status: refused.status, error: refused.error.message } };
  },
};

console.log(JSON.stringify(await scenarios[scenario]()));
