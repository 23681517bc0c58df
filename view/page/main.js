// @ts-check
// The page: reads its data, and puts the views together.

import { Unreadable, answers, exampleIn, rangeText, readFlow, readProcess } from "./ask.js";
import { Graph } from "./graph.js";
import { Live } from "./live.js";
import { Matrix, Table, columnText } from "./matrix.js";
import { Known, badge, cited, el, reasonsOf, shape } from "./parts.js";
import { Reasons, explained, whyText } from "./reasons.js";
import { apart, counted, portsText, shown } from "./text.js";
import { ANY, Image, parsePrefix, prefixText } from "./walk.js";

/**
 * @typedef {{
 *   workload: string, direction: string, protocol: string, addresses: string, ports: string, own: boolean, who: string,
 *   before: string, after: string, causes: string[], example: string,
 * }} Change
 * @typedef {{
 *   format: number, title: string, live: boolean, policies: import("./walk.js").Model[],
 *   columns: [import("./matrix.js").Column[], import("./matrix.js").Column[]], changes: Change[], notes: string[],
 * }} Data
 */

/** Rows of a table that are shown at once. */
const AT_ONCE = 200;

/** @param {string} id @returns {HTMLElement} */
function byId(id) {
    return /** @type {HTMLElement} */ (document.getElementById(id));
}

class Page {
    /** @param {Data} data */
    constructor(data) {
        this.data = data;
        this.known = data.policies.map((model) => {
            const image = new Image(model);
            return new Known(image, model.rules ? new Reasons(image, model.rules) : null);
        });
        this.images = this.known.map(({ image }) => image);
        /** The policy that is shown: of two the new one. */
        this.now = /** @type {Known} */ (this.known.at(-1));
        this.table = new Table(this.images, data.columns);
        const workloads = this.now.image.model.workloads;
        const profiles = new Set(workloads.map(({ profile }) => profile)).size;
        /** @type {import("./matrix.js").Choice} */
        this.choice = {
            direction: 0, protocol: 0, port: null, identity: {}, workloads: "", addresses: "",
            fold: workloads.length > 60 && profiles * 2 < workloads.length, changes: false,
        };
        /** What stands for the process, as it was written. */
        this.process = "";
        this.matrix = new Matrix(this.table, (row, column) => this.chosen(row, column));
        this.graph = new Graph(this.table, (row, column) => this.chosen(row, column));
        this.answer = byId("answer");
        this.view = byId("view");
        /** @type {[string, () => Node[]][]} */
        this.views = [
            ["Matrix", () => [this.tools(this.matrix), this.matrix.root, this.legend()]],
            ["Graph", () => [this.tools(this.graph), this.graph.root, this.legend()]],
        ];
        if (data.live) {
            const live = new Live();
            live.start();
            this.views.push(["Live", () => [live.root]]);
        }
        if (data.policies.length > 1) this.views.push([`Changes (${data.changes.length})`, () => this.changesView()]);
    }

    start() {
        byId("facts").textContent = shown(this.facts());
        const nav = byId("views");
        nav.append(...this.views.map(([name], at) => el("button", { type: "button", click: () => this.open(at) }, name)));
        const flow = /** @type {HTMLInputElement} */ (byId("flow"));
        flow.placeholder = this.example();
        byId("ask").addEventListener("submit", (event) => {
            event.preventDefault();
            this.ask(flow.value.trim() || flow.placeholder);
            if (flow.value.trim() === "") flow.value = flow.placeholder;
        });
        addEventListener("keydown", (event) => {
            const isTyping = event.target instanceof HTMLInputElement && event.target.type !== "radio" && event.target.type !== "checkbox";
            if (event.key === "/" && !isTyping && !event.ctrlKey && !event.metaKey) {
                event.preventDefault();
                flow.focus();
                flow.select();
            }
        });
        addEventListener("beforeprint", () => byId("print").replaceChildren(...this.matrix.printed()));
        addEventListener("afterprint", () => byId("print").replaceChildren());
        this.open(this.known.length > 1 ? 2 : 0);
        this.answer.replaceChildren(...this.hints());
        const asked = decodeURIComponent(location.hash.slice(1));
        if (asked.includes("->")) {
            flow.value = asked;
            this.ask(asked);
        }
    }

    facts() {
        const { model } = this.now.image;
        const meshes = new Set(model.workloads.map(({ name }) => apart(name)[1])).size;
        const parts = [counted(meshes, "mesh").replace("meshs", "meshes"), counted(model.workloads.length, "workload")];
        if (model.rules) parts.push(counted(model.rules.rules.length, "rule"));
        parts.push(counted(this.data.columns[0].length, "destination"));
        return parts.join(" · ");
    }

