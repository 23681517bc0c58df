// @ts-check
// The page in a real browser: chosen, asked, by keyboard, narrow and wide, on paper, with names that are markup.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { test } from "node:test";
import { MESHC, ask, directory, open, text, view } from "./browser.js";

const POLICY = `exempt uid 1500
redirect outbound -> 15001
redirect inbound -> 15003
set private = 10.0.0.0/8, fd00::/8
always deny outbound to 169.254.169.254
mesh shop {
    exclude outbound tcp 9000-9100 to private
    deny outbound tcp 25
    workload cart {
        namespace shop
        exclude outbound tcp 3306 to 10.0.3.0/24
        redirect outbound tcp 443 as uid 1000-1999 -> 15443
    }
    workload catalog { address 10.42.1.0/24 }
    group front = cart, catalog
}
`;
const SIZES = /** @type {[number, number][]} */ ([[320, 640], [1280, 800], [3840, 2160]]);

test("a cell tells its rules, their lines, and what they beat", async () => {
    const errors = /** @type {string[]} */ ([]);
    const page = await open(view({ "shop.mesh": POLICY }), { errors });
    const cells = await page.$$eval("[role=gridcell]", (all) => all.length);
    const columns = await page.$$eval("[role=columnheader]", (all) => all.length - 1);
    assert.equal(cells, 2 * columns);
    const cell = await page.evaluateHandle(() => [...document.querySelectorAll("[role=gridcell]")].find((one) =>
        one.parentElement?.textContent?.startsWith("cart") && /excluded.* at others/.test(one.getAttribute("aria-label") ?? "")));
    await /** @type {import("puppeteer-core").ElementHandle<Element>} */ (cell).click();
    const told = await text(page, "#answer");
    assert.match(told, /^shop\/cart → /);
    assert.match(told, /denied 25 shop: deny outbound tcp 25 .*0-shop\.mesh:8/);
    assert.match(told, /redirected 15001 all others top level: redirect outbound tcp -> 15001 .*0-shop\.mesh:2/);
    await page.click("#answer summary");
    assert.match(await text(page, "#answer"), /It beat top level: redirect outbound tcp -> 15001 .* narrower: tcp .* within all tcp ports/);
    assert.deepEqual(errors, []);
    await page.close();
});

test("a flow is asked, and its path shown", async () => {
    const errors = /** @type {string[]} */ ([]);
    const page = await open(view({ "shop.mesh": POLICY }), { errors });
    const told = await ask(page, "cart -> 10.0.3.9 tcp 3306");
    assert.match(told, /^shop\/cart → 10\.0\.3\.9 tcp 3306 → excluded Member shop\/cart namespace shop Exemption no process or interface is named/);
    assert.match(told, /Address 10\.0\.3\.9 longest prefix 10\.0\.3\.0\/24 Port tcp 3306 in 3306 Rule shop\/cart: exclude outbound tcp 3306 to 10\.0\.3\.0\/24 .*0-shop\.mesh:11/);
    assert.match(told, /It beat top level: redirect outbound tcp -> 15001/);
    assert.match(await ask(page, "cart -> 10.0.3.9 tcp 443 as uid 1500"), /Exemption it is exempt: no rule reaches it Rule top level: exempt uid 1500 .*:1/);
    assert.match(await ask(page, "cart -> 8.8.8.8 tcp 443 as uid 1001"), /redirected 15443/);
    assert.match(await ask(page, "catalog -> cart udp 53"), /→ excluded/);
    assert.match(await ask(page, "10.9.9.9 -> catalog tcp 80"), /redirected 15003/);
    assert.match(await ask(page, "crt -> 8.8.8.8 tcp 80"), /Not a flow no workload is named `crt`; did you mean `cart`\?/);
    assert.equal(await page.$eval("#flow", (input) => input.getAttribute("aria-invalid")), "true");
    assert.match(await ask(page, "cart -> 8.8.8.8"), /which port\?/);
    assert.deepEqual(errors, []);
    await page.close();
    const linked = await open(view({ "shop.mesh": POLICY }), { hash: "cart -> 10.0.3.9 tcp 3306" });
    assert.match(await text(linked, "#answer"), /^shop\/cart → 10\.0\.3\.9 tcp 3306 → excluded/);
    await linked.close();
});

