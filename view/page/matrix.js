// @ts-check
// The matrix: workloads by addresses, a verdict in each cell. Only what can be seen is in the document, so that 500
// workloads are as quick as five.

import { apart, counted, shown } from "./text.js";
import { el, shape, shapeOf } from "./parts.js";
import { parsePrefix } from "./walk.js";

/**
 * @typedef {{ name: string, kind: string, prefixes: string[], count: number, title?: string }} Column
 * @typedef {{ name: string, names: string[], profiles: number[] }} Row Names of workloads that are decided alike, and the
 *   profile under each policy; −1 where it has none of them.
 * @typedef {{
 *   direction: 0 | 1, protocol: 0 | 1, port: number | null, identity: import("./walk.js").Identity,
 *   workloads: string, addresses: string, fold: boolean, changes: boolean,
 * }} Choice What is shown.
 * @typedef {{ verdict: string, others: string[], text: string }} Summary Verdict of most ports, and of others; both in words.
 * @typedef {{ element: HTMLElement, cells: Map<number, HTMLElement> }} Line A row that is in the document, and its cells by column.
 */

/** Cells that are drawn beyond what can be seen. */
const BEYOND = 6;
/** A column is at least so wide, in pixels. */
const NARROW = 38;
/** Columns that are so wide have level headings; wider ones hold words, and the widest the sidecar's port too. */
const LEVEL = 84;
const WIDE = 112;
const WIDER = 148;

/** What is shown where. */
export class Table {
    /** @param {import("./walk.js").Image[]} images The last one is shown. @param {[Column[], Column[]]} columns */
    constructor(images, columns) {
        this.images = images;
        this.columns = columns;
        this.prefixes = columns.map((all) => all.map((column) => parsePrefix(column.prefixes[0] ?? "any")));
        /** @type {Map<string, Summary>} */
        this.summaries = new Map();
        /** @type {Map<string, boolean>} */
        this.differences = new Map();
        /** @type {Map<string, string | null>} */
        this.unlikes = new Map();
        this.meshes = new Set(images.flatMap((image) => image.model.workloads.map((one) => apart(one.name)[1]))).size;
        for (const all of columns) entitle(all, this.meshes);
    }

    /** @param {Choice} choice @returns {Row[]} */
    rows(choice) {
        /** @type {Map<string, Row>} */
        const rows = new Map();
        /** @type {Map<string, number[]>} */
        const profiles = new Map();
        this.images.forEach((image, at) => {
            for (const workload of image.model.workloads) {
                const known = profiles.get(workload.name) ?? this.images.map(() => -1);
                known[at] = workload.profile;
                profiles.set(workload.name, known);
            }
        });
        const wanted = choice.workloads.trim().toLowerCase();
        const groups = this.images.flatMap((image) => image.model.groups
            .filter(([name]) => wanted !== "" && (name.toLowerCase() === wanted || apart(name)[0].toLowerCase() === wanted))
            .flatMap(([, members]) => members.map((member) => image.model.workloads[member]?.name ?? "")));
        for (const [name, of] of [...profiles].sort(([a], [b]) => (a < b ? -1 : 1))) {
            if (!name.toLowerCase().includes(wanted) && !groups.includes(name)) continue;
            const key = choice.fold ? of.join(" ") : name;
            const row = rows.get(key);
            if (row) row.names.push(name);
            else rows.set(key, { name, names: [name], profiles: of });
        }
        return [...rows.values()];
    }

    /**
     * A port table of an image for a row; null where it decides nothing, and whether the process is exempt.
     * @param {number} at @param {Row} row @param {number} column @param {Choice} choice
     * @returns {{ table: number, exempt: boolean } | null}
     */
    table(at, row, column, choice) {
        const image = this.images[at];
        const profile = image?.model.profiles[row.profiles[at] ?? -1];
        const prefix = this.prefixes[choice.direction]?.[column];
        if (!image || !profile || !prefix) return null;
        if (image.exempt(profile, choice.identity, choice.direction, false) !== null) return { table: -1, exempt: true };
        const cls = image.classOf(profile, choice.direction, choice.identity);
        const tree = image.treeOf(profile, choice.direction, cls, false);
        return { table: image.table(tree, image.longest(tree, prefix), choice.protocol), exempt: false };
    }

