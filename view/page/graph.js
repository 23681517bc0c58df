// @ts-check
// The graph: which workloads are decided otherwise at which addresses. What a workload decides everywhere else stands
// beside its name, and a line leads to each column where it decides something else, so that what is usual draws no lines.

import { columnText } from "./matrix.js";
import { badge, el, shapeOf } from "./parts.js";
import { apart, counted } from "./text.js";

/** Nodes on either side; filters choose which. */
const MOST = 80;
/** Pixels from node to node. */
const STEP = 32;

/**
 * @typedef {{ left: number, right: number, word: string, text: string }} Line
 */

/** The graph in the document. */
export class Graph {
    /**
     * @param {import("./matrix.js").Table} table
     * @param {(row: import("./matrix.js").Row | null, column: number | null) => void} chosen
     */
    constructor(table, chosen) {
        this.table = table;
        this.chosen = chosen;
        this.root = el("div", { class: "graph", role: "region", "aria-label": "Which workloads are decided otherwise at which addresses", tabindex: "0" });
        new ResizeObserver(() => this.draw()).observe(this.root);
        /** @type {Line[]} */
        this.lines = [];
        /** @type {HTMLElement[]} */
        this.left = [];
        /** @type {HTMLElement[]} */
        this.right = [];
        this.picked = "";
    }

    /** @param {import("./matrix.js").Choice} choice */
    show(choice) {
        const table = this.table;
        const rows = table.rows({ ...choice, fold: true });
        const all = table.columns[choice.direction] ?? [];
        const any = all.findIndex(({ kind }) => kind === "any");
        const columns = table.chosen(choice).filter((at) => all[at]?.kind !== "apart" && at !== any);
        /** @type {Line[]} */
        const lines = [];
        /** @type {number[]} */
        const used = [];
        let isCut = false;
        rows.slice(0, MOST).forEach((row, left) => {
            for (const column of columns) {
                const found = table.summary(row, column, choice);
                const unlike = choice.changes ? (table.changes(row, column, choice) ? found.verdict : null) : table.unlike(row, column, any, choice);
                if (unlike === null) continue;
                let right = used.indexOf(column);
                if (right < 0 && used.length < MOST) right = used.push(column) - 1;
                if (right >= 0) lines.push({ left, right, word: unlike.split(" ")[0] ?? "", text: found.text });
                else isCut = true;
            }
        });
        this.lines = lines;
        this.picked = "";
        const shown = rows.slice(0, MOST);
        this.left = shown.map((row, at) => {
            const usual = table.summary(row, any, choice);
            const names = row.names.map((name) => (table.meshes > 1 ? name : apart(name)[0]));
            const text = names.length > 3 ? `${names.slice(0, 3).join(", ")} + ${names.length - 3}` : names.join(", ");
            const groups = table.groupsOf(row.names);
            return el("button", { type: "button", class: "node", click: () => { this.pick(`left ${at}`); this.chosen(row, null); } },
                text, groups.length > 0 ? el("span", { class: "muted" }, ` in ${groups.join(", ")}`) : null, " ", badge(usual.verdict));
        });
        this.right = used.map((column, at) => el("button", {
            type: "button", class: "node", click: () => { this.pick(`right ${at}`); this.chosen(null, column); },
        }, columnText(/** @type {import("./matrix.js").Column} */ (all[column])), el("span", { class: "hidden" }, `: ${this.about(at, shown).join("; ")}`)));
        const more = [rows.length > MOST ? counted(rows.length - MOST, "row") : "", isCut ? "more addresses" : ""].filter((one) => one !== "");
        const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
        svg.setAttribute("aria-hidden", "true");
        this.svg = svg;
        this.cellOf = (/** @type {Line} */ line) => this.chosen(shown[line.left] ?? null, used[line.right] ?? null);
        const sides = el("div", { class: "sides" }, el("div", { class: "side" }, ...this.left), el("div", { class: "side" }, ...this.right));
        const body = el("div", { class: "graph-body" }, sides);
        body.prepend(svg);
        this.root.replaceChildren(
            el("p", { class: "muted" }, lines.length === 0 ? (choice.changes ? "Nothing changes here." : "Everything is decided as beside its name, whatever the address.")
                : choice.changes ? "A line leads to addresses where something changes." : "Beside a workload stands what is decided everywhere else; a line leads to addresses where something is decided otherwise.",
            more.length > 0 ? ` Not shown: ${more.join(", ")}; the filters choose.` : null), body);
        this.draw();
    }

    /** What lines say about a column. @param {number} right @param {import("./matrix.js").Row[]} rows @returns {string[]} */
    about(right, rows) {
        return this.lines.filter((line) => line.right === right).map((line) => `${rows[line.left]?.names.join(", ")}: ${line.text}`);
    }

    /** Shows the lines of one node, or of all again. @param {string} node */
    pick(node) {
        this.picked = this.picked === node ? "" : node;
        this.draw();
    }

    /** Lines, where the nodes are now. */
    draw() {
        const svg = this.svg;
        const body = svg?.parentElement;
        if (!svg || !body) return;
        const frame = body.getBoundingClientRect();
        svg.setAttribute("width", `${frame.width}`);
        svg.setAttribute("height", `${Math.max(frame.height, STEP)}`);
        svg.replaceChildren();
        const middle = (/** @type {HTMLElement | undefined} */ node) => {
            const box = node?.getBoundingClientRect();
            return box ? { left: box.left - frame.left, right: box.right - frame.left, y: box.top - frame.top + box.height / 2 } : null;
        };
        for (const line of this.lines) {
            const [from, to] = [middle(this.left[line.left]), middle(this.right[line.right])];
            if (!from || !to) continue;
            const isFaint = this.picked !== "" && this.picked !== `left ${line.left}` && this.picked !== `right ${line.right}`;
            const bend = (to.left - from.right) / 2;
            const group = document.createElementNS(svg.namespaceURI, "g");
            group.setAttribute("class", `line ${line.word}${isFaint ? " faint" : ""}`);
            group.addEventListener("click", () => this.cellOf?.(line));
            const path = document.createElementNS(svg.namespaceURI, "path");
            path.setAttribute("d", `M${from.right},${from.y} C${from.right + bend},${from.y} ${to.left - bend},${to.y} ${to.left - 18},${to.y}`);
            const mark = document.createElementNS(svg.namespaceURI, "text");
            mark.setAttribute("x", `${to.left - 14}`);
            mark.setAttribute("y", `${to.y + 4}`);
            mark.textContent = shapeOf(line.word);
            const title = document.createElementNS(svg.namespaceURI, "title");
            title.textContent = line.text;
            group.append(path, mark, title);
            svg.append(group);
        }
    }
}
