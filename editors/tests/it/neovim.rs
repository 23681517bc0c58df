//! The tree-sitter grammar in neovim: the parser as a library, and the queries.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::tools;

const SCRIPT: &str = r#"
local out = {}
local ok, problem = pcall(function()
    vim.opt.runtimepath:prepend(vim.fn.getcwd())
    vim.cmd("edit shop.mesh")
    -- The names of newer versions first.
    if vim.treesitter.language and vim.treesitter.language.add then
        vim.treesitter.language.add("mesh", { path = vim.fn.getcwd() .. "/parser/mesh.so" })
    else
        vim.treesitter.require_language("mesh", vim.fn.getcwd() .. "/parser/mesh.so")
    end
    local parser = vim.treesitter.get_parser(0, "mesh")
    local root = parser:parse()[1]:root()
    local get = vim.treesitter.query and vim.treesitter.query.get or require("vim.treesitter.query").get_query
    local text = vim.treesitter.get_node_text or require("vim.treesitter.query").get_node_text
    out.wrong = root:has_error()
    out.captures = {}
    local query = get("mesh", "highlights")
    for _, match, meta in query:iter_matches(root, 0) do
        for id, nodes in pairs(match) do
            for _, node in ipairs(type(nodes) == "table" and nodes or { nodes }) do
                local row, column = node:start()
                table.insert(out.captures, { row, column, query.captures[id], text(node, 0) })
            end
        end
    end
    out.folds = 0
    for _ in get("mesh", "folds"):iter_captures(root, 0) do out.folds = out.folds + 1 end
    out.others = {}
    for _, name in ipairs({ "indents", "injections", "locals" }) do
        table.insert(out.others, get("mesh", name) ~= nil)
    end
    require("vim.treesitter.highlighter").new(parser)
    vim.api.nvim_buf_set_lines(0, 0, 1, false, { "exempt uid 1, " })
    out.wrong_after = parser:parse()[1]:root():has_error()
    vim.cmd("redraw")
end)
if not ok then out = { problem = tostring(problem) } end
vim.fn.writefile({ vim.fn.json_encode(out) }, "out.json")
vim.cmd("qall!")
"#;

/// The parser as editors load it, which is how all of them compile it.
fn library(to: &Path) {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tree-sitter-mesh/src");
    let output = Command::new("cc")
        .args(["-shared", "-fPIC", "-Os", "-o"])
        .arg(to)
        .arg("-I")
        .arg(&sources)
        .args([sources.join("parser.c"), sources.join("scanner.c")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn neovim_reads_the_parser_and_the_queries() {
    if !tools::have("nvim") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    std::fs::create_dir_all(dir.join("parser")).unwrap();
    std::fs::create_dir_all(dir.join("queries/mesh")).unwrap();
    library(&dir.join("parser/mesh.so"));
    let queries = Path::new(env!("CARGO_MANIFEST_DIR")).join("tree-sitter-mesh/queries");
    for entry in std::fs::read_dir(queries).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), dir.join("queries/mesh").join(entry.file_name())).unwrap();
    }
    let text = "exempt uid 1500\n# meshc: allow(leak)\nmesh shop {\n    deny outbound tcp 25 # é\n}\n";
    std::fs::write(dir.join("shop.mesh"), text).unwrap();
    std::fs::write(dir.join("script.lua"), SCRIPT).unwrap();
    let output = Command::new("nvim")
        .args(["--headless", "--clean", "-n", "-c", "luafile script.lua"])
        .current_dir(dir)
        .env("XDG_STATE_HOME", dir)
        .env("XDG_CACHE_HOME", dir)
        .output()
        .unwrap();
    let out = std::fs::read_to_string(dir.join("out.json")).unwrap_or_else(|_| panic!("{output:?}"));
    let out: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(out["problem"], Value::Null);
    assert_eq!((&out["wrong"], &out["wrong_after"]), (&json!(false), &json!(true)));
    let captures = out["captures"].as_array().unwrap();
    for expected in [
        json!([0, 0, "keyword", "exempt"]),
        json!([0, 7, "property", "uid"]),
        json!([0, 11, "number", "1500"]),
        json!([1, 0, "keyword.directive", "# meshc: allow(leak)"]),
        json!([2, 5, "type", "shop"]),
        json!([3, 4, "function.builtin", "deny"]),
        json!([3, 25, "comment", "# é"]),
    ] {
        assert!(captures.contains(&expected), "{expected} in {captures:?}");
    }
    assert_eq!((&out["folds"], &out["others"]), (&json!(1), &json!([true, true, true])));
}
