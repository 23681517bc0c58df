//! Prints the ABI as a C header.

use std::fmt::Write;

use crate::abi::{CONSTANTS, Constant, Counter, Field, LAYOUTS, Layout, Way};
use crate::map::{MAPS, MapDef};
use crate::table::{TABLES, Table};

/// `include/mesh_abi.h`, whole.
#[must_use]
pub fn header() -> String {
    let mut out = String::from(
        "/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */\n\
         /* Generated from bpf/src/abi.rs and bpf/src/map.rs. Do not edit; rewrite it with\n\
         \x20*   cargo run -p mesh-bpf --example header > bpf/include/mesh_abi.h\n\
         \x20*/\n#pragma once\n\n",
    );
    constants(&mut out);
    for layout in LAYOUTS {
        structure(&mut out, layout);
    }
    maps(&mut out);
    out
}

fn constants(out: &mut String) {
    for Constant { name, value, doc } in CONSTANTS {
        define(out, name, *value, doc);
    }
    define(out, "TABLES", TABLES as u64, &[" How many tables a slot has."]);
    define(out, "HASH_K1", crate::item::K1, &[]);
    define(out, "HASH_K2", crate::item::K2, &[]);
    out.push('\n');
    for table in Table::ALL {
        let _ = writeln!(out, "#define MESH_TABLE_{} {}", table.word().to_uppercase(), table as u32);
    }
    out.push_str("\nenum mesh_counter {\n");
    for &counter in Counter::ALL {
        let doc = counter.doc().join(" ");
        let _ = writeln!(out, "\tMESH_COUNT_{}, /*{doc} */", counter.word().to_uppercase());
    }
    out.push_str("};\n\nenum mesh_way {\n");
    for &way in Way::ALL {
        let doc = way.doc().join(" ");
        let _ = writeln!(out, "\tMESH_WAY_{}, /*{doc} */", way.word().to_uppercase());
    }
    out.push_str("};\n");
}

fn define(out: &mut String, name: &str, value: u64, doc: &[&str]) {
    comment(out, "", doc);
    let suffix = if value > u64::from(u32::MAX) { "ULL" } else { "U" };
    let _ = writeln!(out, "#define MESH_{name} {value:#x}{suffix}");
}

fn structure(out: &mut String, layout: &Layout) {
    out.push('\n');
    comment(out, "", layout.doc);
    let _ = writeln!(out, "struct {} {{", layout.c_name);
    for field in layout.fields {
        comment(out, "\t", field.doc);
        let Field { ty, name, array, .. } = field;
        let _ = writeln!(out, "\t{ty} {name}{array};");
    }
    out.push_str("};\n");
    let _ = writeln!(
        out,
        "_Static_assert(sizeof(struct {}) == {}, \"{}\");",
        layout.c_name, layout.size, layout.c_name
    );
    for Field { name, offset, .. } in layout.fields {
        let _ = writeln!(
            out,
            "_Static_assert(__builtin_offsetof(struct {}, {name}) == {offset}, \"{name}\");",
            layout.c_name
        );
    }
}

fn comment(out: &mut String, indent: &str, lines: &[&str]) {
    match lines {
        [] => {}
        [line] => {
            let _ = writeln!(out, "{indent}/*{line} */");
        }
        [first, rest @ ..] => {
            let _ = writeln!(out, "{indent}/*{first}");
            for line in rest {
                let _ = writeln!(out, "{indent} *{line}");
            }
            let _ = writeln!(out, "{indent} */");
        }
    }
}

fn maps(out: &mut String) {
    out.push_str(
        "\n/* The maps. A program file gets all of them that defines MESH_MAPS before it includes this, else those of which\n\
         \x20* it defines the names, as MESH_MAP_CONTROL.\n\
         \x20*/\n",
    );
    for map in MAPS {
        let name = map.name.to_uppercase();
        let _ = writeln!(out, "\n/* {} */", map.doc);
        let _ = writeln!(out, "#if defined(MESH_MAPS) || defined(MESH_MAP_{name})");
        definition(out, map);
        out.push_str("#endif\n");
    }
}

fn definition(out: &mut String, map: &MapDef) {
    out.push_str("struct {\n");
    body(out, "\t", map);
    if let Some(inner) = map.inner {
        out.push_str("\t__array(values, struct {\n");
        body(out, "\t\t", inner);
        out.push_str("\t});\n");
    }
    let _ = writeln!(out, "}} {} SEC(\".maps\");", map.name);
}

fn body(out: &mut String, indent: &str, map: &MapDef) {
    let _ = writeln!(out, "{indent}__uint(type, {});", map.kind.c_name());
    if map.capacity > 0 {
        let _ = writeln!(out, "{indent}__uint(max_entries, {});", map.capacity);
    }
    if map.flags > 0 {
        let _ = writeln!(out, "{indent}__uint(map_flags, {:#x});", map.flags);
    }
    match map.c_types {
        Some((key, value)) => {
            let _ = writeln!(out, "{indent}__type(key, {key});\n{indent}__type(value, {value});");
        }
        None if map.key > 0 => {
            let _ = writeln!(
                out,
                "{indent}__uint(key_size, {});\n{indent}__uint(value_size, {});",
                map.key, map.value
            );
        }
        None => {}
    }
}

#[cfg(test)]
mod tests {
    #[test]
    #[expect(clippy::disallowed_methods, reason = "the test reads files")]
    fn the_committed_header_is_fresh() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/include/mesh_abi.h");
        let committed = std::fs::read_to_string(path).unwrap();
        assert!(
            committed == super::header(),
            "include/mesh_abi.h is stale: cargo run -p mesh-bpf --example header > bpf/include/mesh_abi.h"
        );
    }
}
