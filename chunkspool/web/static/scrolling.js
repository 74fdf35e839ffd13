// Where the page stands: what somebody looks at stays where it is.

const page = document.documentElement;

/** Run `change`, which may make the page longer; scroll along if the end was in view. */
export function keepEndInView(change) {
  const atEnd = page.scrollHeight - page.clientHeight - page.scrollTop < 80;
  change();
  if (atEnd) scrollToEnd();
}

export function scrollToEnd() {
  page.scrollTop = page.scrollHeight;
}

/** Run `change`, which may make the page longer or shorter above what is in view. */
export function keepDistanceFromEnd(change) {
  const fromEnd = page.scrollHeight - page.scrollTop;
  change();
  page.scrollTop = page.scrollHeight - fromEnd;
}

/** Run `change`; then scroll so that the element that `findAfter` gives stands where `element` stood. */
export function keepInPlace(element, change, findAfter) {
  const before = element.getBoundingClientRect().top;
  change();
  page.scrollTop += findAfter().getBoundingClientRect().top - before;
}
