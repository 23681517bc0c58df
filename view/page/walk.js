// @ts-check
// Decides flows from the compiled image, in the steps of the BPF programs: exemption, class of the process, longest
// prefix, port. The image is that of `mesh_bpf::image`; view/src/model.rs writes it.

/**
 * An address or a prefix: family 0 is every address of both, 4 and 6 are families. `bits` are those of the address.
 * @typedef {{ family: 0 | 4 | 6, bits: bigint, len: number }} Prefix
 *
 * @typedef {{ uid?: number, gid?: number, cgroup?: string, interface?: string, node?: boolean }} Identity What is known
 *   of a process, what the flow goes by, and whether the node is at the other end.
 *
 * @typedef {{
 *   direction: 0 | 1, protocol: 0 | 1, address: Prefix, port: number, own: boolean,
 * }} Flow Outbound is 0 and TCP is 0. `own`: the address is one of the member's own.
 *
 * @typedef {[first: number, last: number, value: number][]} Ids
 *
 * @typedef {{
 *   uids: Ids, gids: Ids, cgroups: [string, number][], parts: [number, number, number], cells: number[],
 *   sides: [number, number][], from_node?: [number, number],
 * }} Classes
 *
 * @typedef {{
 *   name: string, sides: [number, number][], uids: Ids, gids: Ids, cgroups: [string, number][],
 *   interfaces: [string, number][], classes?: Classes,
 *   missing_sidecar_refuse: boolean, failed_attach_refuse: boolean,
 * }} Profile Sides are outbound and inbound, each a tree on all addresses and one on the member's own.
 *
 * @typedef {{ name: string, profile: number, selects: string[], addresses: number[] }} Workload
 *
 * @typedef {{
 *   name: string, sources: [number, string, string, string, string][], prefixes: string[],
 *   verdicts: [string, number, boolean][], ports: number[][], trees: number[][], profiles: Profile[],
 *   workloads: Workload[], groups: [string, number[]][], sets: [string, number[]][],
 *   rules: import("./reasons.js").Rules | null, lines: [number, number, string, number][],
 * }} Model
 *   A source is kind, scope, text before the address, its preposition, text after it. A port table is flat: where a
 *   stretch begins, verdict, source, and how many nodes above the item's prefix is. So is a tree: prefix, then the port
 *   tables of TCP and UDP; prefixes are in pre-order.
 *
 * @typedef {{ prefixes: Prefix[], parents: Int32Array, tcp: Int32Array, udp: Int32Array }} Tree
 *
 * @typedef {{ first: number, last: number, verdict: number, source: number, up: number }} Stretch
 *
 * @typedef {{
 *   verdict: number, source: number, item: Prefix | null, exempt: boolean, class: number, tree: Tree | null,
 *   node: number, stretch: Stretch | null,
 * }} Decision
 */

/** Kinds of sources. */
export const NO_RULE = 0;
export const BUILT_IN = 1;
export const EXEMPT = 2;
export const RULE = 3;

/** @type {Prefix} */
export const ANY = { family: 0, bits: 0n, len: 0 };

const V4_MAPPED = 0xffffn << 32n;

/**
 * The bits of an address in text; null where it is none. A v4-mapped address is an IPv4 address.
 * @param {string} text
 * @returns {Prefix | null}
 */
export function parseAddress(text) {
    const bits = text.includes(":") ? parseV6(text) : parseV4(text);
    if (bits === null) return null;
    if (!text.includes(":")) return { family: 4, bits, len: 32 };
    return bits >> 32n === 0xffffn ? { family: 4, bits: bits & 0xffffffffn, len: 32 } : { family: 6, bits, len: 128 };
}

/** @param {string} text @returns {bigint | null} */
function parseV4(text) {
    const parts = text.split(".");
    if (parts.length !== 4 || !parts.every((part) => /^(0|[1-9]\d{0,2})$/.test(part) && Number(part) < 256)) return null;
    return parts.reduce((bits, part) => (bits << 8n) | BigInt(part), 0n);
}

