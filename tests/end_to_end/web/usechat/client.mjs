// Run the AI SDK's own client against the routes: `node client.mjs PACKAGE URL SCENARIO [OPTIONS]` prints its final state
// as JSON. OPTIONS are JSON: the `headers` of all requests, the id of the `chat` where the app chooses it, `lastOnly`.
import { once } from "node:events";
import { Chat as PlainChat, DefaultChatTransport, lastAssistantMessageIsCompleteWithToolCalls, readUIMessageStream } from "./chat.mjs";

const [sdk, url, scenario, options = "{}"] = process.argv.slice(2);
const { headers, chat: chosen, lastOnly } = JSON.parse(options);
const api = `${url}/api/chat`;
// As docs/how-to/web/usechat.md tells an app that uses version 7.
const apiOfVersion = sdk === "ai7" ? `${api}?sdk=7` : api;

const idOf = (name) => chosen ?? name;

/** A chat as an app makes it. */
class Chat extends PlainChat {
  constructor(name, messages = [], more = {}) {
    super({ id: idOf(name), messages, transport: { api: apiOfVersion, headers }, ...more });
  }
}

const textOf = (message) => message.parts.filter((part) => part.type === "text").map((part) => part.text);
// As in docs/how-to/web/usechat.md.
const isVoid = (parts, at) =>
  parts.some((part, i) => part.type === "data-chunkspool-restart" && at <= i && at >= (part.data.from ?? 0));
