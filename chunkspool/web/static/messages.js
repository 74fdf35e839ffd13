// Show what was asked, as it stands in the log: as text, never as HTML, and without loading anything from elsewhere.

import { appendElement } from "./elements.js";
import { MarkdownView } from "./markdown.js";

// An SVG is a document, and another address would tell its server who reads.
const PICTURE = /^data:image\/(png|jpeg|gif|webp|avif);base64,/i;

/** Return the content of a message as a list of parts. */
function partsOf({ content }) {
  return typeof content === "string" ? [{ type: "text", text: content }] : (content ?? []);
}

/** Return the text of a message; pictures and files have none. */
export function textOf(message) {
  const texts = partsOf(message).filter((part) => part.type === "text");
  return texts.map((part) => String(part.text ?? "")).join("\n");
}

/** Append a message to `parent`. */
export function appendMessage(message, parent) {
  if (message.role === "user") return appendQuestion(message, parent);
  if (message.role === "tool") {
    return appendElement("p", "tools", parent, { textContent: `tool output: ${textOf(message)}` });
  }
  const element = appendElement("div", "text given", parent);
  new MarkdownView(element, (change) => change()).show(textOf(message));
  return element;
}

function appendQuestion(message, parent) {
  const element = appendElement("div", "question", parent, { role: "group", ariaLabel: "Question" });
  for (const part of partsOf(message)) appendPart(part, element);
  return element;
}

function appendPart(part, parent) {
  if (part.type === "text") return appendElement("p", "", parent, { textContent: part.text, dir: "auto" });
  const url = String(part.image_url?.url ?? "");
  if (PICTURE.test(url)) return appendElement("img", "picture", parent, { src: url, alt: "Picture of the question" });
  return appendElement("p", "part", parent, { textContent: describePart(part) });
}

function describePart(part) {
  if (part.type === "image_url") return "A picture that is not shown here";
  if (part.type === "file") return `File: ${part.file?.filename ?? "without a name"}`;
  return `Part of type ${part.type}`;
}
