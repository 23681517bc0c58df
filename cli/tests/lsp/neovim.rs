//! A real editor: neovim, without a terminal. Where it is not installed, that is said and nothing is tried.

use std::process::Command;

use serde_json::{Value, json};

use crate::client::directory;

const SCRIPT: &str = r#"
local out = {}
local ok, problem = pcall(function()
    vim.cmd("edit shop.mesh")
    local client = vim.lsp.start_client({ name = "meshc", cmd = { vim.env.MESHC, "lsp" }, root_dir = vim.fn.getcwd() })
    vim.lsp.buf_attach_client(0, client)
    local function diagnostics(wanted)
        vim.wait(60000, function() return #vim.diagnostic.get(0) == wanted end, 20)
        return vim.tbl_map(function(it)
            return { line = it.lnum, column = it.col, code = it.code or it.user_data.lsp.code }
        end, vim.diagnostic.get(0))
    end
    local function ask(method, params)
        local answers = vim.lsp.buf_request_sync(0, method, params, 60000) or {}
        for _, answer in pairs(answers) do return answer.result end
    end
    out.wrong = diagnostics(1)
    vim.api.nvim_win_set_cursor(0, { 6, 0 })
    vim.cmd("normal! fpcwprivate")
    out.right = diagnostics(0)
    out.hover = ask("textDocument/hover", vim.lsp.util.make_position_params())
    local function line(number) return vim.api.nvim_buf_get_lines(0, number - 1, number, true)[1] end
    vim.api.nvim_win_set_cursor(0, { 1, 5 })
    vim.lsp.buf.rename("inside")
    vim.wait(60000, function() return line(1):find("inside") end, 20)
    out.renamed = { line(1), line(6) }
    vim.api.nvim_buf_set_lines(0, 5, 6, true, { " deny outbound any to inside, as uid 7" })
    diagnostics(1)
    local comma = line(6):find(",") - 1
    vim.api.nvim_win_set_cursor(0, { 6, comma })
    local params = vim.lsp.util.make_range_params()
    params.context = { diagnostics = {} }
    local fixes = ask("textDocument/codeAction", params)
    vim.lsp.util.apply_workspace_edit(fixes[1].edit, "utf-16")
    out.fixed = line(6)
    diagnostics(0)
    local document = { textDocument = vim.lsp.util.make_text_document_params() }
    out.lens = ask("textDocument/codeLens", document)[1].command
    local shown
    vim.lsp.handlers["window/showMessage"] = function(_, said) shown = said.message end
    ask("workspace/executeCommand", out.lens)
    vim.wait(60000, function() return shown end, 20)
    out.shown = shown
    out.folds = ask("textDocument/foldingRange", document)
    vim.lsp.buf.formatting_sync({}, 60000)
    out.lines = vim.api.nvim_buf_get_lines(0, 0, -1, false)
    vim.lsp.stop_client(client)
    out.stopped = vim.wait(60000, function() return not vim.lsp.get_client_by_id(client) or vim.lsp.get_client_by_id(client).is_stopped() end, 20)
end)
if not ok then out = { problem = tostring(problem) } end
vim.fn.writefile({ vim.fn.json_encode(out) }, "out.json")
vim.cmd("qall!")
"#;

#[test]
fn neovim_is_told() {
    if Command::new("nvim").arg("--version").output().is_err() {
        eprintln!("not tried: neovim is not installed");
        return;
    }
    let text = "set private = 10.0.0.0/8\nexempt uid 1500\nmesh shop {\n workload a { any }\n \
                # 𝄞\n deny outbound any to privat # é𝄞\n \
                test \"é\" {\n  a -> 192.0.2.1 tcp 80 is excluded\n }\n}\n";
    let (_kept, dir) = directory(&[("shop.mesh", text), ("script.lua", SCRIPT)]);
    let output = Command::new("nvim")
        .args(["--headless", "--clean", "-n", "-c", "luafile script.lua"])
        .current_dir(&dir)
        .env("MESHC", env!("CARGO_BIN_EXE_meshc"))
        .env("XDG_STATE_HOME", &dir)
        .env("XDG_CACHE_HOME", &dir)
        .output()
        .unwrap();
    let out = std::fs::read_to_string(dir.join("out.json"));
    let out: Value = serde_json::from_str(&out.unwrap_or_else(|_| panic!("{output:?}"))).unwrap();
    assert_eq!(out["problem"], Value::Null);
    assert_eq!(out["wrong"], json!([{ "line": 5, "column": 22, "code": "unknown-name" }]));
    assert_eq!(out["right"], json!([]));
    assert!(out["hover"]["contents"]["value"].as_str().unwrap().contains("1 prefix: `10.0.0.0/8`"), "{out}");
    assert_eq!(out["lines"][4], "    # 𝄞");
    assert_eq!(out["renamed"], json!(["set inside = 10.0.0.0/8", " deny outbound any to inside # é𝄞"]));
    assert_eq!(out["fixed"], " deny outbound any to inside as uid 7");
    assert_eq!(out["lens"]["title"], "holds");
    assert_eq!(out["shown"], "test \"é\": holds");
    assert_eq!(out["folds"][0]["startLine"], 2);
    assert_eq!(out["stopped"], true);
}
