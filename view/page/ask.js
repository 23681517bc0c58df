// @ts-check
// Reads a flow as people write it, `cart -> 10.0.3.9 tcp 3306`, and finds every answer to it.

import { ANY, compare, covers, lastOf, parseAddress, prefixText, width } from "./walk.js";
import { apartAs } from "./reasons.js";
import { apart } from "./text.js";

/**
 * @typedef {import("./walk.js").Prefix} Prefix
 * @typedef {import("./walk.js").Image} Image
 *
 * @typedef {{
 *   workload: number, direction: 0 | 1, protocol: 0 | 1, port: number, identity: import("./walk.js").Identity,
 *   addresses: Prefix[] | null, peer: number | null, other: string,
 * }} Question `addresses` is null where the other end is a workload, `peer`.
 *
 * @typedef {{ family: 4 | 6, first: bigint, last: bigint }} Range
 *
 * @typedef {{
 *   flow: import("./walk.js").Flow, decision: import("./walk.js").Decision, ranges: Range[],
 * }} Answer One of the flows, and the addresses that are decided so.
 */

/** What is wrong with a flow, in words. */
export class Unreadable extends Error {}

/**
 * The flow that a text asks for.
 * @param {Image} image @param {string} text @returns {Question}
 */
export function readFlow(image, text) {
    const words = text.match(/"[^"]*"|->|[^\s"]+?(?=->)|[^\s"]+/g) ?? [];
    let at = 0;
    const next = () => words[at++];
    const inbound = words[0] === "inbound";
    if (inbound) at++;
    const from = readEnd(image, next, "the flow begins with who opens it: a workload or an address");
    if (next() !== "->") throw new Unreadable("between the two ends stands `->`: `cart -> 10.0.3.9 tcp 3306`");
    const to = readEnd(image, next, "behind `->` stands who is reached: an address, a workload, or `service NAME`");
    /** @type {0 | 1} */
    let protocol = 0;
    let port = to.port;
    let word = next();
    if (word === "tcp" || word === "udp") {
        protocol = word === "tcp" ? 0 : 1;
        word = next();
        if (word !== undefined && /^\d+$/.test(word)) {
            port = Number(word);
            word = next();
        }
    }
    /** @type {import("./walk.js").Identity} */
    const identity = {};
    if (word === "as") word = readIdentity(identity, next);
    if (word === "by") word = readInterface(identity, next);
    if (word !== undefined) throw new Unreadable(`\`${word}\` is not expected there: \`A -> B tcp PORT as uid N\``);
    if (port === undefined) throw new Unreadable("which port? `tcp 3306` or `udp 53` stands behind the two ends");
    if (port < 1 || port > 65535) throw new Unreadable(`${port} is no port: they are 1 to 65535`);
    /** @type {(of: End, other: End, direction: 0 | 1) => Question} */
    const question = (of, other, direction) => ({
        workload: of.workload ?? -1, direction, protocol, port: port ?? 0,
        identity: other.isNode ? { ...identity, node: true } : identity,
        addresses: other.addresses, peer: other.workload, other: other.text,
    });
    if (from.workload !== null && !inbound) return question(from, to, 0);
    if (to.workload === null) throw new Unreadable("neither end is a workload, so no policy decides about it");
    if (Object.keys(identity).some((side) => side !== "interface")) throw new Unreadable("`as` is for connections that the member opens itself");
    return question(to, from, 1);
}

/** @typedef {{ workload: number | null, addresses: Prefix[] | null, port?: number, isNode?: boolean, text: string }} End */

/**
 * @param {Image} image @param {() => string | undefined} next @param {string} missing @returns {End}
 */
