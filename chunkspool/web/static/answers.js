// Fold events into the answers that a person sees; the same as chunkspool.fold in Python.

/** Return an answer of which nothing is known but that it was asked for. */
export function emptyAnswer(generation) {
  return { generation, state: "queued", attempt: 0, model: null, text: "", reasoning: "", tools: [], usage: null };
}

/** Return the answer that a snapshot holds. */
export function answerOfSnapshot(one) {
  return { ...one, tools: one.tool_calls };
}

/** Change `answer` by an event; return what the event did: "text", "restarted", "ended" or "changed". */
export function apply(answer, event) {
  switch (event.type) {
    case "generation.started":
      return started(answer, event);
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

function started(answer, event) {
  const anew = event.attempt > 1;
  if (anew && !event.continues) Object.assign(answer, emptyAnswer(answer.generation));
  Object.assign(answer, { state: "running", attempt: event.attempt, model: event.model });
  return anew ? "restarted" : "changed";
}

/** Tell whether an answer is still being written. */
export function isActive(answer) {
  return answer.state === "queued" || answer.state === "running";
}
