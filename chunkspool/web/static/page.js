// The page: puts its parts together.

import { addressOfNewChat, ensureChat, randomId, requestHeaders, routeUrl } from "./address.js";
import { answerOfSnapshot, applyEvent, emptyAnswer, isActive } from "./answers.js";
import { ChatFeed, readProblem } from "./chat_feed.js";
import { Questions } from "./questions.js";
import { announce, showConnection, showLag, showSeq } from "./status_line.js";
import { ensureTurn, keepEndInView, renameTurn } from "./turns.js";

const find = (id) => document.getElementById(id);
const [form, prompt, send, stop] = ["ask", "prompt", "send", "stop"].map(find);
const chat = ensureChat();
const questions = new Questions(chat);
const answers = new Map();
const EMPTY_CHAT_RETRY_MS = 3000;
const LOAD_RETRY_MS = 1000;
const ENDING_TEXTS = {
  completed: "The answer is complete.",
  stopped: "The answer was stopped.",
  failed: "The answer failed.",
};
let feed = null;

function showQuestions() {
  for (const [generation, question] of Object.entries(questions.all())) {
    if (answers.has(generation)) ensureTurn(generation).showQuestion(question);
  }
}

function showControls() {
  const active = [...answers.values()].some(isActive);
  const hadFocus = document.activeElement === stop;
  stop.hidden = !active;
  send.hidden = active;
  send.disabled = !prompt.value.trim();
  if (hadFocus && !active) prompt.focus();
  find("welcome").hidden = answers.size > 0 || document.querySelector(".turn") !== null;
}

function scrollToEnd() {
  document.documentElement.scrollTop = document.documentElement.scrollHeight;
}

function onEvent({ id, at, data }) {
  const event = JSON.parse(data);
  showSeq(id);
  showLag(at);
  if (!event.generation) return;
  const isNew = !answers.has(event.generation);
  if (isNew) answers.set(event.generation, emptyAnswer(event.generation));
  const answer = answers.get(event.generation);
  const effect = applyEvent(answer, event);
  const turn = ensureTurn(event.generation);
  // The first text replaces "the model is thinking"; all later text can only be appended.
  const onlyGrows = effect === "text" && answer.text.length > event.text.length;
  keepEndInView(() => (onlyGrows ? turn.appendText(answer) : turn.showAnswer(answer)));
  if (effect === "restarted") announce(`Another worker took over: attempt ${answer.attempt}.`);
  if (effect === "ended") announce(ENDING_TEXTS[answer.state]);
  if (isNew) showQuestions();
  if (isNew || effect === "ended") showControls();
}

/** Handle an end that reconnecting would not cure: the chat was erased, events have expired, or access is denied. */
function onEnd(problem) {
  // The events after the cursor have expired, or the log is another one: begin with the snapshot again.
  if (problem.status === 410 || problem.type.endsWith(":cursor-ahead")) return location.reload();
  if (problem.status === 404) return waitForFirstQuestion();
  showConnection("ended", problem.detail);
  announce(problem.detail);
}

/** Follow the chat after `seq`. */
function follow(seq) {
  if (feed) return;
  feed = new ChatFeed(chat, seq, { onEvent, onState: showConnection, onEnd });
  feed.run();
}

/** The chat does not exist. The first question creates it, and may be asked here, in another tab or elsewhere. */
function waitForFirstQuestion() {
  feed = null;
  if (answers.size > 0) return location.reload();
  showConnection("live");
  showControls();
  setTimeout(load, EMPTY_CHAT_RETRY_MS);
}

async function load() {
  if (feed) return;
  let reply;
  try {
    reply = await fetch(routeUrl(chat), { headers: requestHeaders(), cache: "no-store" });
  } catch {
    reply = null;
  }
  if (reply?.status === 404) return waitForFirstQuestion();
  if (!reply?.ok) {
    const problem = reply && (await readProblem(reply));
    if (problem && problem.status < 500) return onEnd(problem);
    showConnection("disconnected");
    setTimeout(load, LOAD_RETRY_MS);
    return;
  }
  const snapshot = await reply.json();
  for (const stored of snapshot.answers) {
    const answer = answerOfSnapshot(stored);
    answers.set(answer.generation, answer);
    ensureTurn(answer.generation).showAnswer(answer);
  }
  showQuestions();
  showSeq(snapshot.seq);
  showControls();
  scrollToEnd();
  follow(snapshot.seq);
}

/** Return the messages for the model: all questions and answers so far, and the new question. */
function buildMessages(question) {
  const asked = questions.all();
  const answered = [...answers.values()].filter((answer) => asked[answer.generation] && answer.text);
  return [
    ...answered.flatMap((answer) => [
      { role: "user", content: asked[answer.generation] },
      { role: "assistant", content: answer.text },
    ]),
    { role: "user", content: question },
  ];
}

/** Ask a question. A retry uses the same `key`, so that the server enqueues it only once. */
async function ask(question, key = randomId()) {
  const turn = ensureTurn(key);
  turn.showQuestion(question);
  turn.showAnswer(emptyAnswer(key));
  showControls();
  scrollToEnd();
  try {
    const reply = await fetch(routeUrl(chat, "/generations"), {
      method: "POST",
      headers: requestHeaders({ "content-type": "application/json" }),
      body: JSON.stringify({ messages: buildMessages(question), request_id: key }),
    });
    if (!reply.ok) throw new Error((await readProblem(reply)).detail);
    const { generation, after } = await reply.json();
    questions.remember(generation, question);
    renameTurn(key, generation);
    follow(after);
    announce("The question was sent.");
  } catch (error) {
    // fetch reports every network error as a TypeError.
    const message = error instanceof TypeError ? "The server cannot be reached." : error.message;
    turn.showFailure(message, () => ask(question, key));
    announce(message);
  }
}

async function stopAll() {
  stop.disabled = true;
  try {
    await fetch(routeUrl(chat, "/stop"), { method: "POST", headers: requestHeaders() });
  } catch {
    announce("The server cannot be reached; the answer continues.");
  } finally {
    stop.disabled = false;
  }
}

function submit() {
  const question = prompt.value.trim();
  if (!question || send.hidden) return;
  prompt.value = "";
  ask(question);
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
});
prompt.addEventListener("input", showControls);
prompt.addEventListener("keydown", (event) => {
  // While a Japanese or Chinese word is being composed, Enter confirms the word.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  submit();
});
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !stop.hidden) stopAll();
});
stop.addEventListener("click", stopAll);
for (const button of document.querySelectorAll(".suggestion")) {
  button.addEventListener("click", () => ask(button.textContent));
}
addEventListener("hashchange", () => location.reload());
questions.watch(() => (feed ? showQuestions() : load()));

find("chat").textContent = chat;
document.title = `${chat} · chunkspool`;
find("new").href = addressOfNewChat();
const { flower } = document.body.dataset;
if (flower) Object.assign(find("flower"), { href: `${flower.replace(/\/$/, "")}/tasks`, hidden: false });
prompt.focus();
load();
