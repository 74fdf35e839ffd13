// Follow an event stream with eventsource-parser and print each event as a line of JSON.

import { EventSourceParserStream } from "eventsource-parser/stream";

const reply = await fetch(process.argv[2]);
const events = reply.body.pipeThrough(new TextDecoderStream()).pipeThrough(new EventSourceParserStream());
for await (const { id, event, data } of events) console.log(JSON.stringify([id, event, data]));