    /** A flow that can be asked here. */
    example() {
        const workload = this.now.image.model.workloads[0];
        const column = this.data.columns[0].find(({ kind }) => kind === "prefix" || kind === "set");
        const address = (column?.prefixes[0] ?? "192.0.2.1").split("/")[0];
        return `${workload ? apart(workload.name)[0] : "cart"} -> ${address} tcp 443`;
    }

    /** @returns {Node[]} What stands where nothing is chosen yet. */
    hints() {
        const { model } = this.now.image;
        return [
            el("h2", {}, "What decides"),
            el("p", { class: "muted" }, "Choose a cell, or ask a flow: here stands the rule, its line, and what it beat. Keys: arrows and Enter in the matrix, / to ask."),
            el("h3", {}, this.known.length > 1 ? "Compared" : "Policy"),
            ...this.known.map(({ image }, at) => el("p", {}, this.known.length > 1 ? (at === 0 ? "old: " : "new: ") : null, el("code", {}, image.model.name))),
            ...(model.groups.length > 0 ? [el("h3", {}, "Groups"), el("dl", { class: "facts" }, ...model.groups.flatMap(([name, members]) =>
                [el("dt", {}, apart(name)[0]), el("dd", {}, listed(members.map((at) => apart(model.workloads[at]?.name ?? "")[0])))]))] : []),
        ];
    }

    /** @param {number} at Which of the views. */
    open(at) {
        byId("views").querySelectorAll("button").forEach((button, place) => {
            if (place === at) button.setAttribute("aria-current", "page");
            else button.removeAttribute("aria-current");
        });
        this.view.replaceChildren(...(this.views[at]?.[1]() ?? []));
        [this.matrix, this.graph][at]?.show(this.choice);
    }

    /** What chooses what is shown. @param {Matrix | Graph} of @returns {Node} */
    tools(of) {
        const choice = this.choice;
        const show = () => of.show(choice);
        /** @param {string} name @param {[string, number][]} options @param {number} chosen @param {(value: any) => void} set */
        const segmented = (name, options, chosen, set) => el("fieldset", {}, el("legend", { class: "hidden" }, name), ...options.map(([word, value]) =>
            el("label", {}, el("input", { type: "radio", name, value: `${value}`, checked: value === chosen, change: () => { set(value); show(); } }), el("span", {}, word))));
        /** @param {string} word @param {string} kind @param {string} placeholder @param {string} value @param {(value: string) => void} set */
        const field = (word, kind, placeholder, value, set) => el("label", {}, word, el("input", {
            class: kind, placeholder, value, spellcheck: "false", autocomplete: "off",
            input: (event) => {
                const input = /** @type {HTMLInputElement} */ (event.target);
                try {
                    set(input.value);
                    input.classList.remove("wrong");
                    input.removeAttribute("aria-invalid");
                    input.title = "";
                } catch (error) {
                    input.classList.add("wrong");
                    input.setAttribute("aria-invalid", "true");
                    input.title = error instanceof Unreadable ? error.message : "";
                    return;
                }
                show();
            },
        }));
        /** @param {string} word @param {boolean} chosen @param {(value: boolean) => void} set */
        const switched = (word, chosen, set) => el("label", {}, el("input", { type: "checkbox", checked: chosen, change: (event) => { set(event.target.checked); show(); } }), word);
        const hasClasses = this.images.some(({ model }) => model.profiles.some(({ classes, uids, gids, cgroups, interfaces }) => classes || uids.length + gids.length + cgroups.length + interfaces.length > 0));
        return el("div", { class: "tools" },
                segmented("Direction", [["outbound", 0], ["inbound", 1]], choice.direction, (value) => { choice.direction = value; }),
                segmented("Protocol", [["tcp", 0], ["udp", 1]], choice.protocol, (value) => { choice.protocol = value; }),
                field("port", "port", "all", choice.port === null ? "" : `${choice.port}`, (text) => { choice.port = readPort(text); }),
                hasClasses ? field("as", "process", "uid 1000", this.process, (text) => { choice.identity = readProcess(text.trim()); this.process = text; }) : null,
                field("workloads", "filter", "name or group", choice.workloads, (text) => { choice.workloads = text; }),
                field("addresses", "filter", "name or prefix", choice.addresses, (text) => { choice.addresses = text; }),
                of === this.matrix && this.now.image.model.workloads.length > 1 ? switched("equal ones as one row", choice.fold, (value) => { choice.fold = value; }) : null,
                this.known.length > 1 ? switched("only what changes", choice.changes, (value) => { choice.changes = value; }) : null);
    }

