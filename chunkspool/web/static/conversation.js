// The conversation: which of a log's answers count, by the same rule as `conversation` of chunkspool in Python.

/**
 * Return the turns of one path through the answers, oldest first: {messages, answer, versions}, answers by their ids.
 *
 * An answer goes on from the one before it in the log, or from where the version that it replaces goes on from. The
 * newest answer is the end of the path that counts. With `through`, the path is the newest that has this answer in it.
 */
export function conversation(answers, through) {
  const places = findPlaces(answers);
  const turns = [];
  for (let at = endOfPath(answers, places, through); at !== undefined; at = places.get(at).parent) {
    const { messages, versions } = places.get(at);
    turns.push({ messages, answer: at, versions });
  }
  return turns.reverse();
}

/** Return of each answer what it goes on from, what it answers, and the versions of its place. */
function findPlaces(answers) {
  const places = new Map();
  const versionsOf = new Map();
  let before;
  for (const { generation, asked, ...answer } of answers) {
    // Nobody writes that an answer replaces itself; it must not go round in circles.
    const replaces = answer.replaces === generation ? null : answer.replaces;
    const replaced = places.get(replaces);
    // Of an answer that is not shown the versions that are shown belong together all the same.
    const key = replaced?.key ?? replaces ?? generation;
    if (!versionsOf.has(key)) versionsOf.set(key, []);
    versionsOf.get(key).push(generation);
    places.set(generation, {
      key,
      parent: replaces ? replaced?.parent : before,
      messages: asked.length ? asked : (replaced?.messages ?? []),
      versions: versionsOf.get(key),
    });
    before = generation;
  }
  return places;
}

function endOfPath(answers, places, through) {
  let end = answers.at(-1)?.generation;
  if (!places.has(through)) return end;
  const reached = new Set();
  for (const { generation } of answers) {
    if (generation !== through && !reached.has(places.get(generation).parent)) continue;
    reached.add(generation);
    end = generation;
  }
  return end;
}
