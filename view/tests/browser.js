// @ts-check
// Chromium, and pages in it.

import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";
import { pathToFileURL } from "node:url";
import puppeteer from "puppeteer-core";

/** @typedef {import("puppeteer-core").Page} Page */

/** The program. */
export const MESHC = process.env.MESHC ?? "meshc";

/** @type {Promise<import("puppeteer-core").Browser> | null} */
let started = null;
/** @type {string[]} */
const directories = [];

after(async () => {
    await (await started)?.close();
    for (const directory of directories) rmSync(directory, { recursive: true });
});

/** A directory that is removed in the end. @returns {string} */
export function directory() {
    const made = mkdtempSync(join(tmpdir(), "meshc-view-"));
    directories.push(made);
    return made;
}

/**
 * What `meshc view` makes of policies: each a directory's files.
 * @param {...(Record<string, string> | string)} policies @returns {string} The page's file.
 */
export function view(...policies) {
    const work = directory();
    const names = policies.map((files, at) => {
        if (typeof files === "string") return files;
        const [name, text] = /** @type {[string, string]} */ (Object.entries(files)[0]);
        const file = join(work, `${at}-${name}`);
        writeFileSync(file, text);
        return file;
    });
    const page = join(work, "page.html");
    execFileSync(MESHC, ["view", ...names, "-o", page], { stdio: ["ignore", "ignore", "inherit"] });
    return page;
}

/**
 * A page that is open. Whatever goes wrong in it fails the test.
 * @param {string} file A file, or an address.
 * @param {{ width?: number, height?: number, dark?: boolean, hash?: string, errors?: string[] }} [how] @returns {Promise<Page>}
 */
export async function open(file, { width = 1280, height = 800, dark = false, hash = "", errors = [] } = {}) {
    started ??= puppeteer.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox", "--disable-gpu"] });
    const page = await (await started).newPage();
    page.on("pageerror", (error) => errors.push(String(error)));
    page.on("console", (message) => { if (message.type() === "error") errors.push(message.text()); });
    page.on("dialog", (dialog) => { errors.push(`a dialog: ${dialog.message()}`); void dialog.dismiss(); });
    page.on("request", (request) => {
        const url = request.url();
        if (!url.startsWith("file:") && !url.startsWith("http://127.0.0.1:")) errors.push(`a request to ${url}`);
    });
    await page.setViewport({ width, height });
    await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: dark ? "dark" : "light" }]);
    const address = file.startsWith("http:") ? file : pathToFileURL(file).href;
    await page.goto(`${address}${hash ? `#${encodeURIComponent(hash)}` : ""}`, { waitUntil: "load" });
    await page.waitForSelector("#view > *");
    return page;
}

/** The text of an element, with one space between words. @param {Page} page @param {string} selector @returns {Promise<string>} */
export async function text(page, selector) {
    const found = await page.$eval(selector, (element) => /** @type {HTMLElement} */ (element).innerText);
    return found.replace(/\s+/g, " ").trim();
}

/** Asks a flow, as a person does. @param {Page} page @param {string} flow @returns {Promise<string>} What stands there then. */
export async function ask(page, flow) {
    await page.evaluate(() => /** @type {HTMLElement | null} */ (document.activeElement)?.blur());
    await page.keyboard.press("/");
    await page.keyboard.type(flow);
    await page.keyboard.press("Enter");
    return text(page, "#answer");
}