    /** @returns {Node} */
    legend() {
        return el("p", { class: "legend" },
            ...[["redirected", "to the sidecar"], ["excluded", "straight on"], ["denied", "refused"]].map(([word = "", means]) =>
                el("span", {}, el("span", { class: `verdict ${word}` }, shape(word), word), `${means}`)),
            el("span", {}, "+1: another verdict at some ports"),
            this.known.length > 1 ? el("span", {}, "dashed: changed") : null);
    }

    /** @param {import("./matrix.js").Row | null} row @param {number | null} column */
    chosen(row, column) {
        if (row && column !== null) this.tell(...this.cellDetail(row, column));
        else if (row) this.tell(...this.workloadDetail(row));
        else if (column !== null) this.tell(...this.columnDetail(column));
    }

    /** @param {...Node} nodes */
    tell(...nodes) {
        this.answer.replaceChildren(...nodes);
        this.answer.scrollTop = 0;
    }

    /** @param {import("./matrix.js").Row} row @returns {Node[]} */
    workloadDetail(row) {
        const { image } = this.now;
        const model = image.model;
        const workload = model.workloads.find(({ name }) => name === row.name);
        const profile = workload && model.profiles[workload.profile];
        if (!workload || !profile) return [el("h2", {}, row.name), el("p", { class: "muted" }, "is not in the new policy: its connections go straight.")];
        const alike = model.workloads.filter((one) => one.profile === workload.profile && one !== workload).map(({ name }) => name);
        const groups = model.groups.filter(([, members]) => members.some((at) => model.workloads[at] === workload)).map(([name]) => apart(name)[0]);
        const ids = (/** @type {string} */ kind, /** @type {import("./walk.js").Ids} */ all) => all.map(([first, last]) => `${kind} ${first === last ? first : `${first}-${last}`}`);
        const exempt = [...ids("uid", profile.uids), ...ids("gid", profile.gids), ...profile.cgroups.map(([path]) => `cgroup "${path}"`),
            ...profile.interfaces.map(([name]) => `interface "${name}"`)];
        /** @type {[string, string][]} */
        const facts = [
            ["members", workload.selects.join("\n")], ["groups", groups.join(", ")], ["exempt", exempt.join(", ")],
            ["decided alike", listed(alike)],
            ["without a sidecar", profile.missing_sidecar_refuse ? "inbound connections that are redirected are refused" : "inbound connections pass"],
            ["without the mesh", profile.failed_attach_refuse ? "a pod that cannot be in it does not start" : "a pod that cannot be in it starts outside"],
        ];
        return [el("h2", {}, workload.name), el("dl", { class: "facts" }, ...facts.filter(([, text]) => text !== "").flatMap(([word, text]) =>
            [el("dt", {}, word), el("dd", {}, ...text.split("\n").flatMap((line, at) => [at > 0 ? el("br") : null, line]))]))];
    }

    /** @param {number} at @returns {Node[]} */
    columnDetail(at) {
        const column = this.data.columns[this.choice.direction][at];
        if (!column) return [];
        const more = column.count - column.prefixes.length;
        return [
            el("h2", {}, columnText(column)),
            el("p", { class: "muted" }, column.kind === "any" ? "All addresses that no other column has." : `${counted(column.count, "prefix").replace("prefixs", "prefixes")}, decided alike by every workload. Narrower ones have columns of their own.`),
            column.kind === "any" ? null : el("p", { class: "mono" }, column.prefixes.join(", ")),
            more > 0 ? el("p", { class: "muted" }, `and ${more.toLocaleString("en")} more`) : null,
        ].filter((node) => node !== null);
    }

