// @ts-check
// Pieces that all views are made of. Everything from outside is put in as text.

import { shown } from "./text.js";
import { prefixText } from "./walk.js";

/** What stands for a verdict beside its colour and its word. @type {Record<string, string>} */
const SHAPES = { redirected: "↪", excluded: "→", denied: "✕" };

/**
 * An element.
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag @param {Record<string, string | boolean | ((event: any) => void)>} [attributes]
 * @param {...(Node | string | null | undefined)} children @returns {HTMLElementTagNameMap[T]}
 */
export function el(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
        if (typeof value === "function") made.addEventListener(name, value);
        else if (value === true) made.setAttribute(name, "");
        else if (value !== false) made.setAttribute(name, value);
    }
    for (const child of children) if (child !== null && child !== undefined) made.append(typeof child === "string" ? shown(child) : child);
    return made;
}

/** The shape of a verdict. @param {string} word @returns {string} */
export function shapeOf(word) {
    return SHAPES[word] ?? "";
}

/** @param {string} word @returns {HTMLElement} */
export function shape(word) {
    return el("span", { "aria-hidden": "true" }, shapeOf(word));
}

/** A verdict: shape and words. @param {string} text `redirected 15001` @returns {HTMLElement} */
export function badge(text) {
    const word = text.split(" ")[0] ?? "";
    return el("span", { class: `verdict ${word}` }, shape(word), text);
}

/** What is known of a policy: its image, and its rules if the source is at hand. */
export class Known {
    /** @param {import("./walk.js").Image} image @param {import("./reasons.js").Reasons | null} reasons */
    constructor(image, reasons) {
        this.image = image;
        this.reasons = reasons;
        /** @type {Map<string, string>} */
        this.lines = new Map(image.model.lines.map(([source, prefix, file, line]) =>
            [`${source} ${image.model.prefixes[prefix]}`, `${file}:${line}`]));
    }

    /** Where what decided is written. @param {import("./walk.js").Decision} decision @returns {string} */
    scope(decision) {
        const scope = this.image.scope(decision.source);
        return [0, 1].includes(this.image.kind(decision.source)) ? "" : scope === "" ? "top level" : scope;
    }

    /** What decided, in words. @param {import("./walk.js").Decision} decision @returns {string} */
    text(decision) {
        const kind = this.image.kind(decision.source);
        if (kind === 0) return "no rule: what no rule matches is excluded";
        const text = this.image.text(decision.source, decision.item);
        return kind === 1 ? `built-in: ${text}` : text;
    }

    /**
     * File and line of what decided.
     * @param {import("./walk.js").Decision} decision @param {import("./reasons.js").Judged | null} judged @returns {string}
     */
    place(decision, judged) {
        if (this.reasons && judged) {
            if (judged.winner) return this.placeOf(judged.winner);
            const text = this.image.text(decision.source, null);
            const scope = this.image.scope(decision.source);
            const exempt = decision.exempt && this.reasons.rules.exempts.find(([at, known]) =>
                known === text && this.reasons?.rules.scopes[at]?.[0] === scope);
            return exempt ? this.line(exempt[2], exempt[3]) : "";
        }
        const item = decision.item ? prefixText(decision.item) : "any";
        return this.lines.get(`${decision.source} ${item}`) ?? "";
    }

    /** @param {number} file @param {number} line @returns {string} */
    line(file, line) {
        const name = this.reasons?.rules.files[file] ?? "";
        return name === "" ? "" : `${name}:${line}`;
    }

    /**
     * File and line of an item, and of what its rule has a name for.
     * @param {import("./reasons.js").Match} match @returns {string}
     */
    placeOf(match) {
        const rule = this.reasons?.rules.rules[match.rule];
        if (!rule) return "";
        const place = this.line(rule[7], rule[8]);
        const name = (/** @type {number} */ at) => this.reasons?.rules.names[at] ?? "";
        const [, , , portsName, portsFile, portsLine] = match.ports;
        const named = [
            portsName < 0 ? "" : `${name(portsName)}: ${this.line(portsFile, portsLine)}`,
            !match.address || match.address[1] < 0 ? "" : `${name(match.address[1])}: ${this.line(match.address[2], match.address[3])}`,
        ].filter((one) => one !== "");
        return named.length === 0 ? place : `${place} (${named.join(", ")})`;
    }
}

/** A rule with its scope and its line. @param {string} scope @param {string} text @param {string} place @returns {HTMLElement} */
export function cited(scope, text, place) {
    return el("span", {}, scope ? `${scope}: ` : null, el("code", {}, text), place ? " " : null, place ? el("span", { class: "place" }, place) : null);
}

/**
 * What was beaten, and what says the same.
 * @param {Known} known @param {import("./reasons.js").Judged | null} judged
 * @param {(why: import("./reasons.js").Why) => string} whyText @returns {Node[]}
 */
export function reasonsOf(known, judged, whyText) {
    const reasons = known.reasons;
    if (!reasons || !judged) {
        return [el("p", { class: "muted" }, "What it beat is not known here: the source is not at hand, and compiled tables keep no rule that decides nothing.")];
    }
    const scope = (/** @type {import("./reasons.js").Match} */ match) => reasons.rules.scopes[match.scope]?.[0] || "top level";
    const cite = (/** @type {import("./reasons.js").Match} */ match) => cited(scope(match), reasons.text(match), known.placeOf(match));
    /** @type {Node[]} */
    const found = [];
    if (judged.also.length > 0) {
        found.push(el("h3", {}, "Also says so"), el("ul", { class: "beaten" }, ...judged.also.map((match) => el("li", {}, cite(match)))));
    }
    if (judged.beaten.length > 0) {
        const items = judged.beaten.map(({ item, by, why }) => el("li", {}, cite(item),
            by && by !== judged.winner ? el("p", {}, "by ", cite(by)) : null, el("p", {}, whyText(why))));
        found.push(el("h3", {}, "It beat"), el("ul", { class: "beaten" }, ...items));
    }
    return found;
}
