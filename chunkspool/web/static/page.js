// The page: puts its parts together.

import { addressOfNewChat, ensureChat } from "./address.js";
import { answerOfSnapshot, applyEvent, emptyAnswer, isActive, isKnown } from "./answers.js";
import { Asking } from "./asking.js";
import { ChatFeed } from "./chat_feed.js";
import { ChatList } from "./chat_list.js";
import { conversation } from "./conversation.js";
import { Earlier, PAGE } from "./earlier.js";
import { textOf } from "./messages.js";
import { Refused, Unreachable, send as sendRequest } from "./requests.js";
import { keepEndInView, keepInPlace, scrollToEnd } from "./scrolling.js";
import { announce, clearFigures, showConnection, showLag, showSeq } from "./status_line.js";
import { Turns } from "./turns.js";

const find = (id) => document.getElementById(id);
const [form, prompt, send, stop] = ["ask", "prompt", "send", "stop"].map(find);
const chat = ensureChat();
let answers = new Map();
// An answer that is looked at although it may not count; undefined: the conversation that counts is shown.
let viewed;
const turns = new Turns({
  onVersion: showVersion,
  onRegenerate: (generation, key) => showReplaced(asking.regenerate(generation, key)),
  onEdit: (generation, text, key) => showEdited(asking.edit(generation, text, key)),
  onCancel: stopOrSay,
});
const asking = new Asking(chat, turns, { onChange: showPending, onAsked, onCrowded: makeRoom });
const chatList = new ChatList(chat);
const earlier = new Earlier(chat, {
  onPage: showEarlier,
  onEvent: showEvent,
  onChange: showControls,
  onAll: () => turns.focusFirst(),
});
const EMPTY_CHAT_RETRY_MS = 3000;
const LOAD_RETRY_MS = 1000;
// How often to look how many come before a question that waits.
const WAITING_MS = 3000;
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
// The generation of the first question, which is to be the title once it is seen in the log.
let nameless;
let loadAgain = false;
let retry;

/** Show the turns of the conversation, and behind them the questions that are on their way. */
function arrange() {
  const log = [...answers.values()];
  const counting = conversation(log);
  const path = viewed === undefined ? counting : conversation(log, viewed);
  const counted = new Set(counting.map((turn) => turn.answer));
  for (const place of path) {
    const turn = turns.ensure(place.answer);
    turn.showPlace(place, place.versions.find((version) => counted.has(version)));
    turn.showAnswer(answers.get(place.answer));
  }
  asking.settle(answers.keys());
  turns.arrange([...path.map((place) => place.answer), ...asking.pending]);
}

/** The same with all texts at their full heights: what is in view must not move. */
function arrangeAtOnce() {
  arrange();
  turns.flush();
}

/** Look at another version of an answer, and at what was asked after it; `left` is the switch of the one before. */
function showVersion(generation, from, left) {
  const { versions } = turns.ensure(generation);
  viewed = generation;
  keepInPlace(left, arrangeAtOnce, () => versions.element);
  versions.focus(from);
  announce(versions.text);
}

/** Show the conversation that counts once another version was asked for; return what went wrong, or "". */
async function showReplaced(request) {
  const trouble = await request;
  if (!trouble) {
    viewed = undefined;
    arrange();
  }
  return trouble;
}

/** The same for an edited question: whoever has written it goes on with the next one. */
async function showEdited(request) {
  const trouble = await showReplaced(request);
  if (!trouble) prompt.focus();
  return trouble;
}

/** Show a question that is on its way, behind the conversation that counts. */
function showPending() {
  viewed = undefined;
  arrange();
  showControls();
  scrollToEnd();
}

/** Show what depends on which answers are active. */
function showControls() {
  const active = [...answers.values()].filter(isActive);
  const count = earlier.active + active.length;
  for (const [at, answer] of active.entries()) {
    const place = { behind: earlier.active + at, isOneOfMany: count > 1 };
    if (answer.behind === place.behind && answer.isOneOfMany === place.isOneOfMany) continue;
    Object.assign(answer, place);
    turns.ensure(answer.generation).showAnswer(answer);
  }
  const hadFocus = document.activeElement === stop;
  stop.hidden = count === 0;
  send.disabled = !prompt.value.trim();
  if (hadFocus && stop.hidden) prompt.focus();
  find("welcome").hidden = answers.size > 0 || asking.pending.length > 0;
}

function onEvent({ id, at, data }) {
  const event = JSON.parse(data);
  showSeq(id);
  showLag(at);
  if (isKnown(event)) showEvent(Number.parseInt(id, 10), event);
}

