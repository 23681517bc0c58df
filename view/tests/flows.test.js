// @ts-check
// Holds the page's walk and its reasons against the compiler, on random policies. The example `flows` of fuzz/ prints them:
// a policy a line, with flows and what the compiler says of each. FLOWS names the file.

import assert from "node:assert/strict";
import { createReadStream } from "node:fs";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { answers, rangeText, readFlow } from "../page/ask.js";
import { Reasons, explained } from "../page/reasons.js";
import { Image, parseAddress, prefixText } from "../page/walk.js";

/** @typedef {import("../page/walk.js").Model} Model */

/** @param {Image} image @param {import("../page/walk.js").Decision} decision */
function credit(image, decision) {
    const kind = image.kind(decision.source);
    const text = image.text(decision.source, decision.item);
    return kind === 0 ? "no rule" : kind === 1 ? `built-in: ${text}` : `${image.scope(decision.source) || "top level"}: ${text}`;
}

/** What the page says of an answer, in the words of the example. @param {Image} image @param {Reasons} reasons */
function said(image, reasons, /** @type {import("../page/ask.js").Question} */ question, /** @type {import("../page/ask.js").Answer} */ answer) {
    const found = explained(reasons, question.workload, answer.flow, question.identity, answer.decision);
    const item = (/** @type {import("../page/reasons.js").Match} */ match) =>
        `${reasons.rules.scopes[match.scope]?.[0] || "top level"}: ${reasons.text(match)}`;
    if (found.winner) assert.equal(item(found.winner), credit(image, answer.decision), "the rules and the image credit the same");
    return {
        verdict: image.verdict(answer.decision.verdict),
        own: answer.flow.own,
        by: credit(image, answer.decision),
        also: found.also.map(item),
        beaten: found.beaten.map(({ item: loser, by, why }) => [
            item(loser),
            by ? item(by) : why.code === "exempt" ? credit(image, answer.decision) : `built-in: ${why.code}`,
            why.code === "stronger" ? `stronger ${image.verdict(why.verdict ?? 0)} ${image.verdict(why.than ?? 0)}`
                : why.narrower ? `narrower ${why.narrower.map((one) => `${one.in} ${one.inner} in ${one.outer}`).join("; ")}`
                    : why.code,
        ]),
    };
}

test("the page decides and explains as the compiler does", async () => {
    const lines = createInterface({ input: createReadStream(process.env.FLOWS ?? "") });
    let [policies, flows, exempt, beaten, several] = [0, 0, 0, 0, 0];
    /** @type {Set<string>} */
    const codes = new Set();
    for await (const line of lines) {
        const { seed, data, flows: all } = JSON.parse(line);
        const image = new Image(data.policies[0]);
        const reasons = new Reasons(image, data.policies[0].rules);
        policies++;
        for (const one of all) {
            flows++;
            const where = `seed ${seed}: ${one.asked}`;
            const workload = image.model.workloads.find(({ name }) => name === one.workload);
            const address = parseAddress(one.address);
            assert.ok(workload && address, where);
            assert.equal(prefixText(address), one.address, where);
            const identity = { uid: one.uid ?? undefined, gid: one.gid ?? undefined, cgroup: one.cgroup ?? undefined, interface: one.interface ?? undefined, node: one.node };
            const flow = { direction: one.direction, protocol: one.protocol, address, port: one.port, own: one.own };
            const decision = image.decide(workload.profile, flow, identity);
            assert.ok(decision, where);
            assert.equal(image.verdict(decision.verdict), one.verdict, where);
            assert.equal(decision.exempt, one.exempt, where);
            assert.equal(credit(image, decision), one.by.replace(/^: /, "top level: "), where);
            exempt += one.exempt ? 1 : 0;

            const question = readFlow(image, one.asked);
            const found = answers(image, question);
            if (question.addresses) {
                assert.equal(found.length, one.answers.length, where);
                found.forEach((answer, at) => {
                    const { ranges, ...expected } = one.answers[at];
                    const page = said(image, reasons, question, answer);
                    assert.deepEqual(page, expected, where);
                    beaten += page.beaten.length;
                    for (const [, , why = ""] of page.beaten) codes.add(why.split(" ")[0] ?? "");
                });
            } else {
                several++;
                sameRanges(image, found, one.answers, where);
            }
        }
    }
    console.log(`${policies} policies, ${flows} flows, ${exempt} by exempt processes, ${several} to workloads, ${beaten} items beaten`);
    assert.ok(policies > 40 && flows > 2000 && exempt > 20 && several > 50, "too few to tell anything");
    for (const code of ["exempt", "always", "narrower", "stronger", "own-address", "sidecar-port", "loopback"]) {
        assert.ok(codes.has(code), `no item was beaten by ${code}`);
    }
});

/**
 * Every address of every answer of the compiler has the same verdict in one of the page's.
 * @param {Image} image @param {import("../page/ask.js").Answer[]} found @param {any[]} expected @param {string} where
 */
function sameRanges(image, found, expected, where) {
    for (const answer of expected) {
        for (const [, first, text] of answer.ranges) {
            const address = parseAddress(first);
            assert.ok(address, where);
            const holding = found.filter(({ flow, ranges }) => flow.own === answer.own && ranges.some((range) =>
                range.family === address.family && range.first <= address.bits && address.bits <= range.last));
            const verdicts = holding.map(({ decision }) => image.verdict(decision.verdict));
            assert.deepEqual(verdicts, [answer.verdict], `${where} at ${text}`);
        }
    }
}

test("ranges are written as the compiler writes them", () => {
    const range = (/** @type {string} */ first, /** @type {string} */ last) => {
        const [from, to] = [parseAddress(first), parseAddress(last)];
        assert.ok(from && to);
        return rangeText({ family: from.family === 6 ? 6 : 4, first: from.bits, last: to.bits });
    };
    assert.equal(range("10.0.0.0", "10.255.255.255"), "10.0.0.0/8");
    assert.equal(range("10.0.0.1", "10.0.0.1"), "10.0.0.1");
    assert.equal(range("10.0.0.1", "10.0.0.2"), "10.0.0.1-10.0.0.2");
    assert.equal(range("fd00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), "fd00::/8");
});