function readEnd(image, next, missing) {
    let word = next();
    if (word === undefined || word === "->") throw new Unreadable(missing);
    if (word === "service") {
        const name = unquoted(next() ?? "");
        const set = image.model.sets.find(([known]) => known === `service ${name}`);
        if (!set) throw new Unreadable(`the addresses of service \`${name}\` are not known here; write an address`);
        return { workload: null, addresses: set[1].map((prefix) => image.prefixes[prefix] ?? ANY), text: `service ${name}` };
    }
    if (word === "node") return { workload: null, addresses: null, isNode: true, text: "node" };
    if (word === "pod") throw new Unreadable("pods are not known here; write the workload, or an address");
    const isWorkload = word === "workload";
    if (isWorkload) word = next() ?? "";
    const text = unquoted(word);
    const [host, port] = isWorkload ? [text, undefined] : withoutPort(text);
    const address = isWorkload ? null : parseAddress(host);
    if (address) return { workload: null, addresses: [address], port, text: host };
    return { workload: findWorkload(image, text), addresses: null, text };
}

/** @param {string} word @returns {string} */
function unquoted(word) {
    return word.startsWith("\"") && word.endsWith("\"") ? word.slice(1, -1) : word;
}

/** `10.0.3.9:80` and `[fd00::1]:80`. @param {string} text @returns {[string, number | undefined]} */
function withoutPort(text) {
    const bracketed = /^\[([^\]]*)\](?::(\d+))?$/.exec(text);
    if (bracketed) return [bracketed[1] ?? "", bracketed[2] === undefined ? undefined : Number(bracketed[2])];
    const v4 = /^([\d.]+):(\d+)$/.exec(text);
    return v4 ? [v4[1] ?? "", Number(v4[2])] : [text, undefined];
}

/** @param {Image} image @param {string} name @returns {number} */
function findWorkload(image, name) {
    const workloads = image.model.workloads;
    const found = workloads.flatMap((one, at) => (one.name === name || apart(one.name)[0] === name ? [at] : []));
    const exact = found.find((at) => workloads[at]?.name === name);
    const only = exact ?? (found.length === 1 ? found[0] : undefined);
    if (only !== undefined) return only;
    if (found.length > 1) {
        const names = found.slice(0, 8).map((at) => `\`${workloads[at]?.name}\``).join(", ");
        throw new Unreadable(`\`${name}\` may be ${found.length} workloads: ${names}`);
    }
    const near = nearest(name, workloads.flatMap((one) => [one.name, apart(one.name)[0]]));
    throw new Unreadable(`no workload is named \`${name}\`${near ? `; did you mean \`${near}\`?` : ""}`);
}

/** The name that differs least, if little. @param {string} name @param {string[]} names @returns {string | null} */
function nearest(name, names) {
    let [best, least] = [/** @type {string | null} */ (null), Math.max(1, Math.floor(name.length / 3)) + 1];
    for (const other of names) {
        if (Math.abs(other.length - name.length) >= least) continue;
        const steps = distance(name, other);
        if (steps < least) [best, least] = [other, steps];
    }
    return best;
}

/** Levenshtein's. @param {string} a @param {string} b @returns {number} */
function distance(a, b) {
    let row = Array.from({ length: b.length + 1 }, (_, at) => at);
    for (let i = 1; i <= a.length; i++) {
        const next = [i];
        for (let j = 1; j <= b.length; j++) {
            next.push(Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)));
        }
        row = next;
    }
    return row[b.length] ?? 0;
}

/**
 * Reads what stands behind `as`, and gives back the word behind it.
 * @param {import("./walk.js").Identity} identity @param {() => string | undefined} next @returns {string | undefined}
 */
function readIdentity(identity, next) {
    let word = next();
    if (word === undefined) throw new Unreadable("behind `as` stands `uid N`, `gid N` or `cgroup \"/PATH\"`");
    while (word === "uid" || word === "gid" || word === "cgroup") {
        const value = next() ?? "";
        if (word === "cgroup") {
            identity.cgroup = unquoted(value);
            if (!identity.cgroup.startsWith("/")) throw new Unreadable("a cgroup is a path that begins with `/`");
        } else {
            if (!/^\d+$/.test(value) || Number(value) > 0xffffffff) throw new Unreadable(`\`${value}\` is no ${word}`);
            identity[word] = Number(value);
        }
        word = next();
    }
    return word;
}

