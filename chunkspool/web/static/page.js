// The page: puts its parts together.

import { addressOfNewChat, ensureChat, randomId } from "./address.js";
import { answerOfSnapshot, applyEvent, emptyAnswer, isActive } from "./answers.js";
import { ChatFeed } from "./chat_feed.js";
import { ChatList } from "./chat_list.js";
import { Earlier, PAGE } from "./earlier.js";
import { Questions } from "./questions.js";
import { Refused, Unreachable, send as sendRequest } from "./requests.js";
import { announce, clearFigures, showConnection, showLag, showSeq } from "./status_line.js";
import { ensureTurn, keepEndInView, removeTurns, renameTurn } from "./turns.js";

const find = (id) => document.getElementById(id);
const [form, prompt, send, stop] = ["ask", "prompt", "send", "stop"].map(find);
const chat = ensureChat();
const questions = new Questions(chat);
let answers = new Map();
const chatList = new ChatList(chat);
const earlier = new Earlier(chat, { onPage: showEarlier, onEvent: showEvent, onChange: showControls });
const EMPTY_CHAT_RETRY_MS = 3000;
const LOAD_RETRY_MS = 1000;
// How often to look how many come before a question that waits.
const WAITING_MS = 3000;
// Longer than a reply takes unless all connections that the browser makes to a server are taken by streams.
const CROWDED_MS = 1000;
const heartbeatMs = Number(document.body.dataset.heartbeat) * 1000;
const ENDING_TEXTS = {
  completed: "The answer is complete.",
  stopped: "The answer was stopped.",
  failed: "The answer failed.",
};
// All tabs of this browser: what a tab needs, the streams of the others may stand in the way of.
const crowd = new BroadcastChannel("chunkspool-crowd");
let feed = null;
let isLoading = false;
// Whether the server has said that there is no such chat yet.
let isNewChat = false;
let loadAgain = false;
let retry;

function showQuestions() {
  for (const [generation, question] of Object.entries(questions.all())) {
    if (answers.has(generation)) ensureTurn(generation).showQuestion(question);
  }
}

function showControls() {
  const active = earlier.isActive || [...answers.values()].some(isActive);
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
  if (event.generation) showEvent(Number.parseInt(id, 10), event);
}

function showEvent(seq, event) {
  const isNew = !answers.has(event.generation);
  if (isNew && earlier.takes(seq, event)) return;
  // The page of earlier answers may stand behind what the stream has brought, or before it.
  if (seq <= answers.get(event.generation)?.seq) return;
  if (isNew) answers.set(event.generation, emptyAnswer(event.generation));
  const answer = answers.get(event.generation);
  const effect = applyEvent(answer, event);
  const turn = ensureTurn(event.generation);
  if (isNew) turn.moveToEnd();
  // The first text replaces "the model is thinking"; all later text can only be appended.
  const onlyGrows = effect === "text" && answer.text.length > event.text.length;
  keepEndInView(() => (onlyGrows ? turn.showText(answer) : turn.showAnswer(answer)));
  if (effect === "restarted") announce(`Another worker took over: attempt ${answer.attempt}.`);
  if (effect === "ended") announce(ENDING_TEXTS[answer.state]);
  if (isNew) showQuestions();
  if (isNew || effect === "ended") {
    showControls();
    chatList.refresh();
  }
}

/** Handle an end that reconnecting would not cure. */
function onEnd(refusal) {
  feed = null;
  if (refusal.status === 401 || refusal.status === 403) {
    showConnection("ended", refusal.message);
    return announce(refusal.message);
  }
  // The chat was erased, or events after the cursor have expired, or the log is another one: what is shown may be gone.
  loadSoon(LOAD_RETRY_MS / 4);
}

/** Follow the chat after a position. */
function follow(position) {
  feed = new ChatFeed(chat, position, heartbeatMs, { onEvent, onState: showConnection, onEnd });
  feed.run();
}

/** Remove all that is shown of the log. */
function clear() {
  removeTurns(answers.keys());
  answers.clear();
}

function loadSoon(ms) {
  clearTimeout(retry);
  retry = setTimeout(load, ms);
}

/** Show how many come before the questions that wait, from time to time: no event tells that. */
async function showWaiting() {
  const queued = [...answers.values()].filter((answer) => answer.state === "queued");
  if (!queued.length || document.hidden) return;
  try {
    const { waiting } = await sendRequest(chat, "?limit=1");
    const told = new Map(waiting.map((one) => [one.generation, one]));
    for (const answer of queued.filter((one) => one.state === "queued" && answers.has(one.generation))) {
      answer.waiting = told.get(answer.generation);
      ensureTurn(answer.generation).showAnswer(answer);
    }
  } catch (error) {
    if (!(error instanceof Refused || error instanceof Unreachable)) throw error;
  }
}
setInterval(showWaiting, WAITING_MS);

