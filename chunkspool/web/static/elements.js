// Make elements.

/** Append a new element to `parent` and return it; `fields` are properties such as `textContent`. */
export function appendElement(tag, className, parent, fields = {}) {
  const element = Object.assign(document.createElement(tag), fields);
  if (className) element.className = className;
  parent.append(element);
  return element;
}

/** Append a button with this text, which calls `act`; `label` is its name, where the text alone says too little. */
export function appendButton(text, parent, act, label) {
  const button = appendElement("button", "again", parent, { type: "button", textContent: text });
  if (label) button.setAttribute("aria-label", label);
  button.addEventListener("click", act);
  return button;
}

/** Run `act` while the button says that it is busy; do nothing if it is busy already. */
export async function whileBusy(button, act) {
  if (button.ariaBusy === "true") return;
  // Disabled, it would lose the focus.
  button.ariaBusy = "true";
  try {
    await act();
  } finally {
    button.ariaBusy = null;
  }
}
