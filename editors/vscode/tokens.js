// Semantic tokens, as the protocol packs them: five numbers each, of which the first two count from the token before.
"use strict";

/** The tokens of `data` that are not of this type. */
exports.withoutType = (data, type) => {
  const kept = [];
  let line = 0;
  let column = 0;
  let last = { line: 0, column: 0 };
  for (let at = 0; at + 4 < data.length; at += 5) {
    column = data[at] === 0 ? column + data[at + 1] : data[at + 1];
    line += data[at];
    if (data[at + 3] !== type) {
      kept.push(line - last.line, line === last.line ? column - last.column : column, ...data.slice(at + 2, at + 5));
      last = { line, column };
    }
  }
  return new Uint32Array(kept);
};