    /** @param {Row} row @param {number} column @param {Choice} choice @returns {Summary} */
    summary(row, column, choice) {
        const at = this.images.length - 1;
        const found = this.table(at, row, column, choice);
        if (!found || found.exempt) return { verdict: "excluded", others: [], text: found ? "excluded: exempt" : "excluded" };
        const key = `${found.table} ${choice.port ?? ""}`;
        const known = this.summaries.get(key);
        if (known) return known;
        const image = /** @type {import("./walk.js").Image} */ (this.images[at]);
        /** @type {Map<string, number>} */
        const ports = new Map();
        for (const { first, last, verdict } of image.stretches(found.table)) {
            if (choice.port !== null && (choice.port < first || last < choice.port)) continue;
            const text = image.verdict(verdict);
            ports.set(text, (ports.get(text) ?? 0) + last - first + 1);
        }
        // No rule can name port 0.
        const sorted = [...ports].filter(([, count]) => count > 1 || choice.port !== null || ports.size === 1 || !this.isZero(image, found.table))
            .sort(([, a], [, b]) => b - a).map(([text]) => text);
        const [verdict = "excluded", ...others] = sorted;
        const summary = { verdict, others, text: others.length === 0 ? verdict : `${verdict} at most ports, ${others.join(", ")} at others` };
        this.summaries.set(key, summary);
        return summary;
    }

    /** Whether port 0 alone is a stretch. @param {import("./walk.js").Image} image @param {number} table */
    isZero(image, table) {
        return image.stretches(table)[0]?.last === 0;
    }

    /**
     * Verdicts of an image by port: where each stretch begins, and what is decided there.
     * @param {number} at @param {{ table: number, exempt: boolean } | null} found @param {number | null} port
     * @returns {[number, string][]}
     */
    byPort(at, found, port) {
        const image = this.images[at];
        if (!image || !found || found.exempt) return [[0, "excluded"]];
        /** @type {[number, string][]} */
        const stretches = [];
        for (const { first, last, verdict } of image.stretches(found.table)) {
            if (port !== null && (port < first || last < port)) continue;
            const text = image.verdict(verdict);
            if (stretches.at(-1)?.[1] !== text) stretches.push([port === null ? first : 0, text]);
        }
        return stretches;
    }

    /** Whether the two policies decide a cell otherwise. @param {Row} row @param {number} column @param {Choice} choice */
    changes(row, column, choice) {
        if (this.images.length < 2) return false;
        const found = [0, 1].map((at) => this.table(at, row, column, choice));
        const key = `${found.map((one) => (one ? (one.exempt ? "exempt" : one.table) : "none")).join(" ")} ${choice.port ?? ""}`;
        const known = this.differences.get(key);
        if (known !== undefined) return known;
        const [old, now] = found.map((one, at) => this.byPort(at, one, choice.port).join(";"));
        this.differences.set(key, old !== now);
        return old !== now;
    }

    /** Ports that the two policies decide otherwise, as pairs of first and last. @param {Row} row @param {number} column @param {Choice} choice @returns {number[]} */
    changedPorts(row, column, choice) {
        const [old = [], now = []] = [0, 1].map((at) => this.byPort(at, this.table(at, row, column, choice), choice.port));
        if (choice.port !== null) return old[0]?.[1] === now[0]?.[1] ? [] : [choice.port, choice.port];
        const starts = [...new Set([...old, ...now].map(([first]) => first))].sort((a, b) => a - b);
        /** @type {number[]} */
        const found = [];
        starts.forEach((first, place) => {
            if (verdictAt(old, first) === verdictAt(now, first)) return;
            if (found.at(-1) === first - 1) found.pop();
            else found.push(Math.max(first, 1));
            found.push((starts[place + 1] ?? 65536) - 1);
        });
        return found;
    }

