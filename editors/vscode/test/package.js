// Takes a packaged extension apart, and loads it from there: all that it needs must be in it.
//
//   node package.js FILE.vsix DIRECTORY     DIRECTORY is made, and holds the extension then
"use strict";

const fs = require("node:fs");
const Module = require("node:module");
const path = require("node:path");
const yauzl = require("yauzl");

function unpack(file, directory) {
  return new Promise((resolve, reject) => {
    yauzl.open(file, { lazyEntries: true }, (problem, zip) => {
      if (problem) {
        reject(problem);
        return;
      }
      zip.on("error", reject);
      zip.on("end", resolve);
      zip.on("entry", (entry) => {
        const target = path.join(directory, entry.fileName);
        if (entry.fileName.endsWith("/")) {
          zip.readEntry();
          return;
        }
        fs.mkdirSync(path.dirname(target), { recursive: true });
        zip.openReadStream(entry, (problem, stream) => {
          if (problem) {
            reject(problem);
            return;
          }
          stream.pipe(fs.createWriteStream(target)).on("finish", () => zip.readEntry());
        });
      });
      zip.readEntry();
    });
  });
}

// What VS Code hands to extensions, as far as loading asks for it: classes to derive from.
function editor() {
  const anything = class {};
  return new Proxy(
    {},
    { get: (_, name) => (name === "version" ? "1.82.0" : name === "then" ? undefined : anything) },
  );
}

async function main() {
  const [file, directory] = process.argv.slice(2);
  await unpack(file, directory);
  const extension = path.join(directory, "extension");
  const load = Module._load;
  Module._load = function (name, ...rest) {
    return name === "vscode" ? editor() : load.call(this, name, ...rest);
  };
  const { activate, deactivate } = require(path.resolve(extension, "extension.js"));
  if (typeof activate !== "function" || typeof deactivate !== "function") {
    throw new Error("extension.js does not say how it starts and ends");
  }
  const outside = Object.keys(require.cache).filter(
    (it) => it.endsWith(".js") && !it.startsWith(fs.realpathSync(directory)) && it.includes("languageclient"),
  );
  if (outside.length > 0) {
    throw new Error(`not in the package: ${outside.join(", ")}`);
  }
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