test("filters, ports, directions and processes choose what is shown", async () => {
    const page = await open(view({ "shop.mesh": POLICY }));
    const row = () => page.$$eval("[role=gridcell]", (all) => all.map((one) => one.getAttribute("aria-label")));
    await page.type("input.port", "25");
    assert.ok((await row()).every((one) => one === "denied" || one === "excluded"), (await row()).join());
    await page.type("input.process", "uid 1500");
    assert.ok((await row()).every((one) => one === "excluded: exempt"));
    await page.type("input.process", "x");
    assert.equal(await page.$eval("input.process", (input) => input.getAttribute("aria-invalid")), "true");
    const [workloads] = await page.$$("input.filter");
    await workloads?.type("catalog");
    assert.deepEqual(await page.$$eval("[role=rowheader]", (all) => all.map((one) => one.textContent)), ["catalog"]);
    await workloads?.evaluate((input) => { /** @type {HTMLInputElement} */ (input).value = ""; });
    await workloads?.type("front");
    assert.equal((await page.$$("[role=rowheader]")).length, 2, "a group's name chooses its workloads");
    await page.click("fieldset label:nth-of-type(2)");
    assert.equal(await text(page, ".corner"), "connections from");
    await page.close();
});

test("the graph draws what is decided otherwise, and tells what is chosen", async () => {
    const errors = /** @type {string[]} */ ([]);
    const page = await open(view({ "shop.mesh": POLICY }), { errors });
    await page.click("nav button:nth-of-type(2)");
    const left = await page.$$eval(".side:first-of-type .node", (all) => all.map((one) => /** @type {HTMLElement} */ (one).innerText.replace(/\s+/g, " ")));
    assert.deepEqual(left, ["cart in front ↪ redirected 15001", "catalog in front ↪ redirected 15001"]);
    const right = await page.$$eval(".side:last-of-type .node", (all) => all.map((one) => one.firstChild?.textContent));
    assert.deepEqual(right, ["catalog", "private", "10.0.3.0/24", "169.254.169.254"]);
    const lines = () => page.$$eval(".line", (all) => all.map((one) => one.getAttribute("class")));
    assert.deepEqual((await lines()).filter((one) => one === "line denied").length, 2);
    await page.click(".side:first-of-type .node:nth-of-type(2)");
    assert.match(await text(page, "#answer"), /^shop\/catalog members address 10\.42\.1\.0\/24/);
    assert.ok((await lines()).some((one) => one?.includes("faint")), "the others are faint");
    await page.click(".side:last-of-type .node:nth-of-type(2)");
    assert.match(await text(page, "#answer"), /^private 2 prefixes.* 10\.0\.0\.0\/8, fd00::\/8/);
    await page.type("input.port", "9001");
    assert.deepEqual([...new Set(await lines())].sort(), ["line denied", "line excluded"]);
    assert.deepEqual(errors, []);
    await page.close();
});

test("all of it goes by keyboard", async () => {
    const page = await open(view({ "shop.mesh": POLICY }));
    await page.focus("[role=gridcell][tabindex='0']");
    const here = () => page.evaluate(() => [document.activeElement?.getAttribute("data-row"), document.activeElement?.getAttribute("data-column")].join());
    for (const [key, expected] of /** @type {[import("puppeteer-core").KeyInput, string][]} */ ([
        ["ArrowRight", "0,1"], ["ArrowDown", "1,1"], ["ArrowDown", "1,1"], ["Home", "1,0"], ["ArrowLeft", "1,-1"],
        ["ArrowUp", "0,-1"], ["ArrowUp", "-1,0"], ["ArrowDown", "0,0"],
    ])) {
        await page.keyboard.press(key);
        assert.equal(await here(), expected, key);
    }
    await page.keyboard.press("Enter");
    assert.match(await text(page, "#answer"), /^shop\/cart → everywhere else/);
    assert.equal(await page.$$eval("[tabindex='0'][data-row]", (all) => all.length), 1, "one cell is in the order of tabs");
    const reached = new Set();
    for (let at = 0; at < 30; at++) {
        await page.keyboard.press("Tab");
        reached.add(await page.evaluate(() => document.activeElement?.id || document.activeElement?.className || document.activeElement?.getAttribute("name") || document.activeElement?.tagName));
    }
    for (const id of ["flow", "answer", "skip", "port"]) assert.ok(reached.has(id), `${id} of ${[...reached].join()}`);
    await page.close();
});

