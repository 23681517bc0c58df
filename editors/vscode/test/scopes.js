// Scopes of policies, as VS Code finds them: its own engine for TextMate grammars, and its own regular expressions.
//
//   node scopes.js GRAMMAR <TEXTS >SCOPES
//
// TEXTS is a JSON array of strings. SCOPES has for each an array of lines, for each line an array of tokens:
// [start, end, [scope, ...]].
"use strict";

const fs = require("node:fs");
const oniguruma = require("vscode-oniguruma");
const textmate = require("vscode-textmate");

// Markdown as far as the injected grammar needs it: something to be injected into.
const markdown = { scopeName: "text.html.markdown", patterns: [], repository: {} };

async function main() {
  const [grammar, injected] = process.argv.slice(2);
  await oniguruma.loadWASM(fs.readFileSync(require.resolve("vscode-oniguruma/release/onig.wasm")).buffer);
  const registry = new textmate.Registry({
    onigLib: Promise.resolve({
      createOnigScanner: (sources) => new oniguruma.OnigScanner(sources),
      createOnigString: (text) => new oniguruma.OnigString(text),
    }),
    getInjections: (scope) => (injected && scope === markdown.scopeName ? ["markdown.mesh.codeblock"] : []),
    loadGrammar: async (scope) => {
      const file = { "source.mesh": grammar, "markdown.mesh.codeblock": injected }[scope];
      return file ? textmate.parseRawGrammar(fs.readFileSync(file, "utf8"), file) : markdown;
    },
  });
  const loaded = await registry.loadGrammar(injected ? markdown.scopeName : "source.mesh");
  const texts = JSON.parse(fs.readFileSync(0, "utf8"));
  const scopes = texts.map((text) => {
    let state = textmate.INITIAL;
    return text.split(/\r?\n/).map((line) => {
      const found = loaded.tokenizeLine(line, state);
      state = found.ruleStack;
      return found.tokens.map((token) => [token.startIndex, token.endIndex, token.scopes]);
    });
  });
  process.stdout.write(JSON.stringify(scopes));
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