/**
 * Reads what stands behind `by`, and gives back the word behind it.
 * @param {import("./walk.js").Identity} identity @param {() => string | undefined} next @returns {string | undefined}
 */
function readInterface(identity, next) {
    const name = next() === "interface" ? unquoted(next() ?? "") : "";
    if (name === "") throw new Unreadable("behind `by` stands `interface \"NAME\"`");
    identity.interface = name;
    return next();
}

/** Who opens a flow, from what stands behind `as`. @param {string} text @returns {import("./walk.js").Identity} */
export function readProcess(text) {
    /** @type {import("./walk.js").Identity} */
    const identity = {};
    const words = text.match(/"[^"]*"|[^\s"]+/g) ?? [];
    let at = words[0] === "as" ? 1 : 0;
    if (at >= words.length) return identity;
    const next = () => words[at++];
    let rest = words[0] === "by" ? next() : readIdentity(identity, next);
    if (rest === "by") rest = readInterface(identity, next);
    if (rest !== undefined) throw new Unreadable(`\`${rest}\` is not expected there: \`uid N\`, \`gid N\`, \`cgroup "/PATH"\``);
    return identity;
}

/**
 * All answers to a question: several where addresses are decided differently.
 * @param {Image} image @param {Question} question @returns {Answer[]}
 */
export function answers(image, question) {
    const workload = image.model.workloads[question.workload];
    if (!workload) return [];
    const { direction, protocol, port, identity } = question;
    /** @type {Answer[]} */
    const found = [];
    /** @type {(range: Range, own: boolean) => void} */
    const decide = (range, own) => {
        /** @type {Prefix} */
        const address = { family: range.family, bits: range.first, len: range.family === 4 ? 32 : 128 };
        /** @type {import("./walk.js").Flow} */
        const flow = { direction, protocol, address, port, own };
        const decision = image.decide(workload.profile, flow, identity);
        if (!decision) return;
        const same = question.addresses ? undefined : found.find((one) => alike(one, flow, decision));
        if (same) same.ranges.push(range);
        else found.push({ flow, decision, ranges: [range] });
    };
    if (question.addresses) {
        for (const address of question.addresses) {
            for (const own of ownership(image, workload, address)) decide(rangeOf(address), own);
        }
        return found;
    }
    const peer = question.peer === null ? undefined : image.model.workloads[question.peer];
    const known = (peer?.addresses ?? []).map((prefix) => image.prefixes[prefix] ?? ANY);
    const profile = image.model.profiles[workload.profile];
    const cls = profile ? image.classOf(profile, direction, identity) : 0;
    const tree = profile ? image.treeOf(profile, direction, cls, false).prefixes : [];
    if (known.length === 0) {
        for (const cell of cells(tree)) {
            if (apartAs(firstOf(cell)) === "") decide(cell, false);
        }
        return found;
    }
    const all = image.model.workloads.flatMap((one, at) => one.addresses.map((prefix) => ({ at, prefix: image.prefixes[prefix] ?? ANY })));
    for (const cell of cells([...tree, ...all.map(({ prefix }) => prefix)])) {
        const first = firstOf(cell);
        if (!known.some((prefix) => covers(prefix, first)) || ownerOf(all, first) !== question.peer) continue;
        for (const own of ownership(image, workload, first)) decide(cell, own);
    }
    return found;
}

/** @param {Answer} one @param {import("./walk.js").Flow} flow @param {import("./walk.js").Decision} decision @returns {boolean} */
function alike(one, flow, decision) {
    return one.flow.own === flow.own && one.decision.verdict === decision.verdict && one.decision.source === decision.source;
}

/** The workload whose longest prefix has an address. @param {{ at: number, prefix: Prefix }[]} all @param {Prefix} address */
function ownerOf(all, address) {
    let [best, longest] = [-1, -1];
    for (const { at, prefix } of all) if (prefix.len >= longest && covers(prefix, address)) [best, longest] = [at, prefix.len];
    return best;
}

