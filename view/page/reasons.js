// @ts-check
// Says what a rule beat, from the rules as they are written: the image keeps no rule that decides nothing. The law is that
// of the language: of all items that match a flow those with `always`, of these those that no narrower one beats, of these
// the strongest verdict. view/src/rules.rs writes the rules.

import { ANY, cgroupCovers, covers, parsePrefix, prefixText } from "./walk.js";

/**
 * @typedef {[protocol: 0 | 1, ranges: number[], text: string, name: number, file: number, line: number]} PortItem
 * @typedef {[prefix: number, name: number, file: number, line: number]} AddressItem
 * @typedef {[uid: [number, number], gid: [number, number], cgroup: string, node: boolean]} Process Who is at the ends.
 * @typedef {[number, boolean, number, number, number, number, number, number, number]} Rule
 * @typedef {{
 *   files: string[], names: string[], scopes: [string, number, number[]][], ports: PortItem[][],
 *   addresses: AddressItem[][], processes: Process[][],
 *   rules: Rule[],
 *   exempts: [number, string, number, number][],
 * }} Rules
 *   A rule is scope, always, direction, verdict, the numbers of its three lists, file and line. Levels of scopes are top,
 *   mesh, `for` and workload.
 *
 * @typedef {{
 *   rule: number, scope: number, always: boolean, verdict: number, ports: PortItem, address: AddressItem | null,
 *   prefix: import("./walk.js").Prefix, process: Process | null, head: string, tail: string,
 * }} Match
 *
 * @typedef {{ in: string, inner: string, outer: string }} Narrower
 * @typedef {{ code: string, narrower?: Narrower[], verdict?: number, than?: number }} Why
 * @typedef {{ item: Match, by: Match | null, why: Why }} Beaten `by` is null where the language itself did.
 * @typedef {{ winner: Match | null, also: Match[], beaten: Beaten[] }} Judged
 */

/** @type {Record<string, number>} */
const WEAKNESS = { denied: 0, excluded: 1, redirected: 2 };
/** @type {Record<string, string>} */
const VERBS = { denied: "deny", excluded: "exclude", redirected: "redirect" };

/** Addresses that only rules inside of them reach. @type {[string, string[]][]} */
const APART = [
    ["loopback", ["0.0.0.0", "127.0.0.0/8", "::", "::1"]],
    ["multicast", ["224.0.0.0/4", "255.255.255.255", "ff00::/8"]],
    ["link-local", ["fe80::/10"]],
];

/** What an address is apart as. @param {import("./walk.js").Prefix} prefix @returns {string} */
export function apartAs(prefix) {
    for (const [word, prefixes] of APART_PREFIXES) {
        if (prefixes.some((outer) => covers(outer, prefix))) return word;
    }
    return "";
}

/** @type {[string, import("./walk.js").Prefix[]][]} */
const APART_PREFIXES = APART.map(([word, all]) => [word, all.map(parsePrefix)]);

/** The rules of an image. */
export class Reasons {
    /** @param {import("./walk.js").Image} image @param {Rules} rules */
    constructor(image, rules) {
        this.image = image;
        this.rules = rules;
        /** @type {Set<number>[]} */
        this.members = rules.scopes.map(([, , members]) => new Set(members));
        /** Rules that are about a workload. @type {Map<number, number[]>} */
        this.about = new Map();
    }

    /** The rules about a workload. @param {number} workload @returns {number[]} */
    rulesOf(workload) {
        const known = this.about.get(workload);
        if (known) return known;
        const found = this.rules.rules.flatMap(([scope], rule) => (this.applies(scope, workload) ? [rule] : []));
        this.about.set(workload, found);
        return found;
    }

    /** Whether a scope is about a workload. @param {number} scope @param {number} workload @returns {boolean} */
    applies(scope, workload) {
        return this.rules.scopes[scope]?.[1] === 0 || (this.members[scope]?.has(workload) ?? false);
    }

