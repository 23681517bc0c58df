// @ts-check
// Text from outside: names of pods and files may hold anything. It is only ever set as text; here what would turn a line
// around or cannot be seen is spelled out, so that somebody who reads a name sees that it is there.

/** Characters that are obeyed rather than shown. */
const OBEYED = /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\u2028\u2029]/g;

/**
 * The text as it may be shown.
 * @param {string} text
 * @returns {string}
 */
export function shown(text) {
    return text.replace(OBEYED, (c) => `\\u{${c.charCodeAt(0).toString(16)}}`);
}

/**
 * `1 rule`, `2 rules`.
 * @param {number} count
 * @param {string} what
 * @returns {string}
 */
export function counted(count, what) {
    return `${count.toLocaleString("en")} ${what}${count === 1 ? "" : "s"}`;
}

/**
 * A workload's own name, and its mesh.
 * @param {string} name `mesh/workload`
 * @returns {[string, string]}
 */
export function apart(name) {
    const at = name.lastIndexOf("/");
    return [name.slice(at + 1), name.slice(0, Math.max(at, 0))];
}

/**
 * The pieces of a set of port ranges, as a policy writes them.
 * @param {number[]} ranges pairs of first and last
 * @returns {string}
 */
export function portsText(ranges) {
    const all = [];
    for (let i = 0; i < ranges.length; i += 2) {
        all.push(ranges[i] === ranges[i + 1] ? `${ranges[i]}` : `${ranges[i]}-${ranges[i + 1]}`);
    }
    return all.join(", ");
}