/** @param {Range} range @returns {Prefix} */
function firstOf({ family, first }) {
    return { family, bits: first, len: family === 4 ? 32 : 128 };
}

/** @param {Prefix} prefix @returns {Range} */
function rangeOf(prefix) {
    return { family: prefix.family === 6 ? 6 : 4, first: prefix.bits, last: lastOf(prefix) };
}

/**
 * Whether an address is the asking member's own: both, where it is one member's and not another's.
 * @param {Image} image @param {import("./walk.js").Workload} workload @param {Prefix} address @returns {boolean[]}
 */
export function ownership(image, workload, address) {
    const prefixes = workload.addresses.map((prefix) => image.prefixes[prefix] ?? ANY);
    const own = prefixes.some((prefix) => compare(prefix, address) === 0);
    const others = prefixes.some((prefix) => prefix.family === address.family && compare(prefix, address) !== 0);
    return own && others ? [false, true] : [own];
}

/**
 * Both families, cut where these prefixes begin and end.
 * @param {Prefix[]} prefixes @returns {Range[]}
 */
export function cells(prefixes) {
    /** @type {Range[]} */
    const found = [];
    for (const family of /** @type {(4 | 6)[]} */ ([4, 6])) {
        const whole = 1n << BigInt(family === 4 ? 32 : 128);
        /** @type {Set<bigint>} */
        const starts = new Set([0n]);
        for (const prefix of prefixes) {
            if (prefix.family !== family) continue;
            starts.add(prefix.bits);
            const after = lastOf(prefix) + 1n;
            if (after < whole) starts.add(after);
        }
        const sorted = [...starts].sort((a, b) => (a < b ? -1 : 1));
        sorted.forEach((first, at) => found.push({ family, first, last: (sorted[at + 1] ?? whole) - 1n }));
    }
    return found;
}

/** `10.0.0.0/8` or `10.0.0.1-10.0.0.9`. @param {Range} range @returns {string} */
export function rangeText(range) {
    const size = range.last - range.first + 1n;
    const bits = range.family === 4 ? 32 : 128;
    const length = bits - (size.toString(2).length - 1);
    if ((size & (size - 1n)) === 0n && range.first % size === 0n) {
        return prefixText({ family: range.family, bits: range.first, len: length });
    }
    return `${prefixText(firstOf(range))}-${prefixText(firstOf({ ...range, first: range.last }))}`;
}

/**
 * An address that a node decides itself, none of those below it; null where they have all of its addresses.
 * @param {import("./walk.js").Tree} tree @param {number} node @param {Prefix} within @returns {Prefix | null}
 */
export function exampleIn(tree, node, within) {
    /** @type {(family: 4 | 6, first: bigint, last: bigint) => Prefix | null} */
    const search = (family, first, last) => {
        let at = first;
        for (let child = node + 1; child < tree.prefixes.length; child++) {
            const prefix = tree.prefixes[child] ?? ANY;
            if (!covers(tree.prefixes[node] ?? ANY, prefix)) break;
            if (prefix.family !== family || lastOf(prefix) < at) continue;
            if (prefix.bits > at) break;
            at = lastOf(prefix) + 1n;
        }
        return at <= last ? { family, bits: at, len: family === 4 ? 32 : 128 } : null;
    };
    if (within.family !== 0) return search(within.family, within.bits, lastOf(within));
    // One that documentation is written with, if nothing says otherwise.
    return search(4, 0xc0000201n, 0xffffffffn) ?? search(4, 1n << 24n, 0xffffffffn) ?? search(6, 0x20010db8n << 96n, (1n << 128n) - 1n)
        ?? search(6, 0n, (1n << 128n) - 1n);
}

/** Whether a prefix is one address. @param {Prefix} prefix @returns {boolean} */
export function isAddress(prefix) {
    return prefix.family !== 0 && prefix.len === width(prefix);
}