    /**
     * What is decided at some ports of a column, and not at those of another; null where both are decided alike.
     * @param {Row} row @param {number} column @param {number} usual @param {Choice} choice @returns {string | null}
     */
    unlike(row, column, usual, choice) {
        const at = this.images.length - 1;
        const [here, there] = [column, usual].map((one) => this.table(at, row, one, choice));
        const key = `unlike ${here?.table} ${there?.table} ${choice.port ?? ""}`;
        const known = this.unlikes.get(key);
        if (known !== undefined) return known;
        const [left, right] = [this.byPort(at, here ?? null, choice.port), this.byPort(at, there ?? null, choice.port)];
        const starts = [...new Set([...left, ...right].map(([first]) => first))].sort((a, b) => a - b);
        /** @type {Map<string, number>} */
        const ports = new Map();
        starts.forEach((first, place) => {
            const one = verdictAt(left, first);
            if (one !== verdictAt(right, first)) ports.set(one, (ports.get(one) ?? 0) + (starts[place + 1] ?? 65536) - first);
        });
        const most = [...ports].sort(([, a], [, b]) => b - a)[0]?.[0] ?? null;
        this.unlikes.set(key, most);
        return most;
    }

    /** Groups that all of these workloads are in. @param {string[]} names @returns {string[]} */
    groupsOf(names) {
        const model = this.images.at(-1)?.model;
        const groups = (model?.groups ?? []).map(([group, members]) => /** @type {[string, (string | undefined)[]]} */ ([apart(group)[0], members.map((at) => model?.workloads[at]?.name)]));
        return groups.filter(([, members]) => names.every((name) => members.includes(name))).map(([group]) => group);
    }

    /** The columns that are chosen. @param {Choice} choice @returns {number[]} */
    chosen(choice) {
        const wanted = choice.addresses.trim().toLowerCase();
        return (this.columns[choice.direction] ?? []).flatMap((column, at) =>
            (columnText(column).toLowerCase().includes(wanted) || column.prefixes.some((prefix) => prefix.includes(wanted)) ? [at] : []));
    }
}

/** The verdict at a port. @param {[number, string][]} byPort @param {number} port @returns {string} */
function verdictAt(byPort, port) {
    return byPort.findLast(([first]) => first <= port)?.[1] ?? "";
}

/** What a column is called. @param {Column} column @returns {string} */
export function columnText(column) {
    if (column.kind === "any") return "everywhere else";
    const first = column.prefixes[0] ?? "";
    const more = column.count > 1 ? ` + ${(column.count - 1).toLocaleString("en")}` : "";
    return column.name === "" ? `${first}${more}` : column.title ?? column.name;
}

/**
 * Gives columns titles: names without the mesh where there is one alone, with an address where two have the same.
 * @param {Column[]} columns @param {number} meshes
 */
export function entitle(columns, meshes) {
    /** @type {Map<string, number>} */
    const uses = new Map();
    for (const { name } of columns) uses.set(name, (uses.get(name) ?? 0) + 1);
    for (const column of columns) {
        const name = meshes > 1 || column.kind !== "workload" ? column.name : apart(column.name)[0];
        column.title = (uses.get(column.name) ?? 0) > 1 ? `${name} ${column.prefixes[0] ?? ""}` : name;
    }
}

