// Where the page stands: what somebody looks at stays where it is.

const page = document.documentElement;
// Measuring makes the browser lay out all that is shown. What changes inside of a change is measured with it.
let isChanging = false;

/** Run `change`, which may make the page longer; scroll along if the end was in view. */
export function keepEndInView(change) {
  const isEnd = () => page.scrollHeight - page.clientHeight - page.scrollTop < 80;
  runOnce(change, isEnd, (wasEnd) => wasEnd && scrollToEnd());
}

/** Run `change`, which may make the page longer or shorter above what is in view. */
export function keepDistanceFromEnd(change) {
  const measure = () => page.scrollHeight - page.scrollTop;
  runOnce(change, measure, (fromEnd) => (page.scrollTop = page.scrollHeight - fromEnd));
}

/** Run `change`; then scroll so that the element that `findAfter` gives stands where `element` stood. */
export function keepInPlace(element, change, findAfter) {
  const topOf = (one) => one.getBoundingClientRect().top;
  const measure = () => topOf(element);
  runOnce(change, measure, (top) => (page.scrollTop += topOf(findAfter()) - top));
}

export function scrollToEnd() {
  page.scrollTop = page.scrollHeight;
}

function runOnce(change, measure, adjust) {
  if (isChanging) return change();
  const before = measure();
  isChanging = true;
  try {
    change();
  } finally {
    isChanging = false;
  }
  adjust(before);
}
