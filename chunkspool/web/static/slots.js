// Limit how many streams the tabs of this browser hold at a time: with HTTP/1.1 it has six connections to a server.

// The others are for pages, questions and stops.
const STREAMS = 4;

/**
 * Take the right to hold a stream for as long as one likes; return what gives it back, or null if all are taken.
 *
 * Browsers offer locks only to pages that came by HTTPS or from the machine itself. Elsewhere nothing is limited.
 */
export async function takeSlot() {
  if (!navigator.locks || sharesOneConnection()) return () => {};
  for (let number = 0; number < STREAMS; number += 1) {
    const release = await tryLock(`chunkspool-stream-${number}`);
    if (release) return release;
  }
  return null;
}

/** Return whether the server speaks HTTP/2 or 3, where all requests share a connection. */
function sharesOneConnection() {
  return /^h[23]/.test(performance.getEntriesByType("navigation")[0]?.nextHopProtocol ?? "");
}

/** Take a lock if it is free; it is held until the returned function is called, or until the tab is closed. */
function tryLock(name) {
  return new Promise((resolve) => {
    navigator.locks.request(name, { ifAvailable: true }, (lock) => {
      if (lock) return new Promise((release) => resolve(release));
      resolve(null);
    });
  });
}