test("narrow and wide, light and dark, axe finds nothing and nothing is cut off", async () => {
    const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
    const pages = [view({ "shop.mesh": POLICY }), view({ "old.mesh": POLICY }, { "new.mesh": POLICY.replace("tcp 25", "tcp 25, 26") })];
    for (const file of pages) {
        for (const [width, height] of SIZES) {
            for (const dark of [false, true]) {
                const page = await open(file, { width, height, dark });
                const where = `${width} px, ${dark ? "dark" : "light"}`;
                for (const view of await page.$$("nav button")) {
                    await view.click();
                    await found(page, axe, where);
                }
                await ask(page, "cart -> 10.0.3.9 tcp 3306");
                await found(page, axe, where);
                const beyond = await page.evaluate(() => [...document.querySelectorAll("body *")].filter((one) => !one.closest(".grid, .hidden, .skip, .page") && one.getBoundingClientRect().right > innerWidth + 1).map((one) => one.outerHTML.slice(0, 120)));
                assert.deepEqual(beyond, [], `${where}: it scrolls sideways`);
                await page.close();
            }
        }
    }
});

/** @param {import("puppeteer-core").Page} page @param {string} axe @param {string} where */
async function found(page, axe, where) {
    // Past the page's content policy, which lets no other script in.
    await page.evaluate(axe);
    const violations = await page.evaluate(async () => {
        const { violations } = await /** @type {any} */ (globalThis).axe.run(document);
        return violations.map((/** @type {any} */ one) => `${one.id}: ${one.nodes.map((/** @type {any} */ node) => node.html).join("\n")}`);
    });
    assert.deepEqual(violations, [], where);
}

test("names are text, never markup, and no script but the page's runs", async () => {
    const errors = /** @type {string[]} */ ([]);
    const hostile = "</script><img src=x onerror=pwned=1><script>pwned=1</script>&lt;b&gt;";
    const policy = `mesh m { workload a { cgroup "/x/${hostile}" exempt cgroup "/y/${hostile}" deny outbound as cgroup "/z/${hostile}" } }`;
    const page = await open(view({ "<img src=x onerror=pwned=1>.mesh": policy.replace(/ (exempt|deny)/g, "\n$1").replace(/" }/, "\"\n}") }), { errors });
    await page.click("[role=rowheader]");
    assert.match(await text(page, "#answer"), /cgroup "\/x\/<\/script><img src=x onerror=pwned=1><script>pwned=1<\/script>&lt;b&gt;"/);
    await ask(page, "a -> 8.8.8.8 tcp 80");
    await page.click("[role=gridcell]");
    assert.equal(await page.evaluate(() => "pwned" in globalThis), false);
    assert.equal((await page.$$("img, iframe, object")).length, 0);
    assert.deepEqual(errors, []);
    // What an extension or a mistake would put in is refused.
    await page.evaluate(() => {
        const script = document.createElement("script");
        script.textContent = "globalThis.pwned = 1";
        document.body.append(script);
        document.body.insertAdjacentHTML("beforeend", "<p onclick=\"globalThis.pwned = 1\" id=bait>bait</p>");
        document.getElementById("bait")?.click();
    });
    assert.equal(await page.evaluate(() => "pwned" in globalThis), false);
    assert.notDeepEqual(errors, []);
    assert.ok(/** @type {string[]} */ (errors).every((error) => error.includes("Content Security Policy")), errors.join());
    await page.close();
});

