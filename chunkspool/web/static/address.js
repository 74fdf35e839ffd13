// Where this page is: its chat and token from the fragment (which no server sees), and the addresses of the routes.

const ID = /^[A-Za-z0-9_][A-Za-z0-9_.:@~+=-]{0,127}$/;

function fragment() {
  return new URLSearchParams(location.hash.slice(1));
}

/** Return an id that nobody else has. Not crypto.randomUUID: it is missing where a page came by plain http. */
export function randomId() {
  return [...crypto.getRandomValues(new Uint8Array(8))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Return the chat's id; a page without one gets a new chat. */
export function chatOfPage() {
  const given = fragment().get("chat");
  if (given && ID.test(given)) return given;
  const made = `web-${randomId()}`;
  history.replaceState(null, "", addressOf(made));
  return made;
}

/** Return the address of this page with another chat. */
export function addressOf(chat) {
  const parameters = fragment();
  parameters.set("chat", chat);
  return `#${parameters}`;
}

/** Return the address of a new chat. */
export function addressOfNewChat() {
  return addressOf(`web-${randomId()}`);
}

/** Return a route of the chat, absolute, wherever the app is mounted. */
export function route(chat, path = "") {
  return new URL(`v1/chats/${encodeURIComponent(chat)}${path}`, document.baseURI);
}

/** Return the headers that every request needs. */
export function headers(more = {}) {
  const token = fragment().get("token");
  return token ? { authorization: `Bearer ${token}`, ...more } : more;
}
