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