/** The matrix in the document. */
export class Matrix {
    /**
     * @param {Table} table
     * @param {(row: Row | null, column: number | null) => void} chosen Called for a cell, a row or a column.
     */
    constructor(table, chosen) {
        this.table = table;
        this.chosen = chosen;
        /** @type {Row[]} */
        this.rows = [];
        /** @type {number[]} */
        this.columns = [];
        /** @type {Choice | null} */
        this.choice = null;
        /** Row and column that has the focus; −1 is a heading. @type {[number, number]} */
        this.at = [0, 0];
        this.selected = "";
        /** Rows and columns that are in the document. @type {{ top: number, bottom: number, left: number, right: number } | null} */
        this.drawn = null;
        /** What is in the document, by row; −1 is the head. @type {Map<number, Line>} */
        this.lines = new Map();
        /** What the tab key reaches where what has the focus is not drawn. @type {Element | null} */
        this.reached = null;
        this.body = el("div", { class: "grid-body", role: "presentation" });
        this.root = el("div", { class: "grid", role: "grid", "aria-label": "Verdicts by workload and address" }, this.body);
        this.root.addEventListener("scroll", () => this.draw());
        this.root.addEventListener("keydown", (event) => this.key(event));
        this.root.addEventListener("click", (event) => this.click(event));
        new ResizeObserver(() => this.layout()).observe(this.root);
    }

    /** @param {Choice} choice */
    show(choice) {
        this.choice = choice;
        this.rows = this.table.rows(choice);
        this.columns = this.table.chosen(choice);
        if (choice.changes) {
            const changes = (/** @type {Row} */ row, /** @type {number} */ column) => this.table.changes(row, column, choice);
            this.rows = this.rows.filter((row) => this.columns.some((column) => changes(row, column)));
            this.columns = this.columns.filter((column) => this.rows.some((row) => changes(row, column)));
        }
        this.at = [Math.min(this.at[0], this.rows.length - 1), Math.min(this.at[1], this.columns.length - 1)];
        this.root.setAttribute("aria-rowcount", `${this.rows.length + 1}`);
        this.root.setAttribute("aria-colcount", `${this.columns.length + 1}`);
        this.layout();
    }

    /** Sizes, from the room that there is. */
    layout() {
        const style = getComputedStyle(document.documentElement);
        this.rowHeight = parseInt(style.getPropertyValue("--row"), 10) || 26;
        // Sizes are for text of 14 pixels; wide screens have larger.
        this.scale = (parseFloat(style.fontSize) || 14) / 14;
        const room = this.root.clientWidth;
        const longest = this.rows.reduce((most, row) => Math.max(most, this.rowText(row).length), 8);
        this.nameWidth = Math.round(Math.min((Math.max(longest, 12) * 7.2 + 40) * this.scale, Math.max(room * 0.3, 124)));
        const count = Math.max(this.columns.length, 1);
        this.columnWidth = Math.max(NARROW * this.scale, Math.min(Math.floor((room - this.nameWidth - 16) / count), 168 * this.scale));
        const isLevel = this.columnWidth >= LEVEL * this.scale;
        this.root.classList.toggle("level", isLevel);
        this.root.classList.toggle("upright", !isLevel);
        this.root.classList.toggle("wide", this.columnWidth >= WIDE * this.scale);
        this.headHeight = (isLevel ? 48 : 164) * this.scale;
        this.drawn = null;
        this.body.style.setProperty("--cell", `${this.columnWidth - 4}px`);
        this.draw();
    }

    /** @param {Row} row @returns {string} */
    rowText(row) {
        const [own, mesh] = apart(row.name);
        const name = this.table.meshes > 1 ? `${mesh}/${own}` : own;
        return row.names.length > 1 ? `${name} + ${row.names.length - 1}` : name;
    }