/** Begin with the snapshot, and follow what comes after it. While there is no chat, look again from time to time. */
async function load() {
  if (feed) return;
  if (isLoading) {
    loadAgain = true;
    return;
  }
  if (document.hidden) return showConnection("paused");
  clearTimeout(retry);
  isLoading = true;
  loadAgain = false;
  const known = Object.keys(questions.all());
  try {
    const snapshot = await sendRequest(chat, `?missing_ok=true&limit=${PAGE}`);
    clear();
    earlier.begin(snapshot);
    if (snapshot) showSnapshot(snapshot);
    else showEmptyChat(known);
  } catch (error) {
    if (!(error instanceof Refused || error instanceof Unreachable)) throw error;
    if (error.status === 401 || error.status === 403) return onEnd(error);
    showConnection("disconnected", error instanceof Refused ? error.message : undefined);
    loadSoon(LOAD_RETRY_MS);
  } finally {
    isLoading = false;
    // Something has happened meanwhile: the reply may be older.
    if (loadAgain) loadSoon(0);
  }
}

/** The first question creates the chat, and may be asked here, in another tab or elsewhere. */
function showEmptyChat(known) {
  isNewChat = true;
  // What is left of a chat that was erased or has expired. A question that was answered meanwhile stays.
  questions.forget(known);
  showConnection("live");
  clearFigures();
  showControls();
  loadSoon(EMPTY_CHAT_RETRY_MS);
}

function showSnapshot(snapshot) {
  isNewChat = false;
  const told = new Map(snapshot.waiting.map((one) => [one.generation, one]));
  for (const stored of snapshot.answers) {
    showStored(stored, snapshot, told.get(stored.generation)).moveToEnd();
  }
  showQuestions();
  showSeq(snapshot.seq);
  showControls();
  scrollToEnd();
  follow(snapshot);
}

/** Show an answer of a snapshot; return its turn. */
function showStored(stored, { seq }, waiting) {
  const answer = { ...answerOfSnapshot(stored), seq, waiting };
  answers.set(answer.generation, answer);
  const turn = ensureTurn(answer.generation);
  turn.showAnswer(answer);
  return turn;
}

/** Show a page of answers in front of the others. */
function showEarlier(page) {
  const later = answers;
  answers = new Map();
  const turns = page.answers.map((stored) => showStored(stored, page));
  for (const turn of turns.reverse()) turn.moveToStart();
  for (const [generation, answer] of later) answers.set(generation, answer);
  showQuestions();
  showControls();
}

/** Return the messages for the model: the questions and answers that are shown, and the new question. */
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

/** Send what somebody waits for. If the browser has no connection left, the streams of all tabs make room. */
async function post(path, body) {
  const makeRoom = setTimeout(() => {
    crowd.postMessage("make room");
    feed?.reconnect();
  }, CROWDED_MS);
  try {
    return await sendRequest(chat, path, { method: "POST", body });
  } finally {
    clearTimeout(makeRoom);
  }
}

/** Ask a question. */
function ask(question) {
  const key = randomId();
  sendQuestion(question, key, { messages: buildMessages(question), request_id: key });
}

async function sendQuestion(question, key, body) {
  const isFirst = isNewChat;
  const turn = ensureTurn(key);
  turn.showQuestion(question);
  turn.showAnswer(emptyAnswer(key));
  showControls();
  scrollToEnd();
  try {
    const { generation, after } = await post("/generations", body);
    questions.remember(generation, question);
    renameTurn(key, generation);
    showQuestions();
    announce("The question was sent.");
    // The first question may be asked before the page has heard that there is no such chat.
    if (isFirst || after === 0) chatList.name(question);
    isNewChat = false;
    load();
  } catch (error) {
    // If no reply came, the server may have the question: only the very same request is not answered twice.
    const sendAgain = () => {
      if (error instanceof Unreachable) return sendQuestion(question, key, body);
      removeTurns([key]);
      ask(question);
    };
    turn.showFailure(error.message, sendAgain);
    announce(error.message);
  }
}

async function stopAll() {
  stop.disabled = true;
  announce("Stopping.");
  try {
    await post("/stop");
  } catch (error) {
    announce(`${error.message} The answer continues.`);
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
crowd.addEventListener("message", () => feed?.reconnect());
addEventListener("online", load);
document.addEventListener("visibilitychange", load);
document.addEventListener("visibilitychange", () => chatList.refresh());
questions.watch(() => (feed ? showQuestions() : load()));

find("chat").textContent = chat;
document.title = `${chat} · chunkspool`;
find("new").href = addressOfNewChat();
const { flower } = document.body.dataset;
if (flower) Object.assign(find("flower"), { href: `${flower.replace(/\/$/, "")}/tasks`, hidden: false });
prompt.focus();
load();
chatList.refresh();
