// Show Markdown as elements. There is no HTML on the way: whatever a model writes, only the elements below can come of it.

import MarkdownIt from "./vendor/markdown-it.mjs";

const PAUSE_MS = 50;
// The parser takes quadratic time for some texts that nobody writes: a longer paragraph is shown as it is.
const MAX_PARAGRAPH = 10_000;
const TAGS = new Set(
  "p h1 h2 h3 h4 h5 h6 ul ol li blockquote pre code table thead tbody tr th td em strong s a br hr".split(" "),
);
// The page has headings of its own.
const HEADINGS = { h1: "h3", h2: "h4", h3: "h5", h4: "h6", h5: "h6", h6: "h6" };

const markdown = new MarkdownIt({ html: false, breaks: true });
// A definition would change what was shown before it, and needs the whole text to be parsed again.
markdown.disable("reference");
// Nothing that runs, and no path of this site.
markdown.validateLink = (url) => /^(https?:\/\/|mailto:)/i.test(url);
markdown.core.ruler.at("inline", (state) => {
  for (const token of state.tokens) {
    if (token.type !== "inline") continue;
    if (token.content.length <= MAX_PARAGRAPH) state.md.inline.parse(token.content, state.md, state.env, token.children);
    else token.children = [Object.assign(new state.Token("text", "", 0), { content: token.content })];
  }
});

/** Shows a text that grows. What stands before its last block cannot change any more and is not touched again. */
export class MarkdownView {
  #element;
  #around;
  #text = "";
  #shown = "";
  #settled = 0;
  #last = [];
  #timer;

  /** Show texts in `element`; each change of it is made inside a call of `around`. */
  constructor(element, around) {
    this.#element = element;
    this.#around = around;
  }

  /** Show `text`: at once if nothing was shown for a moment, otherwise soon. */
  show(text) {
    this.#text = text.replace(/\r\n?/g, "\n");
    if (this.#text === this.#shown && this.#timer === undefined) return;
    if (!this.#text) this.#render();
    else this.#timer ??= setTimeout(() => this.#render(), this.#shown ? PAUSE_MS : 0);
  }

  /** Show at once what is to be shown soon. */
  flush() {
    if (this.#timer !== undefined) this.#render();
  }

  #render() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#around(() => this.#change());
  }

  #change() {
    if (!this.#text.startsWith(this.#shown)) {
      this.#element.replaceChildren();
      this.#settled = 0;
      this.#last = [];
    }
    this.#shown = this.#text;
    const rest = this.#text.slice(this.#settled);
    const tokens = markdown.parse(rest, {});
    const begin = tokens.findLastIndex((token) => token.level === 0 && token.nesting >= 0);
    for (const node of this.#last) node.remove();
    append(tokens.slice(0, Math.max(begin, 0)), this.#element);
    const last = document.createDocumentFragment();
    append(tokens.slice(Math.max(begin, 0)), last);
    this.#last = [...last.childNodes];
    this.#element.append(last);
    if (begin > 0) this.#settled += offsetOfLine(rest, tokens[begin].map[0]);
  }
}

function offsetOfLine(text, line) {
  let offset = 0;
  for (; line > 0; line -= 1) offset = text.indexOf("\n", offset) + 1;
  return offset;
}

function append(tokens, parent) {
  const open = [parent];
  for (const token of tokens) {
    const top = open.at(-1);
    if (token.type === "inline") append(token.children, top);
    else if (token.hidden) continue;
    else if (token.nesting < 0) open.pop();
    else if (token.nesting > 0) open.push(appendElement(token, top));
    else appendLeaf(token, top);
  }
}

function appendLeaf(token, parent) {
  switch (token.type) {
    case "softbreak":
    case "hardbreak":
      return parent.append(document.createElement("br"));
    case "hr":
      return parent.append(document.createElement("hr"));
    case "code_inline":
      return appendCode(token.content, parent);
    case "fence":
    case "code_block":
      // Lines of code may be long: the block scrolls, by the keyboard, too.
      return appendCode(token.content, Object.assign(appendElement({ tag: "pre" }, parent), { tabIndex: 0 }));
    case "image":
      return appendImage(token, parent);
    default:
      return parent.append(token.content);
  }
}

function appendElement(token, parent) {
  const element = document.createElement(TAGS.has(token.tag) ? (HEADINGS[token.tag] ?? token.tag) : "span");
  if (token.tag === "a") link(element, token.attrGet("href"));
  if (token.tag === "ol" && token.attrGet("start")) element.start = token.attrGet("start");
  const align = /^text-align:(left|center|right)$/.exec(token.attrGet?.("style") ?? "");
  if (align) element.style.textAlign = align[1];
  parent.append(element);
  return element;
}

function appendCode(content, parent) {
  const code = document.createElement("code");
  code.textContent = content;
  parent.append(code);
}

/** An image would tell its server who reads this, so it becomes a link. */
function appendImage(token, parent) {
  const anchor = document.createElement("a");
  link(anchor, token.attrGet("src"));
  anchor.textContent = token.content || token.attrGet("src");
  parent.append(anchor);
}

function link(anchor, address) {
  Object.assign(anchor, { href: address, target: "_blank", rel: "noopener noreferrer nofollow" });
}