    /**
     * Why a flow is decided as it is.
     * @param {number} workload @param {import("./walk.js").Flow} flow @param {import("./walk.js").Identity} identity
     * @returns {Judged}
     */
    of(workload, flow, identity) {
        const { matches, apart } = this.matching(workload, flow, identity);
        const builtIn = flow.own ? "own-address" : apartAs(flow.address);
        const closed = flow.direction === 1 ? this.close(workload, flow, matches) : { open: matches, redirects: [], outsiders: [] };
        const found = this.contest(closed.open);
        for (const item of closed.redirects) found.beaten.push({ item, by: null, why: { code: "sidecar-port" } });
        for (const item of closed.outsiders) found.beaten.push({ item, by: null, why: { code: "outbound-port" } });
        if (builtIn) for (const item of apart) found.beaten.push({ item, by: null, why: { code: builtIn } });
        return found;
    }

    /**
     * The items that match a flow; and those that hold it and do not reach in there.
     * @param {number} workload @param {import("./walk.js").Flow} flow @param {import("./walk.js").Identity} identity
     * @returns {{ matches: Match[], apart: Match[] }}
     */
    matching(workload, flow, identity) {
        /** @type {Match[]} */
        const matches = [];
        /** @type {Match[]} */
        const apart = [];
        const flowApart = apartAs(flow.address);
        /** @type {Map<number, (AddressItem | null)[]>} */
        const holding = new Map();
        for (const rule of this.rulesOf(workload)) {
            const [scope, always, direction, verdict, ports, addresses, processes] = /** @type {Rule} */ (this.rules.rules[rule]);
            if (direction !== flow.direction) continue;
            const open = (this.rules.ports[ports] ?? [])
                .filter(([protocol, ranges]) => protocol === flow.protocol && holds(ranges, flow.port));
            if (open.length === 0) continue;
            let known = holding.get(addresses);
            if (!known) {
                known = this.holding(addresses, flow.address);
                holding.set(addresses, known);
            }
            const whos = this.whos(processes).filter((who) => who === null || isOne(who, identity));
            for (const item of open) {
                for (const address of known) {
                    const prefix = address ? this.image.prefixes[address[0]] ?? ANY : ANY;
                    const inside = flow.own ? isHost(prefix) : apartAs(prefix) === flowApart;
                    for (const process of whos) {
                        const [head, tail] = this.halves(always, flow.direction, verdict, item, process);
                        const match = { rule, scope, always, verdict, ports: item, address, prefix, process, head, tail };
                        (inside ? matches : apart).push(match);
                    }
                }
            }
        }
        return { matches, apart };
    }

    /** @param {number} list @param {import("./walk.js").Prefix} address @returns {(AddressItem | null)[]} */
    holding(list, address) {
        const items = this.rules.addresses[list] ?? [];
        if (items.length === 0) return [null];
        return items.filter(([prefix]) => covers(this.image.prefixes[prefix] ?? ANY, address));
    }

    /** @param {number} list @returns {(Process | null)[]} */
    whos(list) {
        const items = this.rules.processes[list] ?? [];
        return items.length === 0 ? [null] : items;
    }

    /**
     * The text of an item before its address and after it.
     * @param {boolean} always @param {number} direction @param {number} verdict @param {PortItem} ports
     * @param {Process | null} process @returns {[string, string]}
     */
    halves(always, direction, verdict, ports, process) {
        const [word, port, transparent] = this.image.model.verdicts[verdict] ?? ["excluded", 0, false];
        const head = `${always ? "always " : ""}${VERBS[word]} ${direction === 0 ? "outbound" : "inbound"} ${
            ports[0] === 0 ? "tcp" : "udp"}${ports[2]}`;
        const node = process?.[3] ? ` ${direction === 0 ? "to" : "from"} node` : "";
        const named = process ? processText(process) : "";
        const who = `${node}${named === "" ? "" : ` as ${named}`}`;
        const to = port ? ` -> ${port}${transparent ? " transparent" : ""}` : "";
        return [head, `${who}${to}`];
    }

    /** The text of an item. @param {Match} match @returns {string} */
    text(match) {
        const preposition = this.rules.rules[match.rule]?.[2] === 1 ? "from" : "to";
        const address = match.prefix.family === 0 ? "" : ` ${preposition} ${prefixText(match.prefix)}`;
        return `${match.head}${address}${match.tail}`;
    }