    /** Draws what can be seen. */
    draw() {
        const choice = this.choice;
        if (!choice || !this.rowHeight || !this.nameWidth || !this.columnWidth || !this.headHeight) return;
        const { scrollTop, scrollLeft, clientHeight, clientWidth } = this.root;
        const isAll = this.rows.length * this.columns.length <= 1500;
        const seen = {
            top: Math.floor(scrollTop / this.rowHeight), bottom: Math.ceil((scrollTop + clientHeight) / this.rowHeight),
            left: Math.floor(scrollLeft / this.columnWidth), right: Math.ceil((scrollLeft + clientWidth) / this.columnWidth),
        };
        const drawn = this.drawn;
        const isThere = drawn !== null && drawn.top <= seen.top && drawn.left <= seen.left
            && Math.min(seen.bottom, this.rows.length) <= drawn.bottom && Math.min(seen.right, this.columns.length) <= drawn.right;
        if (isThere) return;
        const firstRow = isAll ? 0 : Math.max(0, seen.top - BEYOND);
        const lastRow = isAll ? this.rows.length : Math.min(this.rows.length, seen.bottom + BEYOND);
        const firstColumn = isAll ? 0 : Math.max(0, seen.left - BEYOND);
        const lastColumn = isAll ? this.columns.length : Math.min(this.columns.length, seen.right + BEYOND);
        const hadFocus = this.root.contains(document.activeElement) && document.activeElement !== this.root;
        const width = this.nameWidth + this.columns.length * this.columnWidth;
        if (drawn === null) {
            this.lines.clear();
            const head = el("div", { role: "row", class: "head", "aria-rowindex": "1" }, this.corner());
            place(head, { width, height: this.headHeight });
            this.lines.set(-1, { element: head, cells: new Map() });
            this.body.replaceChildren(head);
        }
        this.drawn = { top: firstRow, bottom: lastRow, left: firstColumn, right: lastColumn };
        const head = /** @type {Line} */ (this.lines.get(-1));
        // What stays is left alone: a cell takes as long as to find out what it says.
        this.fill(head, firstColumn, lastColumn, (column) => this.heading(column));
        for (const [at, line] of this.lines) {
            if (at === -1 || (firstRow <= at && at < lastRow)) continue;
            line.element.remove();
            this.lines.delete(at);
        }
        let before = head.element;
        for (let at = firstRow; at < lastRow; at++) {
            const known = this.lines.get(at);
            const line = known ?? this.line(at, width);
            const row = /** @type {Row} */ (this.rows[at]);
            this.fill(line, firstColumn, lastColumn, (column) => this.cell(row, at, column));
            if (!known) {
                this.lines.set(at, line);
                before.after(line.element);
            }
            before = line.element;
        }
        place(this.body, { width, height: this.headHeight + this.rows.length * this.rowHeight });
        if (this.rows.length === 0) this.body.append(el("p", { class: "empty" }, choice.changes ? "Nothing changes here." : "No workload has that name."));
        const focused = this.focused();
        if (this.reached !== focused) this.reached?.setAttribute("tabindex", "-1");
        this.reached = focused ? null : this.body.querySelector("[role=gridcell]");
        this.reached?.setAttribute("tabindex", "0");
        if (hadFocus) focused?.focus({ preventScroll: true });
    }

    /**
     * Sees to it that a row has the cells of some columns, and no others.
     * @param {Line} line @param {number} first @param {number} last @param {(column: number) => HTMLElement} made
     */
    fill({ element, cells }, first, last, made) {
        for (const [column, cell] of cells) {
            if (first <= column && column < last) continue;
            cell.remove();
            cells.delete(column);
        }
        let before = element.firstElementChild;
        for (let column = first; column < last; column++) {
            const known = cells.get(column);
            const cell = known ?? made(column);
            if (!known) {
                cells.set(column, cell);
                before?.after(cell);
            }
            before = cell;
        }
    }

    corner() {
        const words = this.choice?.direction === 1 ? "connections from" : "connections to";
        const corner = el("div", { role: "columnheader", class: "corner", "aria-colindex": "1" }, words);
        place(corner, { width: this.nameWidth ?? 0, height: this.headHeight ?? 0 });
        return corner;
    }

