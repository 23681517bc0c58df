// Starts `meshc lsp` and connects the editor with it. What the editor shows comes from there.
"use strict";

const vscode = require("vscode");
const { LanguageClient, RevealOutputChannelOn } = require("vscode-languageclient/node");
const { withoutType } = require("./tokens.js");

let client;
let output;

function settings() {
  return vscode.workspace.getConfiguration("meshc");
}

// The grammar tells words of the language apart by what they do; to the server they are all keywords, and would all
// look alike.
function namesAndValues(tokens, of) {
  const types = of.initializeResult?.capabilities.semanticTokensProvider?.legend.tokenTypes ?? [];
  return tokens?.data && new vscode.SemanticTokens(withoutType(tokens.data, types.indexOf("keyword")), tokens.resultId);
}

async function start() {
  if (!vscode.workspace.isTrusted) {
    return;
  }
  const command = settings().get("path") || "meshc";
  output ??= vscode.window.createOutputChannel("meshc");
  const started = new LanguageClient(
    "meshc",
    "meshc",
    { command, args: ["lsp"] },
    {
      documentSelector: [
        { scheme: "file", language: "mesh" },
        { scheme: "untitled", language: "mesh" },
      ],
      outputChannel: output,
      revealOutputChannelOn: RevealOutputChannelOn.Never,
      middleware: {
        provideDocumentSemanticTokens: async (document, token, next) =>
          namesAndValues(await next(document, token), started),
        provideDocumentRangeSemanticTokens: async (document, range, token, next) =>
          namesAndValues(await next(document, range, token), started),
      },
      // The server reads policies from the disk that are not open.
      synchronize: { fileEvents: vscode.workspace.createFileSystemWatcher("**/*.{mesh,toml}") },
    },
  );
  client = started;
  try {
    await started.start();
  } catch (error) {
    if (client === started) {
      client = undefined;
    }
    const choice = await vscode.window.showErrorMessage(
      `meshc: cannot start \`${command} lsp\`: ${error instanceof Error ? error.message : error}. ` +
        "Policies are coloured, and not checked.",
      "Say where meshc is",
    );
    if (choice) {
      await vscode.commands.executeCommand("workbench.action.openSettings", "meshc.path");
    }
  }
}

async function stop() {
  const stopped = client;
  client = undefined;
  if (stopped) {
    await stopped.dispose();
  }
}

// One after the other, so that two changes of the settings start one server.
let turn = Promise.resolve();

function restart() {
  turn = turn.then(stop, stop).then(start);
  return turn;
}

exports.activate = (context) => {
  context.subscriptions.push(
    vscode.commands.registerCommand("meshc.restart", restart),
    vscode.workspace.onDidGrantWorkspaceTrust(restart),
    vscode.workspace.onDidChangeConfiguration((change) => {
      if (change.affectsConfiguration("meshc.path")) {
        void restart();
      }
    }),
  );
  return restart();
};

exports.deactivate = stop;