/** @param {string} text @returns {bigint | null} */
function parseV6(text) {
    const halves = text.split("::");
    if (halves.length > 2) return null;
    /** @type {number[][]} */
    const groups = [];
    for (const [at, half] of halves.entries()) {
        /** @type {number[]} */
        const found = [];
        const words = half === "" ? [] : half.split(":");
        for (const [place, word] of words.entries()) {
            if (word.includes(".") && at === halves.length - 1 && place === words.length - 1) {
                const v4 = parseV4(word);
                if (v4 === null) return null;
                found.push(Number(v4 >> 16n), Number(v4 & 0xffffn));
            } else if (/^[0-9a-fA-F]{1,4}$/.test(word)) {
                found.push(parseInt(word, 16));
            } else {
                return null;
            }
        }
        groups.push(found);
    }
    const [before, after] = groups;
    if (!before) return null;
    const missing = 8 - before.length - (after ? after.length : 0);
    if (after ? missing < 1 : missing !== 0) return null;
    const all = after ? [...before, ...Array(missing).fill(0), ...after] : before;
    return all.reduce((bits, group) => (bits << 16n) | BigInt(group), 0n);
}

/** @param {string} text As a policy writes it. @returns {Prefix} */
export function parsePrefix(text) {
    const [address = "", length] = text.split("/");
    const found = parseAddress(address);
    if (!found) return ANY;
    return length === undefined ? found : { ...found, len: Number(length) };
}

/** @param {Prefix} prefix @returns {string} */
export function prefixText(prefix) {
    if (prefix.family === 0) return "any";
    const text = prefix.family === 4 ? v4Text(prefix.bits) : v6Text(prefix.bits);
    return prefix.len === width(prefix) ? text : `${text}/${prefix.len}`;
}

/** @param {bigint} bits @returns {string} */
function v4Text(bits) {
    return [24n, 16n, 8n, 0n].map((shift) => (bits >> shift) & 0xffn).join(".");
}

/** As RFC 5952 says. @param {bigint} bits @returns {string} */
function v6Text(bits) {
    const groups = Array.from({ length: 8 }, (_, at) => Number((bits >> BigInt(112 - 16 * at)) & 0xffffn));
    if (bits >> 32n === V4_MAPPED >> 32n) return `::ffff:${v4Text(bits & 0xffffffffn)}`;
    let [best, longest] = [-1, 1];
    for (let at = 0; at < 8; at++) {
        let run = 0;
        while (at + run < 8 && groups[at + run] === 0) run++;
        if (run > longest) [best, longest] = [at, run];
    }
    const hex = groups.map((group) => group.toString(16));
    if (best < 0) return hex.join(":");
    return `${hex.slice(0, best).join(":")}::${hex.slice(best + longest).join(":")}`;
}

/** @param {Prefix} prefix @returns {number} */
export function width(prefix) {
    return prefix.family === 4 ? 32 : prefix.family === 6 ? 128 : 0;
}

/** Whether all of `inner` lies in `outer`. @param {Prefix} outer @param {Prefix} inner @returns {boolean} */
export function covers(outer, inner) {
    if (outer.family === 0) return true;
    if (outer.family !== inner.family || outer.len > inner.len) return false;
    const shift = BigInt(width(outer) - outer.len);
    return outer.bits >> shift === inner.bits >> shift;
}

/** The last address of a prefix. @param {Prefix} prefix @returns {bigint} */
export function lastOf(prefix) {
    return prefix.bits | ((1n << BigInt(width(prefix) - prefix.len)) - 1n);
}

/** Pre-order: a prefix comes before all that it covers. @param {Prefix} a @param {Prefix} b @returns {number} */
export function compare(a, b) {
    if (a.family !== b.family) return a.family - b.family;
    if (a.bits !== b.bits) return a.bits < b.bits ? -1 : 1;
    return a.len - b.len;
}

/** Whether a cgroup is `path` or below it. @param {string} path @param {string} cgroup @returns {boolean} */
export function cgroupCovers(path, cgroup) {
    return path === "/" || cgroup === path || cgroup.startsWith(`${path}/`);
}

/**
 * The value of the deepest path that covers a cgroup.
 * @param {[string, number][]} paths
 * @param {string | undefined} cgroup
 * @returns {number | null}
 */
function deepest(paths, cgroup) {
    if (cgroup === undefined) return null;
    /** @type {[string, number] | null} */
    let best = null;
    for (const one of paths) {
        if (cgroupCovers(one[0], cgroup) && (best === null || one[0].length >= best[0].length)) best = one;
    }
    return best && best[1];
}

/**
 * The value of the most specific pattern that covers an interface: a name, or its beginning before a `*`.
 * @param {[string, number][]} patterns @param {string | undefined} name @returns {number | null}
 */