    /**
     * Ports of a cell, with verdict and rule.
     * @param {import("./matrix.js").Row} row @param {number} column @returns {Node[]}
     */
    cellDetail(row, column) {
        const { direction, protocol, port } = this.choice;
        const of = /** @type {import("./matrix.js").Column} */ (this.data.columns[direction][column]);
        const word = protocol === 0 ? "tcp" : "udp";
        const names = row.names.length > 1 ? `${row.name} + ${row.names.length - 1}` : row.name;
        const title = direction === 0 ? `${names} → ${columnText(of)}` : `${columnText(of)} → ${names}`;
        const about = [direction === 0 ? "outbound" : "inbound", word, port === null ? "all ports" : `port ${port}`];
        if (of.kind !== "any" && of.name !== "") about.push(listed(of.prefixes, of.count));
        /** @type {Node[]} */
        const found = [el("h2", {}, title), el("p", { class: "muted" }, about.join(", "))];
        const changed = this.known.length > 1 ? this.table.changedPorts(row, column, this.choice) : [];
        if (this.known.length > 1) {
            found.push(el("p", {}, changed.length === 0 ? "Both policies decide alike here." : `Decided otherwise at ${changed[0] === 1 && changed[1] === 65535 ? "all ports" : `port ${portsText(changed)}`}:`));
        }
        this.known.forEach((known, at) => {
            // What stays is told once.
            if (this.known.length > 1 && changed.length === 0 && at === 0) return;
            const profile = row.profiles[at] ?? -1;
            if (changed.length > 0) found.push(el("h3", {}, at === 0 ? "Before" : "After"));
            if (profile < 0) found.push(el("p", {}, badge("excluded"), " not in a mesh"));
            else found.push(this.portsOf(known, at, row, column, changed));
        });
        return found;
    }

    /**
     * @param {Known} known @param {number} at @param {import("./matrix.js").Row} row @param {number} column
     * @param {number[]} only These ports, as pairs of first and last; all where there are none. @returns {Node}
     */
    portsOf(known, at, row, column, only) {
        const { image } = known;
        const { direction, protocol, port, identity } = this.choice;
        const profile = /** @type {import("./walk.js").Profile} */ (image.model.profiles[row.profiles[at] ?? 0]);
        const workload = image.model.workloads.findIndex(({ name }) => name === row.name);
        const source = image.exempt(profile, identity, direction, false);
        if (source !== null) {
            return el("p", {}, badge("excluded"), " by ", cited(image.scope(source) || "top level", image.text(source, null), ""));
        }
        const cls = image.classOf(profile, direction, identity);
        const tree = image.treeOf(profile, direction, cls, false);
        const prefix = parsePrefix(this.data.columns[direction][column]?.prefixes[0] ?? "any");
        const node = image.longest(tree, prefix);
        const stretches = clipped(image.stretches(image.table(tree, node, protocol)), only)
            .filter(({ first, last }) => last > 0 && (port === null || (first <= port && port <= last)));
        const example = exampleIn(tree, node, prefix);
        /** Ports by what decides them. @type {Map<string, import("./walk.js").Stretch[]>} */
        const decided = new Map();
        for (const stretch of stretches) {
            const key = `${stretch.verdict} ${stretch.source} ${stretch.up}`;
            decided.set(key, [...(decided.get(key) ?? []), stretch]);
        }
        const size = (/** @type {import("./walk.js").Stretch[]} */ all) => all.reduce((sum, { first, last }) => sum + last - first + 1, 0);
        const groups = [...decided.values()].sort((a, b) => size(a) - size(b) || (a[0]?.first ?? 0) - (b[0]?.first ?? 0));
        /** @param {import("./walk.js").Stretch[]} group @param {number} place @returns {HTMLElement} */
        const entry = (group, place) => {
            const first = Math.max(group[0]?.first ?? 1, 1);
            const decision = image.at(tree, node, protocol, port ?? first, cls);
            if (!decision) return el("li");
            const isRest = place === groups.length - 1 && groups.length > 1 && port === null && only.length === 0;
            const ports = port !== null ? `${port}` : isRest ? "all others" : portsText(group.flatMap((one) => [Math.max(one.first, 1), one.last]));
            const flow = { direction, protocol, address: example ?? ANY, port: port ?? first, own: false };
            const judged = example && known.reasons ? explained(known.reasons, workload, flow, identity, decision) : null;
            const citation = cited(known.scope(decision), known.text(decision), known.place(decision, judged));
            const beaten = judged?.beaten.length ?? 0;
            const told = !judged || beaten + judged.also.length === 0 ? null : el("details", { open: groups.length === 1 },
                el("summary", { class: "muted" }, beaten > 0 ? `beat ${counted(beaten, "rule")}` : "others say so", groups.length === 1 ? null : `, at port ${port ?? first}`),
                ...reasonsOf(known, judged, (why) => whyText(image, why)));
            return el("li", {}, el("div", { class: "head" }, badge(image.verdict(decision.verdict)), el("span", { class: "mono" }, ports === "1-65535" ? `all ${protocol === 0 ? "tcp" : "udp"} ports` : ports)), citation, told);
        };
        const list = el("ul", { class: "decided" }, ...groups.slice(0, AT_ONCE).map(entry));
        if (groups.length <= AT_ONCE) return list;
        const more = el("button", { type: "button", click: () => { list.append(...groups.slice(AT_ONCE).map((group, at) => entry(group, AT_ONCE + at))); more.remove(); } }, `${groups.length - AT_ONCE} more`);
        return el("div", {}, list, more);
    }