function showEvent(seq, event) {
  const isNew = !answers.has(event.generation);
  if (isNew && earlier.takes(seq, event)) return;
  // The page of earlier answers may stand behind what the stream has brought, or before it.
  if (seq <= answers.get(event.generation)?.seq) return;
  if (isNew) answers.set(event.generation, emptyAnswer(event.generation));
  const answer = answers.get(event.generation);
  const effect = applyEvent(answer, event);
  // Where it stands is told by the event after what was asked, which was written together with it.
  if (effect === "asked") return;
  if (isNew || effect === "queued") showNew(answer);
  else showChange(answer, effect, event);
  if (isNew || effect === "queued" || effect === "ended") {
    showControls();
    chatList.refresh();
    nameChat();
  }
}

/** Show the conversation with a new answer in it. Whoever edits a question keeps it before their eyes. */
function showNew(answer) {
  asking.recognize(answer);
  viewed = turns.edited;
  keepEndInView(arrange);
}

function showChange(answer, effect, event) {
  const turn = turns.ensure(answer.generation);
  // The first text replaces "the model is thinking"; all later text can only be appended.
  const onlyGrows = effect === "text" && answer.text.length > event.text.length;
  keepEndInView(() => (onlyGrows ? turn.showText(answer) : turn.showAnswer(answer)));
  if (effect === "restarted") announce(`Another worker took over: attempt ${answer.attempt}.`);
  if (effect === "ended") announce(ENDING_TEXTS[answer.state]);
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
      turns.ensure(answer.generation).showAnswer(answer);
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
  const { unseen } = asking;
  try {
    const snapshot = await sendRequest(chat, `?missing_ok=true&limit=${PAGE}`);
    earlier.begin(snapshot);
    showLog(snapshot, unseen);
    if (snapshot) {
      isNewChat = false;
      showSeq(snapshot.seq);
      scrollToEnd();
      follow(snapshot);
    } else {
      waitForChat();
    }
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
function waitForChat() {
  isNewChat = true;
  showConnection("live");
  clearFigures();
  loadSoon(EMPTY_CHAT_RETRY_MS);
}

/** Show what a snapshot has and nothing else of the log. The generations in `unseen` were asked for before it was taken. */
function showLog(snapshot, unseen) {
  const shown = [...answers.keys(), ...unseen];
  answers = new Map();
  const told = new Map(snapshot?.waiting.map((one) => [one.generation, one]));
  for (const stored of snapshot?.answers ?? []) keepStored(stored, snapshot, told.get(stored.generation));
  asking.settle(unseen);
  turns.remove(shown.filter((generation) => !answers.has(generation)));
  viewed = turns.edited;
  keepEndInView(arrangeAtOnce);
  showControls();
  nameChat();
}

/** Keep an answer of a snapshot, to be shown. */
function keepStored(stored, { seq }, waiting) {
  answers.set(stored.generation, { ...answerOfSnapshot(stored), seq, waiting });
}

/** Show a page of answers in front of the others. */
function showEarlier(page) {
  const later = answers;
  answers = new Map();
  for (const stored of page.answers) keepStored(stored, page);
  for (const [generation, answer] of later) answers.set(generation, answer);
  arrangeAtOnce();
  showControls();
}

/** All connections may be taken by streams, also by those of other tabs: make room for a request. */
function makeRoom() {
  crowd.postMessage("make room");
  feed?.reconnect();
}

function onAsked({ generation, after }) {
  arrange();
  // The first question may be asked before the page has heard that there is no such chat.
  if (isNewChat || after === 0) nameless = generation;
  nameChat();
  isNewChat = false;
  load();
}

/** Name a new chat by its first question, as the log has it. Where the log keeps no questions, the title keeps none. */
function nameChat() {
  const first = answers.get(nameless);
  if (!first) return;
  nameless = undefined;
  const question = textOf(first.asked.findLast((message) => message.role === "user") ?? {}).trim();
  if (question) chatList.name(question);
}

/** Stop a generation, or all that are active. */
async function stopOrSay(generation) {
  announce("Stopping.");
  const trouble = await asking.stop(generation);
  if (trouble) announce(`${trouble} The answer continues.`);
}

async function stopAll() {
  stop.disabled = true;
  await stopOrSay();
  stop.disabled = false;
}

function submit() {
  const question = prompt.value.trim();
  if (!question) return;
  prompt.value = "";
  asking.ask(question);
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
  button.addEventListener("click", () => asking.ask(button.textContent));
}
addEventListener("hashchange", () => location.reload());
crowd.addEventListener("message", () => feed?.reconnect());
addEventListener("online", load);
document.addEventListener("visibilitychange", load);
document.addEventListener("visibilitychange", () => chatList.refresh());

find("chat").textContent = chat;
document.title = `${chat} · chunkspool`;
find("new").href = addressOfNewChat();
const { flower } = document.body.dataset;
if (flower) Object.assign(find("flower"), { href: `${flower.replace(/\/$/, "")}/tasks`, hidden: false });
prompt.focus();
load();
chatList.refresh();
