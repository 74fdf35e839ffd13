// Let the AI SDK's own client read prepared answers: `node judge.mjs PACKAGE < cases.json` prints what it makes of each.
// A case is {messages, resume, body}: the client has the messages, and sends or resumes; the body answers it. Without a
// body, there is nothing to resume.
import { text } from "node:stream/consumers";
import { Chat } from "./chat.mjs";

const results = [];
for (const { messages, resume, body } of JSON.parse(await text(process.stdin))) {
  const none = new Response(null, { status: 204 });
  const fetch = async () => (body === null ? none : new Response(body, { headers: { "content-type": "text/event-stream" } }));
  const calls = [];
  const chat = new Chat({ id: "chat", messages, transport: { fetch }, onToolCall: ({ toolCall }) => calls.push(toolCall.toolCallId) });
  await (resume ? chat.resumeStream() : chat.sendMessage());
  results.push({ status: chat.status, error: chat.error?.message ?? null, messages: chat.messages, calls });
}
console.log(JSON.stringify(results));