    /** @param {string} text */
    ask(text) {
        const flow = /** @type {HTMLInputElement} */ (byId("flow"));
        flow.removeAttribute("aria-invalid");
        try {
            this.tell(...this.known.flatMap((known, at) => this.answersTo(known, at, text)));
            if (location.hash !== `#${text}`) history.replaceState(null, "", `#${encodeURIComponent(text)}`);
        } catch (error) {
            if (!(error instanceof Unreadable)) throw error;
            flow.setAttribute("aria-invalid", "true");
            this.tell(el("h2", {}, "Not a flow"), el("p", { class: "error" }, error.message), el("p", { class: "muted" }, "A flow is written as ", el("code", {}, this.example()), ", with ", el("code", {}, "as uid 1000"), " behind it for a process."));
        }
    }

    /** @param {Known} known @param {number} at @param {string} text @returns {Node[]} */
    answersTo(known, at, text) {
        const several = this.known.length > 1;
        /** @type {Node[]} */
        const found = several ? [el("h2", {}, at === 0 ? "Before" : "After")] : [];
        /** @type {import("./ask.js").Question} */
        let question;
        try {
            question = readFlow(known.image, text);
        } catch (error) {
            // A workload may be in one of two policies alone.
            if (!several || !(error instanceof Unreadable) || at === this.known.length - 1) throw error;
            return [...found, el("p", { class: "muted" }, error.message)];
        }
        const all = answers(known.image, question);
        if (all.length === 0) return [...found, el("p", { class: "error" }, "No address is known for that end: write one.")];
        return [...found, ...all.slice(0, 24).map((answer) => this.answerTo(known, question, answer)),
            ...(all.length > 24 ? [el("p", { class: "muted" }, `and ${all.length - 24} answers more: write an address`)] : [])];
    }

    /**
     * One answer: verdict, the steps to it, and what was beaten.
     * @param {Known} known @param {import("./ask.js").Question} question @param {import("./ask.js").Answer} answer @returns {Node}
     */
    answerTo(known, question, answer) {
        const { image, reasons } = known;
        const { decision, flow, ranges } = answer;
        const workload = /** @type {import("./walk.js").Workload} */ (image.model.workloads[question.workload]);
        const judged = reasons ? explained(reasons, question.workload, flow, question.identity, decision) : null;
        const word = question.protocol === 0 ? "tcp" : "udp";
        const process = question.identity.uid !== undefined || question.identity.gid !== undefined || question.identity.cgroup !== undefined || question.identity.interface !== undefined;
        const address = question.addresses ? prefixText(flow.address) : question.other;
        const ends = question.direction === 0 ? `${workload.name} → ${address}` : `${address} → ${workload.name}`;
        const profile = image.model.profiles[workload.profile];
        const hasExempt = profile && profile.uids.length + profile.gids.length + profile.cgroups.length + profile.interfaces.length > 0;
        /** @type {HTMLElement[]} */
        const steps = [step("Member", workload.name, el("span", { class: "muted" }, ` ${workload.selects.join("; ")}`))];
        if (decision.exempt) {
            steps.push(step("Exemption", "it is exempt: no rule reaches it"));
        } else {
            if (question.direction === 0) steps.push(step("Exemption", !hasExempt ? "the workload exempts nobody" : process ? "not exempt" : "no process or interface is named"));
            if (profile?.classes && question.direction === 0) steps.push(step("Process", decision.class === 0 ? "named by no rule with `as`" : `class ${decision.class} of ${profile.classes.sides.length}`));
            if (question.identity.node) steps.push(step("Node", decision.class === 0 ? "no rule about `node` is otherwise" : "one of the node's addresses"));
            const matched = decision.tree ? decision.tree.prefixes[decision.node] ?? ANY : ANY;
            const own = flow.own ? ", one of the member's own" : "";
            const where = question.addresses ? `${prefixText(flow.address)}${own}` : listed(ranges.map(rangeText));
            steps.push(step("Address", where, el("span", { class: "muted" }, matched.family === 0 ? " no narrower prefix holds it" : ` longest prefix ${prefixText(matched)}`)));
            const stretch = decision.stretch;
            if (stretch) {
                const first = Math.max(stretch.first, 1);
                const range = first === stretch.last ? `${first}` : first === 1 && stretch.last === 65535 ? "all ports" : `${first}-${stretch.last}`;
                steps.push(step("Port", `${word} ${question.port}`, el("span", { class: "muted" }, ` in ${range}`)));
            }
        }
        steps.push(step("Rule", cited(known.scope(decision), known.text(decision), known.place(decision, judged))));
        return el("section", { class: "answer" },
            el("header", {}, el("h2", {}, `${ends} ${word} ${question.port}`), badge(image.verdict(decision.verdict))),
            el("ol", { class: "steps" }, ...steps), ...reasonsOf(known, judged, (why) => whyText(image, why)));
    }

