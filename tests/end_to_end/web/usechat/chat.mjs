// The chat that useChat is built on, without React. `process.argv[2]` names the package of the AI SDK: ai6 or ai7.
const sdk = await import(process.argv[2]);
export const { DefaultChatTransport, lastAssistantMessageIsCompleteWithToolCalls, readUIMessageStream } = sdk;

/** The chat's state, which useChat keeps in React. */
class State {
  constructor(messages) {
    this.messages = messages;
  }
  status = "ready";
  error = undefined;
  pushMessage = (message) => this.messages.push(structuredClone(message));
  popMessage = () => this.messages.pop();
  replaceMessage = (index, message) => (this.messages[index] = structuredClone(message));
  snapshot = (value) => structuredClone(value);
}

/** A chat whose state is plain. */
export class Chat extends sdk.AbstractChat {
  constructor({ id, messages = [], transport, ...more }) {
    super({ id, transport: new DefaultChatTransport(transport), state: new State(messages), onError: () => {}, ...more });
  }
}