    /** @param {Match} a @param {Match} b @returns {number} */
    order(a, b) {
        const length = (/** @type {Match} */ one) => (one.prefix.family === 0 ? -1 : one.prefix.len);
        const scope = (/** @type {Match} */ one) => this.rules.scopes[one.scope]?.[0] ?? "";
        return bytes(a.head, b.head) || bytes(a.tail, b.tail) || length(b) - length(a) || bytes(scope(a), scope(b))
            || a.rule - b.rule;
    }

    /**
     * Takes out what has no part at the ports of a sidecar.
     * @param {number} workload @param {import("./walk.js").Flow} flow @param {Match[]} matches
     * @returns {{ open: Match[], redirects: Match[], outsiders: Match[] }}
     */
    close(workload, flow, matches) {
        /** @type {[Set<number>, Set<number>]} */
        const ledTo = [new Set(), new Set()];
        let isSidecars = false;
        for (const rule of this.rulesOf(workload)) {
            const [, , direction, verdict, ports] = /** @type {Rule} */ (this.rules.rules[rule]);
            const port = this.image.model.verdicts[verdict]?.[1] ?? 0;
            if (port === 0) continue;
            isSidecars ||= port === flow.port;
            const isOfProtocol = (this.rules.ports[ports] ?? []).some(([protocol]) => protocol === flow.protocol);
            if (isOfProtocol) ledTo[direction === 0 ? 0 : 1].add(port);
        }
        const own = (/** @type {number} */ port) => ledTo[0].has(port) && !ledTo[1].has(port);
        const belongs = !flow.own && apartAs(flow.address) !== "loopback" && own(flow.port);
        /** @type {{ open: Match[], redirects: Match[], outsiders: Match[] }} */
        const closed = { open: [], redirects: [], outsiders: [] };
        for (const match of matches) {
            const word = this.image.word(match.verdict);
            if (word === "redirected" && isSidecars) closed.redirects.push(match);
            else if (word === "excluded" && belongs && !all(match.ports[1], own)) closed.outsiders.push(match);
            else closed.open.push(match);
        }
        return closed;
    }

    /** Applies the law. @param {Match[]} all @returns {Judged} */
    contest(all) {
        // Of equal winners the one with the least text is credited.
        const matches = [...all].sort((a, b) => this.order(a, b));
        const always = matches.some((one) => one.always);
        const part = matches.filter((one) => one.always === always);
        const unbeaten = part.filter((one) => !part.some((other) => this.isNarrower(other, one)));
        /** @type {Match | null} */
        let winner = null;
        for (const one of unbeaten) {
            if (winner === null || this.weakness(one) < this.weakness(winner)) winner = one;
        }
        /** @type {Judged} */
        const found = { winner, also: [], beaten: [] };
        if (winner === null) return found;
        for (const item of matches) {
            if (item === winner) continue;
            const stands = unbeaten.includes(item);
            if (stands && item.verdict === winner.verdict) found.also.push(item);
            else if (!stands || this.weakness(item) !== this.weakness(winner)) found.beaten.push(this.beater(item, unbeaten, winner));
        }
        return found;
    }

    /** @param {Match} item @param {Match[]} unbeaten @param {Match} winner @returns {Beaten} */
    beater(item, unbeaten, winner) {
        if (winner.always && !item.always) return { item, by: winner, why: { code: "always" } };
        const by = this.isNarrower(winner, item) ? winner : unbeaten.find((one) => this.isNarrower(one, item));
        if (by) return { item, by, why: { code: "narrower", narrower: this.narrowerIn(by, item) } };
        return { item, by: winner, why: { code: "stronger", verdict: winner.verdict, than: item.verdict } };
    }

    /** @param {Match} one @returns {number} */
    weakness(one) {
        return WEAKNESS[this.image.word(one.verdict)] ?? 2;
    }

    /** @param {Match} one @param {Match} other @returns {boolean} */
    isNarrower(one, other) {
        return this.within(one, other) && !this.within(other, one);
    }

