// Fold events into the answers that a person sees, by the same rules as chunkspool.fold in Python.

/** Return the answer of a generation of which no event has come yet. */
export function emptyAnswer(generation) {
  return { generation, state: "queued", attempt: 0, model: null, text: "", reasoning: "", tools: [], usage: null };
}

/** Return an answer of the snapshot in the shape that this page uses. */
export function answerOfSnapshot(stored) {
  return { ...stored, tools: stored.tool_calls };
}

/** Change `answer` by an event; return what the event did: "text", "restarted", "ended" or "changed". */
export function applyEvent(answer, event) {
  switch (event.type) {
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
  if (isRestart && !event.continues) Object.assign(answer, emptyAnswer(answer.generation));
  Object.assign(answer, { state: "running", attempt: event.attempt, model: event.model });
  return isRestart ? "restarted" : "changed";
}

/** Return whether an answer is still being written. */
export function isActive(answer) {
  return answer.state === "queued" || answer.state === "running";
}
