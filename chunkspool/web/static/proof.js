// The line that proves it: is the stream connected, at which seq, how long after Redis.

const link = document.getElementById("link");
const seq = document.getElementById("seq");
const lag = document.getElementById("lag");
const told = document.getElementById("told");
const LAST = 25;
// A clock that differs more than this is another clock, and then there is nothing to say.
const MOST_MS = 5000;
const lags = [];

const WORDS = { connecting: "connecting", live: "live", away: "not connected, trying again", gone: "ended" };

export function showLink(state) {
  link.dataset.state = state;
  link.textContent = WORDS[state];
}

export function showSeq(number) {
  seq.textContent = `seq ${number}`;
}

/** Take the time at which an event was written that has just come live. */
export function showLag(at) {
  const ms = Date.now() - at;
  if (!(ms >= -50 && ms < MOST_MS)) return;
  lags.push(Math.max(ms, 0));
  if (lags.length > LAST) lags.shift();
  const median = lags.toSorted((a, b) => a - b)[lags.length >> 1];
  lag.textContent = `${median} ms`;
}

/** Say something to those who do not see the page. */
export function tell(text) {
  told.textContent = text;
}
