// What the page's address holds, and the addresses of the routes. The chat and the token are in the fragment, which a
// browser never sends to a server.

const ID = /^[A-Za-z0-9_-][A-Za-z0-9_.:@~+=-]{0,127}$/;

function readFragment() {
  return new URLSearchParams(location.hash.slice(1));
}

/** Return a random id. Not by crypto.randomUUID, which browsers do not offer to pages that came by plain HTTP. */
export function randomId() {
  return [...crypto.getRandomValues(new Uint8Array(8))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Return the chat's id from the address; if there is none, put a new one there. */
export function ensureChat() {
  const given = readFragment().get("chat");
  if (given && ID.test(given)) return given;
  const chat = newChatId();
  history.replaceState(null, "", addressOf(chat));
  return chat;
}

/** Return the address of this page with another chat. */
export function addressOf(chat) {
  const parameters = readFragment();
  parameters.set("chat", chat);
  return `#${parameters}`;
}

/** Return the address of this page with a new chat. */
export function addressOfNewChat() {
  return addressOf(newChatId());
}

/** Return the absolute URL of a route of the chat, wherever the app is mounted. */
export function routeUrl(chat, path = "") {
  return urlOfChats(`/${encodeURIComponent(chat)}${path}`);
}

/** Return the absolute URL of the list of chats, or of what is below it. */
export function urlOfChats(path = "") {
  return new URL(`v1/chats${path}`, document.baseURI);
}

/** Return `more` headers together with the authorization, if the address holds a token. */
export function requestHeaders(more = {}) {
  const token = readFragment().get("token");
  return token ? { authorization: `Bearer ${token}`, ...more } : more;
}

function newChatId() {
  return `web-${randomId()}`;
}
