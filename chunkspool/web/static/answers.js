// Fold events into the answers that a person sees, by the same rules as chunkspool.fold in Python.

const WRITTEN = { attempt: 0, model: null, text: "", reasoning: "", usage: null };

/** Return the answer of a generation of which no event has come yet. */
export function emptyAnswer(generation) {
  return { generation, state: "queued", ...WRITTEN, tools: [], answers: null, replaces: null, asked: [] };
}

const TYPES = new Set(
  (
    "message generation.queued generation.started text.delta reasoning.delta tool.call tool.result data usage " +
    "generation.completed generation.stopped generation.failed"
  ).split(" "),
);

/** Return whether the event is of a type that this page knows: those that a newer version adds are passed over. */
export function isKnown(event) {
  return TYPES.has(event.type);
}

/** Return an answer of the snapshot in the shape that this page uses. */
export function answerOfSnapshot(stored) {
  return { ...stored, tools: stored.tool_calls };
}

/** Change `answer` by an event; return what it did: "asked", "queued", "text", "restarted", "ended" or "changed". */
export function applyEvent(answer, event) {
  switch (event.type) {
    case "message":
      answer.asked.push(event);
      return "asked";
    case "generation.queued":
      Object.assign(answer, { answers: event.answers ?? null, replaces: event.replaces ?? null });
      return "queued";
    case "generation.started":
      return startAttempt(answer, event);
    case "text.delta":
      answer.text += event.text;
      return "text";
    case "reasoning.delta":
      answer.reasoning += event.text;
      return "changed";
    case "tool.call":
      answer.tools.push({ id: event.id, name: event.name, arguments: event.arguments, output: null });
      return "changed";
    case "tool.result":
      for (const tool of answer.tools) if (tool.id === event.id) tool.output = event.output;
      return "changed";
    case "usage":
      answer.usage = event;
      return "changed";
    case "generation.completed":
      Object.assign(answer, { state: "completed", finish_reason: event.finish_reason });
      return "ended";
    case "generation.stopped":
      Object.assign(answer, { state: "stopped", stopped_by: event.by, reason: event.reason });
      return "ended";
    case "generation.failed":
      Object.assign(answer, { state: "failed", error_code: event.code, error: event.message });
      return "ended";
    default:
      return "changed";
  }
}

function startAttempt(answer, event) {
  const isRestart = event.attempt > 1;
  // Unless it continues, a further attempt voids everything that the earlier one wrote.
  if (isRestart && !event.continues) Object.assign(answer, WRITTEN, { tools: [] });
  Object.assign(answer, { state: "running", attempt: event.attempt, model: event.model });
  return isRestart ? "restarted" : "changed";
}

const WITHHELD = {
  content_filter: "The provider's content filter withheld the answer.",
  refusal: "The model declined to answer.",
  length: "The maximum length was reached before the answer began.",
};
const CUT_OFF = {
  length: "cut off at the maximum length",
  content_filter: "cut off by the provider's content filter",
  refusal: "the model declined to go on",
};

/** Return why a completed answer shows nothing, or "" if it shows something: an empty bubble tells nobody anything. */
export function reasonOfEmptiness(answer) {
  if (answer.state !== "completed" || answer.text.trim() || answer.tools.length) return "";
  return WITHHELD[answer.finish_reason] ?? "The model's answer is empty.";
}

/** Return what cut a completed answer off, or "". */
export function reasonOfCut(answer) {
  return (answer.state === "completed" && CUT_OFF[answer.finish_reason]) || "";
}

/** Return whether an answer is still being written. */
export function isActive(answer) {
  return answer.state === "queued" || answer.state === "running";
}
