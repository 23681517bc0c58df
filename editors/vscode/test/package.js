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
  // Five tokens, of which the first, third and last are of the type 7.
  const { withoutType } = require(path.resolve(extension, "tokens.js"));
  const packed = [0, 2, 1, 7, 0, 0, 3, 2, 1, 0, 1, 4, 1, 7, 0, 0, 5, 1, 2, 9, 2, 1, 1, 7, 0];
  const kept = [...withoutType(packed, 7)].join();
  if (kept !== "0,5,2,1,0,1,9,1,2,9" || [...withoutType(packed, 8)].join() !== packed.join()) {
    throw new Error(`tokens are ${kept}`);
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