const withoutVoidParts = (message) => ({ ...message, parts: message.parts.filter((_, at) => !isVoid(message.parts, at)) });
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
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`did not happen within a minute: ${condition}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
};

const countingSlowly = (words) => ({
  body: { params: { pace: 0.02, script: [...Array(words).keys()].map((n) => ({ text: `${n} ` })) } },
});
// However busy the machine is, it goes on until it is stopped.
const endlessly = { body: { params: { pace: 0.02, script: [{ text: "tick ", repeat: 100_000 }] } } };
const stop = (name) => fetch(`${api}/${idOf(name)}/stop`, { method: "POST", headers });
const hasSaid = (chat, word) => () => {
  const last = chat.messages.at(-1);
  return last?.role === "assistant" && textOf(last).join("").includes(word);
};

/** Ask the test to do something, by a line on stderr; wait for its line on stdin. */
const ask = async (line) => {
  console.error(line);
  await once(process.stdin, "data");
  process.stdin.pause();
};
const load = async (name) => {
  const reply = await fetch(apiOfVersion.replace("/api/chat", `/api/chat/${idOf(name)}/messages`), { headers });
  return await reply.json();
};
const plain = (messages) => JSON.parse(JSON.stringify(messages));

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
    const sent = chat.sendMessage({ text: "go on" }, endlessly);
    await waitUntil(hasSaid(chat, "tick tick"));
    const reply = await stop("stop");
    await sent;
    return { code: reply.status, chat: summaryOf(chat) };
  },

  /** In mid-answer, ask the test to kill the worker; stay connected until the end, then load the chat. */
  async restart() {
    const chat = new Chat("restart");
    const sent = chat.sendMessage({ text: "count" }, countingSlowly(80));
    await waitUntil(hasSaid(chat, "10 "));
    await ask("kill");
    await sent;
    const { messages } = await load("restart");
    return { ...summaryOf(chat), shown: plain(chat.messages.map(withoutVoidParts)), loaded: messages.map(withoutVoidParts) };
  },

  /** In mid-answer, ask the test to restart the web server; then resume, as docs/how-to/web/usechat.md says. */
  async deploy() {
    const chat = new Chat("deploy");
    const sent = chat.sendMessage({ text: "go on" }, endlessly);
    await waitUntil(hasSaid(chat, "tick tick"));
    console.error("restart");
    await sent;
    const cut = summaryOf(chat);
    await ask("ended");
    const resumed = chat.resumeStream();
    await waitUntil(hasSaid(chat, `${cut.texts[0]}tick tick`));
    await stop("deploy");
    await resumed;
    return { cut, resumed: summaryOf(chat), shown: plain(chat.messages), loaded: (await load("deploy")).messages };
  },

  /** Let a tool run in the browser. While the answer goes on, reload with what a page may have; load the chat, too. */
  async tool() {
    const clock = [{ text: "Let me see. " }, { tool_call: { id: "1", name: "clock", arguments: '{"zone":"UTC"}' } }];
    let turns = 0;
    const chat = new Chat("tool", [], {
      transport: { api: apiOfVersion, headers, body: () => (turns++ === 0 ? { params: { script: clock } } : endlessly.body) },
      sendAutomaticallyWhen: ({ messages }) => turns < 2 && lastAssistantMessageIsCompleteWithToolCalls({ messages }),
    });
    await chat.sendMessage({ text: "what time is it?" });
    const [question, first] = structuredClone(chat.messages);
    const answered = chat.addToolOutput({ tool: "clock", toolCallId: "1", output: { hour: 12 } });
    await waitUntil(hasSaid(chat, "tick tick"));
    const { messages, active } = await load("tool");
    const known = { nothing: [], question: [question], call: [question, first], all: structuredClone(chat.messages), loaded: messages };
    const reloads = Object.entries(known).map(([name, had]) => [name, new Chat("tool", had)]);
    const resumed = reloads.map(([, reloaded]) => reloaded.resumeStream());
    await waitUntil(() => reloads.every(([, reloaded]) => hasSaid(reloaded, "tick tick tick")()));
    await stop("tool");
    await Promise.all([...resumed, answered]);
    await waitUntil(() => chat.status === "ready");
    const after = await load("tool");
    return {
      active: active.length,
      stayed: plain(chat.messages),
      reloads: Object.fromEntries(reloads.map(([name, reloaded]) => [name, plain(reloaded.messages)])),
      loaded: after,
    };
  },

  /** Ask, regenerate and edit; after each step, what the client has and what another device loads. `OPTIONS.lastOnly`:
   *  the front end sends only its last message, as docs/how-to/web/usechat.md says. */
  async conversation() {
    const prepareSendMessagesRequest = ({ id, messages, trigger, messageId, body }) => ({
      body: { ...body, id, trigger, messageId, message: messages.at(-1) },
    });
    const transport = { api: apiOfVersion, headers, ...(lastOnly ? { prepareSendMessagesRequest } : {}) };
    const chat = new Chat("conversation", [], { transport });
    const steps = {};
    const note = async (name) => (steps[name] = { shown: plain(chat.messages), loaded: (await load("conversation")).messages });
    await chat.sendMessage({ text: "one", metadata: { at: 1 } });
    await chat.sendMessage({ text: "two" });
    await note("asked");
    await chat.regenerate();
    await note("regenerated");
    await chat.sendMessage({ text: "II", messageId: chat.messages[2].id });
    await note("edited");
    await chat.regenerate({ messageId: chat.messages[1].id });
    await note("regenerated the first");

    // Another device shows the whole, follows an answer that is being written, and goes on.
    const other = new Chat("conversation", (await load("conversation")).messages, { transport });
    await other.sendMessage({ text: "three" });
    chat.messages = (await load("conversation")).messages;
    const again = chat.regenerate(endlessly);
    await waitUntil(hasSaid(chat, "tick tick"));
    other.messages = (await load("conversation")).messages;
    const loadedText = textOf(other.messages.at(-1)).join("");
    const followed = other.resumeStream();
    await waitUntil(hasSaid(other, `${loadedText}tick `));
    await stop("conversation");
    await Promise.all([again, followed]);
    await note("stopped");
    steps["other device"] = { shown: plain(other.messages), loaded: steps.stopped.loaded };
    return Object.fromEntries(Object.entries(steps).map(([name, step]) => [name, { ...step, texts: step.loaded.map((m) => textOf(m).join("")) }]));
  },

  /** Hang up; the answer ends while nobody is there; a resume then brings nothing, and the app loads the chat. */
  async away() {
    const chat = new Chat("away");
    const sent = chat.sendMessage({ text: "count" }, countingSlowly(300));
    await waitUntil(hasSaid(chat, "10 "));
    await chat.stop();
    await sent;
    await waitUntil(async () => (await load("away")).active.length === 0);
    await chat.resumeStream();
    const cut = summaryOf(chat);
    chat.messages = (await load("away")).messages;
    await chat.sendMessage({ text: "and now?" });
    return { cut, texts: chat.messages.map(textOf), loaded: (await load("away")).messages, shown: plain(chat.messages) };
  },

  /** Read tools, reasoning and app data with the SDK's reader of raw streams. */
  async parts() {
    const script = [{ reasoning: "hm" }, { tool_call: { id: "1", name: "clock", arguments: '{"zone":"UTC"}' } }, { text: "noon" }, { usage: [3, 4] }];
    const messages = [{ id: "m1", role: "user", parts: [{ type: "text", text: "what time is it?" }] }];
    const transport = new DefaultChatTransport({ api: apiOfVersion, headers, body: { params: { script } } });
    const stream = await transport.sendMessages({ chatId: idOf("parts"), messages, trigger: "submit-message" });
    let last;
    for await (const message of readUIMessageStream({ stream, terminateOnError: true })) last = message;
    return last;
  },

  /** Let the model fail, then a route: the client's error has the server's message. */
  async fail() {
    const failing = new Chat("fail");
    const fail = { code: "overloaded", message: "The model is overloaded.", retryable: true };
    await failing.sendMessage({ text: "x" }, { body: { params: { script: [{ text: "so far" }, { fail }] } } });
    const refused = new Chat("", [], { id: "not/an/id" });
    await refused.sendMessage({ text: "x" });
    return { failing: summaryOf(failing), refused: { status: refused.status, error: refused.error.message } };
  },
};

console.log(JSON.stringify(await scenarios[scenario]()));
