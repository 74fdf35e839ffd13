// Convert histories with the AI SDK's own function: `node convert.mjs PACKAGE < histories.json` prints the messages.
import { text } from "node:stream/consumers";

const { convertToModelMessages } = await import(process.argv[2]);
const converted = [];
for (const history of JSON.parse(await text(process.stdin))) {
  converted.push(await convertToModelMessages(history, { ignoreIncompleteToolCalls: true }));
}
console.log(JSON.stringify(converted));