function interfaceBy(patterns, name) {
    // What a packet comes by that stays in its network namespace.
    if (name === undefined || name === "lo") return null;
    const depth = (/** @type {string} */ pattern) => (pattern.endsWith("*") ? pattern.length : Infinity);
    const covering = patterns.filter(([pattern]) => (pattern.endsWith("*") ? name.startsWith(pattern.slice(0, -1)) : pattern === name));
    const best = covering.sort(([a], [b]) => depth(b) - depth(a))[0];
    return best ? best[1] : null;
}

/** @param {Ids} ids @param {number | undefined} id @returns {number | null} */
function idIn(ids, id) {
    if (id === undefined) return null;
    const found = ids.find(([first, last]) => first <= id && id <= last);
    return found ? found[2] : null;
}

/** An image that flows are asked of. */
export class Image {
    /** @param {Model} model */
    constructor(model) {
        this.model = model;
        /** @type {Prefix[]} */
        this.prefixes = model.prefixes.map(parsePrefix);
        /** @type {(Tree | undefined)[]} */
        this.trees = [];
    }

    /** @param {number} id @returns {Tree} */
    tree(id) {
        const known = this.trees[id];
        if (known) return known;
        const flat = this.model.trees[id] ?? [];
        const count = flat.length / 3;
        /** @type {Prefix[]} */
        const prefixes = [];
        const [parents, tcp, udp] = [new Int32Array(count), new Int32Array(count), new Int32Array(count)];
        /** @type {number[]} */
        const open = [];
        for (let at = 0; at < count; at++) {
            const prefix = this.prefixes[flat[3 * at] ?? 0] ?? ANY;
            prefixes.push(prefix);
            while (open.length > 0 && !covers(prefixes[/** @type {number} */ (open.at(-1))] ?? ANY, prefix)) open.pop();
            parents[at] = open.at(-1) ?? -1;
            tcp[at] = flat[3 * at + 1] ?? 0;
            udp[at] = flat[3 * at + 2] ?? 0;
            open.push(at);
        }
        const tree = { prefixes, parents, tcp, udp };
        this.trees[id] = tree;
        return tree;
    }

    /**
     * The node with the longest prefix that covers another; −1 where there is none.
     * @param {Tree} tree @param {Prefix} prefix @returns {number}
     */
    longest(tree, prefix) {
        let [low, high] = [0, tree.prefixes.length];
        while (low < high) {
            const middle = (low + high) >> 1;
            if (compare(tree.prefixes[middle] ?? ANY, prefix) <= 0) low = middle + 1;
            else high = middle;
        }
        let at = low - 1;
        while (at >= 0 && !covers(tree.prefixes[at] ?? ANY, prefix)) at = tree.parents[at] ?? -1;
        return at;
    }

    /**
     * The stretches of a port table.
     * @param {number} id @returns {Stretch[]}
     */
    stretches(id) {
        const flat = this.model.ports[id] ?? [];
        /** @type {Stretch[]} */
        const found = [];
        for (let at = 0; at < flat.length; at += 4) {
            const [first = 0, verdict = 0, source = 0, up = 0] = flat.slice(at, at + 4);
            found.push({ first, last: (flat[at + 4] ?? 65536) - 1, verdict, source, up });
        }
        return found;
    }

    /**
     * The stretch of a port table that has a port.
     * @param {number} id @param {number} port @returns {Stretch | null}
     */
    stretch(id, port) {
        const flat = this.model.ports[id] ?? [];
        let [low, high] = [0, flat.length / 4];
        while (low < high) {
            const middle = (low + high) >> 1;
            if ((flat[4 * middle] ?? 0) <= port) low = middle + 1;
            else high = middle;
        }
        if (low === 0) return null;
        const [first = 0, verdict = 0, source = 0, up = 0] = flat.slice(4 * (low - 1), 4 * low);
        return { first, last: (flat[4 * low] ?? 65536) - 1, verdict, source, up };
    }

    /**
     * The exemption of a flow, by the process that opens it or the interface that it goes by: what says so, or null.
     * @param {Profile} profile @param {Identity} identity @param {0 | 1} direction @param {boolean} own
     * @returns {number | null}
     */
    exempt(profile, identity, direction, own) {
        const process = direction === 1 ? null : idIn(profile.uids, identity.uid) ?? idIn(profile.gids, identity.gid)
            ?? deepest(profile.cgroups, identity.cgroup);
        // What a member receives from an address of its own came in by loopback.
        return process ?? (direction === 1 && own ? null : interfaceBy(profile.interfaces, identity.interface));
    }

