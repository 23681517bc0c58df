// @ts-check
// What happens on a node: decisions as they happen, hits by rule, members, drift. Whoever serves the page answers `live` with
// numbers and `events` with a stream. Nothing here changes anything there.

import { badge, cited, el } from "./parts.js";
import { counted } from "./text.js";

/**
 * @typedef {{
 *   generation: number, state: string, decides: boolean,
 *   members: { name: string, workload: string | null, addresses: string[], cgroup: string | null }[],
 *   workloads: { name: string, members: number, redirected: number, excluded: number, denied: number, exempt: number }[],
 *   rules: { text: string, scope: string, hits: number, place: string | null }[], drift: string[], failed: string[],
 * }} News
 * @typedef {{
 *   time: string, workload: string | null, mesh: string | null, member: string | null, command: string | null,
 *   pid: number | null, uid: number | null, direction: string, protocol: string, source: string | null,
 *   destination: string | null, verdict: string, port: number | null,
 *   rule: { text?: string, scope?: string, built_in?: string, exempt?: string, unknown?: string } | null,
 * }} Decided
 */

/** Decisions that are kept in the document. */
const KEPT = 200;
/** Milliseconds between two questions. */
const PAUSE = 2000;

/** What happens, in the document. */
export class Live {
    constructor() {
        this.state = el("p", { role: "status" }, "Asking the agent…");
        this.problems = el("div");
        this.rows = el("tbody");
        this.workloads = el("tbody");
        this.rules = el("tbody");
        this.members = el("tbody");
        this.paused = false;
        this.lost = 0;
        this.losses = el("span", { class: "muted" });
        /** Hits when the page was last told. @type {Map<string, number>} */
        this.hits = new Map();
        this.generation = -1;
        const pause = el("button", { type: "button", "aria-pressed": "false", click: () => {
            this.paused = !this.paused;
            pause.setAttribute("aria-pressed", `${this.paused}`);
            pause.textContent = this.paused ? "Go on" : "Pause";
        } }, "Pause");
        const head = (/** @type {string[]} */ ...words) => el("thead", {}, el("tr", {}, ...words.map((word) => el("th", { scope: "col" }, word))));
        this.root = el("div", { class: "page", tabindex: "0", role: "region", "aria-label": "What happens on this node" },
            this.state, this.problems,
            el("h2", {}, "Decisions"),
            el("p", {}, pause, " ", this.losses),
            el("table", { class: "list" }, head("Time", "Verdict", "Member", "Flow", "Process", "Rule"), this.rows),
            el("h2", {}, "Workloads"),
            el("table", { class: "list numbers" }, head("Workload", "Members", "Redirected", "Excluded", "Denied", "Exempt"), this.workloads),
            el("h2", {}, "Rules by decisions"),
            el("table", { class: "list numbers" }, head("Rule", "Decisions", "Since the last look"), this.rules),
            el("h2", {}, "Members"),
            el("table", { class: "list" }, head("Member", "Workload", "Addresses"), this.members));
    }

    /** Begins to ask. */
    start() {
        void this.ask();
        const events = new EventSource("events");
        events.addEventListener("message", (event) => this.heard(JSON.parse(event.data)));
    }

    /** Asks, now and from time to time while the page can be seen. */
    async ask() {
        if (!document.hidden) {
            try {
                const answer = await fetch("live", { cache: "no-store" });
                if (!answer.ok) throw new Error(await answer.text());
                this.told(await answer.json());
            } catch (error) {
                this.state.replaceChildren(el("span", { class: "error" }, `The agent does not answer: ${error instanceof Error ? error.message : ""}`));
            }
        }
        setTimeout(() => void this.ask(), PAUSE);
    }

    /** @param {News} news */
    told(news) {
        if (this.generation >= 0 && this.generation !== news.generation) {
            this.state.replaceChildren(`Generation ${news.generation} is live now, and this page shows ${this.generation}. `, el("a", { href: "./" }, "Show it"));
        } else {
            this.generation = news.generation;
            const state = news.generation === 0 ? "No policy is live" : `Generation ${news.generation} is ${news.state}`;
            this.state.replaceChildren(el("span", {}, `${state}, ${counted(news.members.length, "member")}`));
        }
        const list = (/** @type {string} */ title, /** @type {string[]} */ all) => (all.length === 0 ? [] : [el("h2", {}, title), el("ul", { class: "error" }, ...all.map((one) => el("li", {}, one)))]);
        this.problems.replaceChildren(...list("Drift", news.drift), ...list("Pods that could not be attached", news.failed));
        const number = (/** @type {number} */ value) => el("td", { class: "number" }, value.toLocaleString("en"));
        this.workloads.replaceChildren(...news.workloads.map((one) => el("tr", {}, el("td", {}, one.name), number(one.members), number(one.redirected), number(one.excluded), number(one.denied), number(one.exempt))));
        this.rules.replaceChildren(...news.rules.slice(0, KEPT).map((rule) => {
            const key = `${rule.scope} ${rule.text}`;
            const more = rule.hits - (this.hits.get(key) ?? rule.hits);
            this.hits.set(key, rule.hits);
            return el("tr", {}, el("td", {}, cited(rule.scope, rule.text, rule.place ?? "")), number(rule.hits), el("td", { class: "number" }, more > 0 ? `+${more.toLocaleString("en")}` : ""));
        }));
        this.members.replaceChildren(...news.members.slice(0, KEPT).map((one) => el("tr", {}, el("td", {}, one.name), el("td", {}, one.workload ?? "none"), el("td", { class: "mono" }, one.cgroup ?? one.addresses.join(", ")))));
    }

    /** @param {Decided & { lost?: number }} decided */
    heard(decided) {
        if (decided.lost) {
            this.lost += decided.lost;
            this.losses.textContent = `${counted(this.lost, "decision")} came too fast to be shown`;
            return;
        }
        if (this.paused) return;
        const rule = decided.rule;
        const text = rule === null ? "no rule matched" : rule.built_in ? `built-in: ${rule.built_in}` : rule.exempt ?? rule.text ?? rule.unknown ?? "";
        const workload = decided.workload ? `${decided.mesh}/${decided.workload}` : "";
        const member = decided.member && decided.member !== decided.workload ? ` ${decided.member}` : "";
        this.rows.prepend(el("tr", {},
            el("td", { class: "mono time" }, decided.time.slice(11, 23)),
            el("td", {}, badge(decided.verdict === "redirected" && decided.port ? `redirected ${decided.port}` : decided.verdict)),
            el("td", {}, `${workload}${member}`),
            el("td", { class: "mono" }, `${decided.direction} ${decided.protocol} ${decided.source ? `${decided.source} ` : ""}-> ${decided.destination ?? ""}`),
            el("td", {}, decided.command ? `${decided.command}[${decided.pid}] uid ${decided.uid}` : ""),
            el("td", {}, cited(rule?.scope ?? "", text, ""))));
        while (this.rows.children.length > KEPT) this.rows.lastElementChild?.remove();
    }
}
