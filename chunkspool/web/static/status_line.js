// The line below the input: whether the stream is connected, the last seq, and the delay since Redis wrote it.

const connection = document.getElementById("connection");
const seq = document.getElementById("seq");
const lag = document.getElementById("lag");
const announcer = document.getElementById("announcer");
const LAGS_KEPT = 25;
// A larger difference is not a delay: the two clocks differ, and no figure is shown.
const MAX_LAG_MS = 5000;
const lags = [];

const CONNECTION_TEXTS = {
  live: "live",
  disconnected: "not connected, trying again",
  paused: "paused while this tab is hidden",
  ended: "ended",
};

/** Show the state of the stream: "live", "disconnected", "paused" or "ended". */
export function showConnection(state, text = CONNECTION_TEXTS[state]) {
  if (connection.dataset.state === state && connection.textContent === text) return;
  connection.dataset.state = document.body.dataset.connection = state;
  connection.textContent = text;
}

export function showSeq(number) {
  seq.textContent = `seq ${number}`;
}

/** Show no figures: there is nothing that they could tell of. */
export function clearFigures() {
  lags.length = 0;
  seq.textContent = lag.textContent = "";
}

/** Show the median delay of the last live events; `at` is the time at which the newest one was written. */
export function showLag(at) {
  const ms = Date.now() - at;
  if (!(ms >= -50 && ms < MAX_LAG_MS)) return;
  lags.push(Math.max(ms, 0));
  if (lags.length > LAGS_KEPT) lags.shift();
  const median = lags.toSorted((a, b) => a - b)[lags.length >> 1];
  lag.textContent = `${median} ms`;
}

/** Have a screen reader say `text`. */
export function announce(text) {
  announcer.textContent = text;
}