    /**
     * The class of who is at the ends of a flow: 0 for those that no rule names.
     * @param {Profile} profile @param {0 | 1} direction @param {Identity} identity @returns {number}
     */
    classOf(profile, direction, identity) {
        const classes = profile.classes;
        if (!classes) return 0;
        if (direction === 1) return identity.node && classes.from_node ? 1 : 0;
        const uid = idIn(classes.uids, identity.uid) ?? 0;
        const gid = idIn(classes.gids, identity.gid) ?? 0;
        const cgroup = deepest(classes.cgroups, identity.cgroup) ?? 0;
        const [gids, cgroups, ends] = classes.parts;
        const node = ends > 1 && identity.node ? 1 : 0;
        return classes.cells[((uid * gids + gid) * cgroups + cgroup) * ends + node] ?? 0;
    }

    /**
     * A tree of a profile.
     * @param {Profile} profile @param {0 | 1} direction @param {number} cls @param {boolean} own @returns {Tree}
     */
    treeOf(profile, direction, cls, own) {
        const classes = profile.classes;
        const named = direction === 0 ? classes?.sides[cls - 1] : classes?.from_node;
        const side = (cls > 0 ? named : undefined) ?? profile.sides[direction];
        return this.tree(side?.[own ? 1 : 0] ?? 0);
    }

    /**
     * Decides one flow of a member of a profile; null where the image has no answer.
     * @param {number} id @param {Flow} flow @param {Identity} identity @returns {Decision | null}
     */
    decide(id, flow, identity) {
        const profile = this.model.profiles[id];
        if (!profile) return null;
        const source = this.exempt(profile, identity, flow.direction, flow.own);
        if (source !== null) {
            const verdict = this.model.verdicts.findIndex(([word]) => word === "excluded");
            return { verdict, source, item: null, exempt: true, class: 0, tree: null, node: -1, stretch: null };
        }
        const cls = this.classOf(profile, flow.direction, identity);
        const tree = this.treeOf(profile, flow.direction, cls, flow.own);
        return this.at(tree, this.longest(tree, flow.address), flow.protocol, flow.port, cls);
    }

    /**
     * What a node decides about a port.
     * @param {Tree} tree @param {number} node @param {0 | 1} protocol @param {number} port @param {number} cls
     * @returns {Decision | null}
     */
    at(tree, node, protocol, port, cls) {
        const stretch = node < 0 ? null : this.stretch(this.table(tree, node, protocol), port);
        if (!stretch) return null;
        const { verdict, source } = stretch;
        return { verdict, source, item: this.item(tree, node, stretch.up), exempt: false, class: cls, tree, node, stretch };
    }

    /** @param {Tree} tree @param {number} node @param {0 | 1} protocol @returns {number} */
    table(tree, node, protocol) {
        return (protocol === 0 ? tree.tcp : tree.udp)[node] ?? -1;
    }

    /** The prefix so many nodes above. @param {Tree} tree @param {number} node @param {number} up @returns {Prefix} */
    item(tree, node, up) {
        let at = node;
        for (let step = 0; step < up; step++) at = tree.parents[at] ?? -1;
        return tree.prefixes[at] ?? ANY;
    }

    /** The text of an item. @param {number} id @param {Prefix | null} item @returns {string} */
    text(id, item) {
        const [, , head, preposition, tail] = this.model.sources[id] ?? [0, "", "", "", ""];
        const address = preposition === "" || item === null || item.family === 0 ? "" : ` ${preposition} ${prefixText(item)}`;
        return `${head}${address}${tail}`;
    }

    /** The kind of a source. @param {number} id @returns {number} */
    kind(id) {
        return this.model.sources[id]?.[0] ?? NO_RULE;
    }

    /** Where a source is written. @param {number} id @returns {string} */
    scope(id) {
        return this.model.sources[id]?.[1] ?? "";
    }

    /** A verdict in words: `redirected 15001 transparent`. @param {number} id @returns {string} */
    verdict(id) {
        const [word, port, transparent] = this.model.verdicts[id] ?? ["excluded", 0, false];
        return `${word}${port ? ` ${port}` : ""}${transparent ? " transparent" : ""}`;
    }

    /** Its bare word. @param {number} id @returns {string} */
    word(id) {
        return this.model.verdicts[id]?.[0] ?? "excluded";
    }
}