    /** Whether each side of `inner` lies within that of `outer`. @param {Match} inner @param {Match} outer @returns {boolean} */
    within(inner, outer) {
        return covers(outer.prefix, inner.prefix) && this.scopeCovers(outer.scope, inner.scope)
            && processCovers(outer.process, inner.process) && rangesCover(outer.ports[1], inner.ports[1]);
    }

    /** @param {number} outer @param {number} inner @returns {boolean} */
    scopeCovers(outer, inner) {
        const [, outerLevel = 0, ] = this.rules.scopes[outer] ?? [];
        const [, innerLevel = 0, members = []] = this.rules.scopes[inner] ?? [];
        if (outerLevel !== innerLevel) return outerLevel < innerLevel;
        return members.every((member) => this.members[outer]?.has(member));
    }

    /** @param {Match} inner @param {Match} outer @returns {Narrower[]} */
    narrowerIn(inner, outer) {
        /** @type {Narrower[]} */
        const found = [];
        if (!rangesCover(inner.ports[1], outer.ports[1])) {
            found.push({ in: "ports", inner: portsOf(inner), outer: portsOf(outer) });
        }
        if (!covers(inner.prefix, outer.prefix) || (inner.process?.[3] && !outer.process?.[3])) {
            found.push({ in: "addresses", inner: addressesOf(inner), outer: addressesOf(outer) });
        }
        if (!this.scopeCovers(inner.scope, outer.scope)) {
            found.push({ in: "scope", inner: this.scopeText(inner.scope), outer: this.scopeText(outer.scope) });
        }
        if (!processCovers(withoutNode(inner.process), withoutNode(outer.process))) {
            found.push({ in: "processes", inner: processesOf(inner), outer: processesOf(outer) });
        }
        return found;
    }

    /** @param {number} scope @returns {string} */
    scopeText(scope) {
        const [name, level] = this.rules.scopes[scope] ?? ["", 0];
        return ["the top level", `mesh ${name}`, `\`for\` ${name}`, `workload ${name}`][level] ?? "";
    }
}

/** By bytes of UTF-8, which is by code points. @param {string} a @param {string} b @returns {number} */
function bytes(a, b) {
    if (a === b) return 0;
    const [left, right] = [[...a], [...b]];
    for (let at = 0; at < Math.min(left.length, right.length); at++) {
        const difference = (left[at]?.codePointAt(0) ?? 0) - (right[at]?.codePointAt(0) ?? 0);
        if (difference !== 0) return difference;
    }
    return left.length - right.length;
}

/** @param {number[]} ranges @param {number} port @returns {boolean} */
function holds(ranges, port) {
    for (let at = 0; at < ranges.length; at += 2) {
        if ((ranges[at] ?? 1) <= port && port <= (ranges[at + 1] ?? 0)) return true;
    }
    // No rule can name port 0; those without ports have it all the same.
    return port === 0 && ranges[0] === 1 && ranges.at(-1) === 65535;
}

/** @param {number[]} outer @param {number[]} inner @returns {boolean} */
function rangesCover(outer, inner) {
    for (let at = 0; at < inner.length; at += 2) {
        let [first, last] = [inner[at] ?? 0, inner[at + 1] ?? 0];
        let covered = false;
        for (let place = 0; place < outer.length; place += 2) {
            if ((outer[place] ?? 1) <= first && last <= (outer[place + 1] ?? 0)) covered = true;
        }
        if (!covered) return false;
    }
    return true;
}

/** @param {number[]} ranges @param {(port: number) => boolean} is @returns {boolean} */
function all(ranges, is) {
    for (let at = 0; at < ranges.length; at += 2) {
        for (let port = ranges[at] ?? 1; port <= (ranges[at + 1] ?? 0); port++) if (!is(port)) return false;
    }
    return true;
}

/** @param {import("./walk.js").Prefix} prefix @returns {boolean} */
function isHost(prefix) {
    return (prefix.family === 4 && prefix.len === 32) || (prefix.family === 6 && prefix.len === 128);
}

