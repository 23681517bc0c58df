// @ts-check
// 500 workloads and 5,000 rules: that the page works at that size, and how long it takes, as numbers to read.

import assert from "node:assert/strict";
import { test } from "node:test";
import { ask, open, view } from "./browser.js";

/** @returns {string} */
function policy() {
    const lines = ["exempt uid 1337", "redirect outbound -> 15001", "redirect inbound -> 15006", "mesh shop {"];
    for (let at = 0; at < 500; at++) lines.push(`exclude outbound tcp ${1000 + at} to 10.${at % 200}.${Math.floor(at / 200)}.0/24`);
    for (let workload = 0; workload < 500; workload++) {
        const name = `w${String(workload).padStart(3, "0")}`;
        lines.push(`workload ${name} {`, `label app = ${name}`);
        for (let rule = 0; rule < 9; rule++) {
            lines.push(`${rule % 3 === 0 ? "deny" : "exclude"} outbound tcp ${2000 + workload + rule} to 172.${16 + rule}.${workload % 256}.0/24`);
        }
        lines.push("}");
    }
    return [...lines, "}", ""].join("\n");
}

test("what is drawn while one scrolls is what is drawn anew", async () => {
    const page = await open(view({ "large.mesh": policy() }), { width: 1600, height: 1000 });
    const broken = await page.evaluate(() => {
        const grid = /** @type {HTMLElement} */ (document.querySelector(".grid"));
        const shows = () => [...grid.querySelectorAll("[role=row]")].map((row) => row.outerHTML.replaceAll(/ tabindex="-?\d"/g, ""));
        /** @type {string[]} */
        const broken = [];
        const to = [[0, 0], [400, 300], [600, 0], [590, 5000], [40_000, 5100], [40_300, 5000], [0, 12_000], [700, 11_500], [0, 0]];
        for (const [left, top] of to) {
            grid.scrollTo(left ?? 0, top ?? 0);
            grid.dispatchEvent(new Event("scroll"));
            const seen = shows();
            const stops = grid.querySelectorAll('[tabindex="0"]').length;
            if (stops !== 1) broken.push(`at ${left} ${top} the tab key stops ${stops} times`);
            const spots = [...grid.querySelectorAll("[data-row]")].map((cell) => `${cell.getAttribute("data-row")} ${cell.getAttribute("data-column")}`);
            if (new Set(spots).size !== spots.length) broken.push(`at ${left} ${top} a cell is there twice`);
            const numbers = spots.map((spot) => spot.split(" ").map(Number));
            const isSorted = numbers.every(([row = 0, column = 0], at) => at === 0 || row > (numbers[at - 1]?.[0] ?? 0) || column > (numbers[at - 1]?.[1] ?? 0));
            if (!isSorted) broken.push(`at ${left} ${top} cells are out of order`);
            // A filter that everything passes has all drawn again.
            const filter = /** @type {HTMLInputElement} */ (document.querySelector(".filter"));
            filter.dispatchEvent(new Event("input"));
            const anew = shows();
            if (seen.join("\n") !== anew.join("\n")) broken.push(`at ${left} ${top}: ${seen.length} rows, and ${anew.length} anew`);
        }
        return broken;
    });
    assert.deepEqual(broken, []);
    await page.close();
});

test("500 workloads and 5,000 rules stay smooth", async () => {
    const page = await open(view({ "large.mesh": policy() }), { width: 1600, height: 1000 });
    const paint = await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? 0);
    const ready = await page.evaluate(() => performance.getEntriesByName("ready")[0]?.startTime ?? 0);
    assert.equal(await page.$eval("[role=grid]", (grid) => grid.getAttribute("aria-rowcount")), "501");
    const drawn = (await page.$$("[role=gridcell]")).length;
    assert.ok(drawn > 100 && drawn < 10_000, `${drawn} cells are in the document`);
    /** How long the work of some events takes, with layout, each once. @param {string} what */
    const timed = (what) => page.evaluate((what) => {
        const grid = /** @type {HTMLElement} */ (document.querySelector(".grid"));
        return Array.from({ length: 20 }, (_, at) => {
            const begin = performance.now();
            if (what === "click") /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("[role=gridcell]"))[at * 5]?.click();
            else if (what === "scroll") grid.scrollTo((at + 1) * 400, (at + 1) * 500), grid.dispatchEvent(new Event("scroll"));
            else grid.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight" }));
            void document.body.offsetHeight;
            return performance.now() - begin;
        }).sort((a, b) => a - b);
    }, what);
    const numbers = { click: await timed("click"), key: await timed("key"), scroll: await timed("scroll") };
    const begin = Date.now();
    assert.match(await ask(page, "w499 -> 172.16.243.9 tcp 2499"), /denied/);
    const asked = Date.now() - begin;
    const median = Object.entries(numbers).map(([what, all]) => `${what} ${all[10]?.toFixed(1)} ms (most ${all[19]?.toFixed(1)})`);
    console.log(`first paint ${paint.toFixed(0)} ms, ready ${ready.toFixed(0)} ms, ${drawn} cells drawn; ${median.join(", ")}; a flow typed and answered ${asked} ms`);
    await page.close();
});
