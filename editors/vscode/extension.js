// Starts `meshc lsp` and connects the editor with it. What the editor shows comes from there.
"use strict";

const vscode = require("vscode");
const { LanguageClient, RevealOutputChannelOn } = require("vscode-languageclient/node");

let client;
let output;

function settings() {
  return vscode.workspace.getConfiguration("meshc");
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