/** @param {Process} process @param {import("./walk.js").Identity} identity @returns {boolean} */
function isOne([uid, gid, cgroup, node], identity) {
    const id = (/** @type {[number, number]} */ [first, last], /** @type {number | undefined} */ known) =>
        first < 0 || (known !== undefined && first <= known && known <= last);
    return id(uid, identity.uid) && id(gid, identity.gid)
        && (cgroup === "" || (identity.cgroup !== undefined && cgroupCovers(cgroup, identity.cgroup)))
        && (!node || identity.node === true);
}

/** @param {Process | null} process @returns {Process | null} */
function withoutNode(process) {
    return process && [process[0], process[1], process[2], false];
}

/** @param {Process | null} outer @param {Process | null} inner @returns {boolean} */
function processCovers(outer, inner) {
    if (outer === null) return true;
    const [uid, gid, cgroup, node] = inner ?? [[-1, -1], [-1, -1], "", false];
    const ids = (/** @type {[number, number]} */ [first, last], /** @type {number[]} */ [from = -1, to = -1]) =>
        first < 0 || (from >= 0 && first <= from && to <= last);
    return ids(outer[0], uid) && ids(outer[1], gid) && (outer[2] === "" || (cgroup !== "" && cgroupCovers(outer[2], cgroup)))
        && (!outer[3] || node);
}

/** @param {Process} process @returns {string} */
function processText([uid, gid, cgroup]) {
    const range = (/** @type {[number, number]} */ [first, last]) => (first === last ? `${first}` : `${first}-${last}`);
    const sides = [uid[0] >= 0 && `uid ${range(uid)}`, gid[0] >= 0 && `gid ${range(gid)}`, cgroup !== "" && `cgroup "${cgroup}"`];
    return sides.filter((side) => side !== false).join(" and ");
}

/** @param {Match} match @returns {string} */
function portsOf(match) {
    const protocol = match.ports[0] === 0 ? "tcp" : "udp";
    return match.ports[2] === "" ? `all ${protocol} ports` : `${protocol}${match.ports[2]}`;
}

/** @param {Match} match @returns {string} */
function addressesOf(match) {
    if (match.process?.[3]) return "the node's addresses";
    return match.prefix.family === 0 ? "all addresses" : prefixText(match.prefix);
}

/** @param {Match} match @returns {string} */
function processesOf(match) {
    return (match.process && processText(match.process)) || "all processes";
}

/**
 * What matches a flow beside what decided it: about an exempt process, what would decide about everybody else.
 * @param {Reasons} reasons @param {number} workload @param {import("./walk.js").Flow} flow
 * @param {import("./walk.js").Identity} identity @param {import("./walk.js").Decision} decision @returns {Judged}
 */
export function explained(reasons, workload, flow, identity, decision) {
    if (!decision.exempt) return reasons.of(workload, flow, identity);
    const { winner, also } = reasons.of(workload, flow, { node: identity.node });
    /** @type {Beaten[]} */
    const beaten = (winner ? [winner, ...also] : []).map((item) => ({ item, by: null, why: { code: "exempt" } }));
    return { winner: null, also: [], beaten };
}

/**
 * Why an item lost, in words.
 * @param {import("./walk.js").Image} image @param {Why} why @returns {string}
 */
export function whyText(image, why) {
    const inside = (/** @type {string} */ what) => `${what}: only rules whose own addresses lie inside reach it`;
    switch (why.code) {
        case "exempt": return "an exempt process passes all rules, also those with `always`";
        case "always": return "a rule with `always` passes all rules without";
        case "narrower":
            return `narrower: ${(why.narrower ?? []).map(({ inner, outer }) => `${inner} within ${outer}`).join(", ")}`;
        case "stronger": {
            const verb = (/** @type {number | undefined} */ verdict) => VERBS[image.word(verdict ?? 0)];
            return `neither is narrower, and ${verb(why.verdict)} is stronger than ${verb(why.than)}`;
        }
        case "loopback": return inside("a loopback address");
        case "multicast": return inside("a multicast or broadcast address");
        case "link-local": return inside("a link-local address");
        case "own-address": return "one of the member's own addresses: only rules that name just that one reach it";
        case "sidecar-port": return "a sidecar's port: nothing is redirected there";
        case "outbound-port": return "a port that only outbound redirects lead to: opened by `exclude` of just such ports";
        default: return why.code;
    }
}