    /** @param {number} at @returns {HTMLElement} */
    heading(at) {
        const column = this.table.columns[this.choice?.direction ?? 0]?.[this.columns[at] ?? 0];
        const text = column ? columnText(column) : "";
        const heading = el("div", { role: "columnheader", "aria-colindex": `${at + 2}`, title: shown(text), ...this.spot(-1, at) }, el("span", {}, text));
        place(heading, { left: (this.nameWidth ?? 0) + at * (this.columnWidth ?? 0), width: this.columnWidth ?? 0, height: this.headHeight ?? 0 });
        return heading;
    }

    /** A row without its cells. @param {number} at @param {number} width @returns {Line} */
    line(at, width) {
        const row = /** @type {Row} */ (this.rows[at]);
        const header = el("div", { role: "rowheader", "aria-colindex": "1", title: shown(row.names.slice(0, 20).join(", ")), ...this.spot(at, -1) }, this.rowText(row));
        place(header, { width: this.nameWidth ?? 0, height: this.rowHeight ?? 0 });
        const element = el("div", { role: "row", "aria-rowindex": `${at + 2}` }, header);
        place(element, { top: (this.headHeight ?? 0) + at * (this.rowHeight ?? 0), width });
        return { element, cells: new Map() };
    }

    /** @param {Row} row @param {number} at @param {number} column @returns {HTMLElement} */
    cell(row, at, column) {
        const choice = /** @type {Choice} */ (this.choice);
        const place_ = this.columns[column] ?? 0;
        const summary = this.table.summary(row, place_, choice);
        const changes = this.table.changes(row, place_, choice);
        const word = summary.verdict.split(" ")[0] ?? "";
        const [isWide, isWider] = [WIDE, WIDER].map((least) => (this.columnWidth ?? 0) >= least * (this.scale ?? 1));
        const text = changes ? `${summary.text}; changed` : summary.text;
        const words = [shapeOf(word), isWider ? summary.verdict : isWide ? word : "", summary.others.length > 0 ? `+${summary.others.length}` : ""];
        const isSelected = this.selected === `${row.name} ${place_}`;
        const kind = `cell ${word}${changes ? " changed" : this.table.images.length > 1 ? " dim" : ""}${isSelected ? " selected" : ""}`;
        // One element a cell: there may be thousands.
        const cell = el("div", { role: "gridcell", class: kind, "aria-colindex": `${column + 2}`, "aria-selected": `${isSelected}`, "aria-label": text, title: text, ...this.spot(at, column) }, words.filter((one) => one !== "").join(" "));
        cell.style.left = `${(this.nameWidth ?? 0) + column * (this.columnWidth ?? 0) + 2}px`;
        return cell;
    }

    /** Where an element is, for focus and clicks. @param {number} row @param {number} column @returns {Record<string, string>} */
    spot(row, column) {
        const isHere = this.at[0] === row && this.at[1] === column;
        return { "data-row": `${row}`, "data-column": `${column}`, tabindex: isHere ? "0" : "-1" };
    }

    /** @returns {HTMLElement | null} */
    focused() {
        return this.body.querySelector(`[data-row="${this.at[0]}"][data-column="${this.at[1]}"]`);
    }

    /** @param {MouseEvent} event */
    click(event) {
        const target = event.target instanceof Element ? event.target.closest("[data-row]") : null;
        if (!(target instanceof HTMLElement)) return;
        this.move(Number(target.dataset["row"]), Number(target.dataset["column"]));
        this.choose();
    }

    /** @param {KeyboardEvent} event */
    key(event) {
        const [row, column] = this.at;
        const page = Math.max(1, Math.floor(this.root.clientHeight / (this.rowHeight ?? 26)) - 4);
        /** @type {Record<string, [number, number]>} */
        const moves = {
            ArrowUp: [row - 1, column], ArrowDown: [row + 1, column], ArrowLeft: [row, column - 1], ArrowRight: [row, column + 1],
            Home: [event.ctrlKey ? 0 : row, 0], End: [event.ctrlKey ? this.rows.length : row, this.columns.length],
            PageUp: [row - page, column], PageDown: [row + page, column],
        };
        const to = moves[event.key];
        if (to) this.move(...to);
        else if (event.key === "Enter" || event.key === " ") this.choose();
        else return;
        event.preventDefault();
    }

