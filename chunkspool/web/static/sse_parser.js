// Split the text of an event stream into server-sent events.

/** Takes a stream in arbitrary pieces and yields complete events: {id, cursor, name, data, at}. */
export class EventParser {
  #rest = "";

  /** Yield the events that `piece` completes. */
  *parse(piece) {
    this.#rest += piece;
    for (let end; (end = this.#rest.indexOf("\n\n")) >= 0; ) {
      const block = this.#rest.slice(0, end);
      this.#rest = this.#rest.slice(end + 2);
      const event = parseBlock(block);
      if (event.data !== undefined) yield event;
    }
  }
}

function parseBlock(block) {
  const event = { name: "message" };
  for (const line of block.split("\n")) {
    const colon = line.indexOf(":");
    const value = line.slice(colon + 1).replace(/^ /, "");
    const field = line.slice(0, colon);
    // `<seq>.<what proves the log>`: the server tells by it whether the log still is the one that was read.
    if (field === "id") Object.assign(event, { id: parseInt(value, 10), cursor: value });
    else if (field === "event") event.name = value;
    else if (field === "data") event.data = event.data === undefined ? value : `${event.data}\n${value}`;
    // A comment: with `times=true` it is the time at which the event was written.
    else if (field === "" && value) event.at = Number(value);
  }
  return event;
}