test("it prints: the matrix as tables, and what was asked", async () => {
    const page = await open(view({ "shop.mesh": POLICY }));
    await ask(page, "cart -> 10.0.3.9 tcp 3306");
    await page.emulateMediaType("print");
    await page.evaluate(() => { dispatchEvent(new Event("beforeprint")); });
    const printed = await text(page, "#print");
    assert.match(printed, /connections to .*everywhere else/);
    assert.match(printed, /cart .*redirected 15001/);
    for (const hidden of [".grid", ".tools", "#ask"]) {
        assert.equal(await page.$eval(hidden, (element) => getComputedStyle(element).display), "none", hidden);
    }
    assert.match(await text(page, "#answer"), /excluded/);
    const pdf = await page.pdf({ format: "A4" });
    assert.ok(pdf.length > 5000);
    await page.close();
});

test("the files of a directory are one policy, and so is a file with what it imports", async () => {
    const policies = directory();
    writeFileSync(join(policies, "sets.mesh"), "set private = 10.0.0.0/8\n");
    writeFileSync(join(policies, "main.mesh"), "mesh shop {\n    deny outbound to private\n    workload cart { any }\n}\n");
    const importing = join(directory(), "all.mesh");
    writeFileSync(importing, `import "../${basename(policies)}"\n`);
    for (const given of [policies, importing]) {
        const page = await open(view(given));
        assert.match(await text(page, ".head"), /private/);
        assert.match(await ask(page, "cart -> 10.1.2.3 tcp 80"), /denied.*main\.mesh:2/);
        await page.close();
    }
});

test("a compiled artifact is shown too, and what it does not know is said", async () => {
    const work = directory();
    writeFileSync(join(work, "shop.mesh"), POLICY);
    execFileSync(MESHC, ["compile", "--artifact", "-o", join(work, "shop.artifact"), join(work, "shop.mesh")], { stdio: "ignore" });
    const page = await open(view(join(work, "shop.artifact")));
    const told = await ask(page, "cart -> 10.0.3.9 tcp 3306");
    assert.match(told, /→ excluded .*Rule shop\/cart: exclude outbound tcp 3306 to 10\.0\.3\.0\/24 What it beat is not known here/);
    await page.click("[role=gridcell]");
    assert.match(await text(page, "#answer"), /denied 25 shop: deny outbound tcp 25 /);
    await page.close();
});

test("two policies: exactly the flows that change", async () => {
    const changed = POLICY.replace("exclude outbound tcp 3306", "deny outbound tcp 3306-3307");
    const page = await open(view({ "old.mesh": POLICY }, { "new.mesh": changed }));
    const rows = await page.$$eval("tbody tr", (all) => all.map((one) => /** @type {HTMLElement} */ (one).innerText.replace(/\s+/g, " ")));
    assert.equal(rows.length, 2, rows.join("\n"));
    assert.match(rows.join("\n"), /shop\/cart outbound tcp 3306 10\.0\.3\.0\/24 → excluded ✕ denied by shop\/cart: deny outbound tcp 3306-3307 to 10\.0\.3\.0\/24/);
    assert.match(rows.join("\n"), /shop\/cart outbound tcp 3307 10\.0\.3\.0\/24 ↪ redirected 15001 ✕ denied/);
    await page.click("tbody button");
    assert.match(await text(page, "#answer"), /^Before .* After .* denied/);
    await page.click("nav button");
    const cells = await page.$$eval(".changed", (all) => all.map((one) => one.getAttribute("aria-label")));
    assert.equal(cells.length, 1);
    assert.match(cells[0] ?? "", /; changed$/);
    await page.click(".changed");
    assert.match(await text(page, "#answer"), /^shop\/cart → 10\.0\.3\.0\/24 .*Decided otherwise at port 3306-3307: Before .*excluded 3306 .*redirected 15001 3307 .*After .*denied 3306-3307/);
    const same = await open(view({ "old.mesh": POLICY }, { "new.mesh": POLICY }));
    assert.match(await text(same, "#view"), /No flow is decided otherwise/);
    await Promise.all([page.close(), same.close()]);
});