    /** @param {number} row @param {number} column */
    move(row, column) {
        this.focused()?.setAttribute("tabindex", "-1");
        const bound = (/** @type {number} */ at, /** @type {number} */ count) => Math.max(-1, Math.min(at, count - 1));
        this.at = [bound(row, this.rows.length), bound(column, this.columns.length)];
        if (this.at[0] === -1 && this.at[1] === -1) this.at = [-1, 0];
        this.reveal();
        this.draw();
        const cell = this.focused();
        cell?.setAttribute("tabindex", "0");
        cell?.focus({ preventScroll: true });
    }

    /** Scrolls to where the focus is. */
    reveal() {
        const [row, column] = this.at;
        const [height, width, head, name] = [this.rowHeight ?? 0, this.columnWidth ?? 0, this.headHeight ?? 0, this.nameWidth ?? 0];
        const { clientHeight, clientWidth } = this.root;
        if (row >= 0) {
            const top = row * height;
            if (top < this.root.scrollTop) this.root.scrollTop = top;
            if (top + height + head > this.root.scrollTop + clientHeight) this.root.scrollTop = top + height + head - clientHeight;
        }
        if (column >= 0) {
            const left = column * width;
            if (left < this.root.scrollLeft) this.root.scrollLeft = left;
            if (left + width + name > this.root.scrollLeft + clientWidth) this.root.scrollLeft = left + width + name - clientWidth;
        }
    }

    /** Tells what was chosen. */
    choose() {
        const row = this.rows[this.at[0]] ?? null;
        const column = this.columns[this.at[1]] ?? null;
        this.selected = row && column !== null ? `${row.name} ${column}` : "";
        this.body.querySelectorAll(".selected").forEach((one) => {
            one.classList.remove("selected");
            one.setAttribute("aria-selected", "false");
        });
        const cell = this.focused();
        if (cell && row && column !== null) {
            cell.classList.add("selected");
            cell.setAttribute("aria-selected", "true");
        }
        this.chosen(row, column);
    }

    /** As tables of some columns each, for paper. @returns {Node[]} */
    printed() {
        const choice = this.choice;
        if (!choice) return [];
        const [rows, wide] = [this.rows.slice(0, 1000), 8];
        /** @type {Node[]} */
        const tables = [];
        for (let first = 0; first < Math.min(this.columns.length, 96); first += wide) {
            const columns = this.columns.slice(first, first + wide);
            const head = columns.map((at) => el("th", { scope: "col" }, columnText(/** @type {Column} */ (this.table.columns[choice.direction]?.[at]))));
            const body = rows.map((row) => el("tr", {}, el("th", { scope: "row" }, this.rowText(row)), ...columns.map((at) => {
                const summary = this.table.summary(row, at, choice);
                const word = summary.verdict.split(" ")[0] ?? "";
                const others = summary.others.length > 0 ? `; ${summary.others.join(", ")}` : "";
                return el("td", { class: word }, shape(word), ` ${summary.verdict}${others}`);
            })));
            tables.push(el("table", {}, el("thead", {}, el("tr", {}, el("th", {}, choice.direction === 0 ? "connections to" : "connections from"), ...head)), el("tbody", {}, ...body)));
        }
        const [moreRows, moreColumns] = [this.rows.length - rows.length, this.columns.length - 96];
        if (moreRows > 0 || moreColumns > 0) tables.push(el("p", {}, `Not printed: ${counted(Math.max(moreRows, 0), "workload")}, ${counted(Math.max(moreColumns, 0), "column")}. The filters choose what is.`));
        return tables;
    }
}

/** Position and size, by the object model: the content policy allows no inline style. @param {HTMLElement} element @param {Record<string, number>} to */
function place(element, to) {
    for (const [property, pixels] of Object.entries(to)) element.style.setProperty(property, `${pixels}px`);
}
