// @ts-check
// The page as the agent serves it: numbers and decisions come while it is open. What the agent itself answers is tested with a
// kernel, in cli/tests/e2e/node/agent.rs; here a server says the same, and hostile names.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { after, test } from "node:test";
import { open, text, view } from "./browser.js";

const HOSTILE = "<img src=x onerror=\"globalThis.pwned=1\">\u202e";
const NEWS = {
    generation: 7, state: "active", decides: true,
    members: [{ name: HOSTILE, workload: "shop/cart", addresses: ["10.42.1.7"], cgroup: null }],
    workloads: [{ name: "shop/cart", members: 1, redirected: 12345, excluded: 2, denied: 1, exempt: 0 }],
    rules: [{ text: "redirect outbound tcp -> 15001", scope: "shop", hits: 12345, place: "shop.mesh:2" }],
    drift: ["the table `trees` was modified since the apply"], failed: [HOSTILE],
};
const DECIDED = {
    time: "2026-01-02T03:04:05.678901Z", times: 1, workload: "cart", mesh: "shop", member: HOSTILE, pid: 7, uid: 0, command: HOSTILE,
    direction: "outbound", protocol: "tcp", source: null, destination: "10.0.3.9:80", peer: null, verdict: "redirected", port: 15001, heard: null,
    rule: { text: "redirect outbound tcp -> 15001", scope: "shop", file: null, line: null }, generation: 7,
};

/** @type {import("node:http").Server[]} */
const servers = [];
after(() => servers.forEach((server) => { server.closeAllConnections(); server.close(); }));

/** @returns {Promise<{ address: string, news: typeof NEWS, asked: string[], tell: (event: unknown) => void }>} */
async function served() {
    const html = readFileSync(view({ "shop.mesh": "redirect outbound -> 15001\nexempt uid 1500\nmesh shop { workload cart { namespace shop } }\n" }), "utf8")
        .replace("\"live\":false", "\"live\":true").replace("connect-src 'none'", "connect-src 'self'");
    /** @type {Set<import("node:http").ServerResponse>} */
    const listening = new Set();
    const news = structuredClone(NEWS);
    /** @type {string[]} */
    const asked = [];
    const server = createServer((request, response) => {
        asked.push(`${request.method} ${request.url}`);
        if (request.url === "/") response.setHeader("Content-Type", "text/html").end(html);
        else if (request.url === "/live") response.setHeader("Content-Type", "application/json").end(JSON.stringify(news));
        else if (request.url === "/events") {
            response.setHeader("Content-Type", "text/event-stream");
            response.write(":\n\n");
            listening.add(response);
        } else response.writeHead(404).end();
    });
    servers.push(server);
    await new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(null)));
    const address = /** @type {import("node:net").AddressInfo} */ (server.address());
    const tell = (/** @type {unknown} */ event) => listening.forEach((response) => response.write(`data: ${JSON.stringify(event)}\n\n`));
    return { address: `http://127.0.0.1:${address.port}/`, news, asked, tell };
}

/** Waits until a page says something. @param {import("puppeteer-core").Page} page @param {string} words */
function says(page, words) {
    return page.waitForFunction((words) => document.querySelector("#view")?.textContent?.includes(words), { timeout: 20_000 }, words);
}

test("numbers and decisions come while the page is open, names are text", async () => {
    const errors = /** @type {string[]} */ ([]);
    const { address, news, asked, tell } = await served();
    const page = await open(address, { errors });
    const [live] = (await page.$$("nav button")).slice(-1);
    await live?.click();
    await says(page, "Generation 7 is active, 1 member");
    const told = await text(page, "#view");
    assert.match(told, /Drift the table `trees` was modified since the apply Pods that could not be attached <img src=x onerror="globalThis.pwned=1">\\u\{202e\}/);
    assert.match(told, /shop\/cart 1 12,345 2 1 0/);
    assert.match(told, /shop: redirect outbound tcp -> 15001 shop\.mesh:2 12,345/);
    tell(DECIDED);
    await says(page, "03:04:05.678");
    assert.match(await text(page, "tbody"), /redirected 15001 shop\/cart <img src=x onerror="globalThis.pwned=1">\\u\{202e\} outbound tcp -> 10\.0\.3\.9:80 <img .*\[7\] uid 0 shop: redirect outbound tcp -> 15001/);
    const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
    await page.evaluate(axe);
    const violations = await page.evaluate(async () => (await /** @type {any} */ (globalThis).axe.run(document)).violations.map((/** @type {any} */ one) => `${one.id} ${one.nodes[0]?.html}`));
    assert.deepEqual(violations, []);
    news.rules = news.rules.map((rule) => ({ ...rule, hits: rule.hits + 5 }));
    await says(page, "+5");
    tell({ lost: 9 });
    await says(page, "9 decisions came too fast");
    await page.click("#view button");
    tell({ ...DECIDED, time: "2026-01-02T09:09:09.000000Z" });
    tell({ lost: 1 });
    await says(page, "10 decisions came too fast");
    assert.ok(!(await text(page, "#view")).includes("09:09:09"), "it is paused");
    news.generation = 8;
    await says(page, "Generation 8 is live now, and this page shows 7");
    assert.equal(await page.evaluate(() => "pwned" in globalThis), false);
    assert.equal((await page.$$("img")).length, 0);
    assert.deepEqual([...new Set(asked)].filter((one) => one !== "GET /favicon.ico").sort(), ["GET /", "GET /events", "GET /live"], "it only reads");
    assert.deepEqual(errors.filter((error) => !error.includes("404")), []);
    await page.close();
});