    /** @returns {Node[]} */
    changesView() {
        const changes = this.data.changes;
        const notes = this.data.notes.map((note) => el("li", { class: "mono" }, note));
        const beside = notes.length > 0 ? el("ul", { class: "beaten" }, ...notes) : null;
        if (changes.length === 0) return [el("div", { class: "page" }, el("p", {}, "No flow is decided otherwise."), ...(beside ? [beside] : []))];
        const body = el("tbody");
        const entry = (/** @type {Change} */ change) => el("tr", {},
            el("td", {}, el("button", { type: "button", title: "Ask one of these flows", click: () => { /** @type {HTMLInputElement} */ (byId("flow")).value = change.example; this.ask(change.example); } }, change.workload)),
            el("td", {}, `${change.direction} ${change.protocol}${change.ports ? ` ${change.ports}` : ""}`),
            el("td", { class: "mono" }, change.addresses, change.own ? " (its own)" : null, change.who ? ` ${change.who}` : null),
            el("td", {}, badge(change.before)), el("td", {}, badge(change.after)),
            el("td", {}, ...change.causes.map((cause) => el("p", { class: "mono" }, cause))));
        const table = el("table", { class: "list" }, el("thead", {}, el("tr", {}, ...["Workload", "Connections", "Addresses", "Before", "After", "By"].map((word) => el("th", { scope: "col" }, word)))), body);
        body.append(...changes.slice(0, AT_ONCE).map(entry));
        const more = el("button", { type: "button", click: () => { body.append(...changes.slice(AT_ONCE).map(entry)); more.remove(); } }, `${changes.length - AT_ONCE} more`);
        return [el("div", { class: "page", tabindex: "0", role: "region", "aria-label": "Flows that change" }, el("p", {}, counted(changes.length, "change"), " of decisions: exactly these flows are decided otherwise."), beside, table, changes.length > AT_ONCE ? more : null)];
    }
}

/** @param {string} word @param {Node | string} what @param {...Node} more @returns {HTMLElement} */
function step(word, what, ...more) {
    return el("li", {}, el("b", {}, word), " ", el("span", {}, what, ...more));
}

/**
 * Stretches within some ports, which are pairs of first and last; all where there are none.
 * @param {import("./walk.js").Stretch[]} stretches @param {number[]} ports @returns {import("./walk.js").Stretch[]}
 */
function clipped(stretches, ports) {
    if (ports.length === 0) return stretches;
    return stretches.flatMap((stretch) => {
        /** @type {import("./walk.js").Stretch[]} */
        const found = [];
        for (let at = 0; at < ports.length; at += 2) {
            const [first, last] = [Math.max(stretch.first, ports[at] ?? 0), Math.min(stretch.last, ports[at + 1] ?? 0)];
            if (first <= last) found.push({ ...stretch, first, last });
        }
        return found;
    });
}

/** The first of these. @param {string[]} all @param {number} [count] @returns {string} */
function listed(all, count = all.length) {
    const few = all.slice(0, 8);
    return count > few.length ? `${few.join(", ")} and ${(count - few.length).toLocaleString("en")} more` : few.join(", ");
}

/** @param {string} text @returns {number | null} */
function readPort(text) {
    const trimmed = text.trim();
    if (trimmed === "") return null;
    if (!/^\d+$/.test(trimmed) || Number(trimmed) < 1 || Number(trimmed) > 65535) throw new Unreadable("ports are 1 to 65535");
    return Number(trimmed);
}

new Page(JSON.parse(byId("data").textContent ?? "")).start();
performance.mark("ready");
