// The page: put its parts together.

import { addressOfNewChat, chatOfPage, headers, randomId, route } from "./address.js";
import { answerOfSnapshot, apply, emptyAnswer, isActive } from "./answers.js";
import { Events, problemOf } from "./events.js";
import { showLag, showLink, showSeq, tell } from "./proof.js";
import { Questions } from "./questions.js";
import { becomes, following, turnOf } from "./turns.js";

const find = (id) => document.getElementById(id);
const [form, prompt, send, stop] = ["ask", "prompt", "send", "stop"].map(find);
const chat = chatOfPage();
const questions = new Questions(chat);
const answers = new Map();
const LOOK_AGAIN_MS = 3000;
let events = null;

function showQuestions() {
  for (const [generation, question] of Object.entries(questions.all())) {
    if (answers.has(generation)) turnOf(generation).ask(question);
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

const SAID = {
  completed: "The answer is complete.",
  stopped: "The answer was stopped.",
  failed: "The answer has failed.",
};

function onEvent(event) {
  const one = JSON.parse(event.data);
  showSeq(event.id);
  showLag(event.at);
  if (!one.generation) return;
  const isNew = !answers.has(one.generation);
  if (isNew) answers.set(one.generation, emptyAnswer(one.generation));
  const answer = answers.get(one.generation);
  const did = apply(answer, one);
  const turn = turnOf(one.generation);
  following(() => (did === "text" && answer.text.length > one.text.length ? turn.grow(answer) : turn.show(answer)));
  if (did === "restarted") tell(`Another worker took over: attempt ${answer.attempt}.`);
  if (did === "ended") tell(SAID[answer.state]);
  if (isNew) showQuestions();
  if (isNew || did === "ended") showControls();
}

/** What ends the stream for good: the chat was erased, its events have expired, the token is no longer good. */
function onGone(problem) {
  if (problem.status === 410) return location.reload();
  if (problem.status === 404) return wait();
  showLink("gone");
  find("link").textContent = problem.detail;
  tell(problem.detail);
}

/** Follow the chat from `seq`. */
function follow(seq) {
  if (events) return;
  events = new Events(chat, seq, { onEvent, onState: showLink, onGone });
  events.run();
}

/** Nothing was asked here yet: the first question makes the chat, and it may be asked elsewhere. */
function wait() {
  events = null;
  if (answers.size > 0) return location.reload();
  showLink("live");
  showControls();
  setTimeout(load, LOOK_AGAIN_MS);
}

async function load() {
  if (events) return;
  let reply;
  try {
    reply = await fetch(route(chat), { headers: headers(), cache: "no-store" });
  } catch {
    reply = null;
  }
  if (reply?.status === 404) return wait();
  if (!reply?.ok) {
    const problem = reply && (await problemOf(reply));
    if (problem && problem.status < 500) return onGone(problem);
    showLink("away");
    setTimeout(load, 1000);
    return;
  }
  const snapshot = await reply.json();
  for (const one of snapshot.answers) {
    const answer = answerOfSnapshot(one);
    answers.set(answer.generation, answer);
    turnOf(answer.generation).show(answer);
  }
  showQuestions();
  showSeq(snapshot.seq);
  showControls();
  document.documentElement.scrollTop = document.documentElement.scrollHeight;
  follow(snapshot.seq);
}

/** What the model is to know: all questions and answers so far, and the new question. */
function history(question) {
  const asked = questions.all();
  const before = [...answers.values()].filter((answer) => asked[answer.generation] && answer.text);
  return [
    ...before.flatMap((answer) => [
      { role: "user", content: asked[answer.generation] },
      { role: "assistant", content: answer.text },
    ]),
    { role: "user", content: question },
  ];
}

async function ask(question, key = randomId()) {
  const turn = turnOf(key);
  turn.ask(question);
  turn.show(emptyAnswer(key));
  showControls();
  document.documentElement.scrollTop = document.documentElement.scrollHeight;
  try {
    const reply = await fetch(route(chat, "/generations"), {
      method: "POST",
      headers: headers({ "content-type": "application/json" }),
      body: JSON.stringify({ messages: history(question), request_id: key }),
    });
    if (!reply.ok) throw new Error((await problemOf(reply)).detail);
    const made = await reply.json();
    questions.remember(made.generation, question);
    becomes(key, made.generation);
    if (!events) follow(made.after);
    tell("The question was sent.");
  } catch (error) {
    const message = error instanceof TypeError ? "The server cannot be reached." : error.message;
    turn.fail(message, () => ask(question, key));
    tell(message);
  }
}

async function stopAll() {
  stop.disabled = true;
  try {
    await fetch(route(chat, "/stop"), { method: "POST", headers: headers() });
  } catch {
    tell("The server cannot be reached; the answer goes on.");
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
  // Enter also ends a word in Japanese or Chinese.
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
questions.watch(() => (events ? showQuestions() : load()));

find("chat").textContent = chat;
document.title = `${chat} · chunkspool`;
find("new").href = addressOfNewChat();
const { flower } = document.body.dataset;
if (flower) Object.assign(find("flower"), { href: `${flower.replace(/\/$/, "")}/tasks`, hidden: false });
prompt.focus();
load();
