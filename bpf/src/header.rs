//! Prints the ABI as a C header.

use std::fmt::Write;

use crate::abi::{self, Counter, Field, LAYOUTS, Layout, Way};
use crate::map::{MAPS, MapDef};
use crate::table::{TABLES, Table};

/// `include/mesh_abi.h`, whole.
#[must_use]
pub fn header() -> String {
    let mut out = String::from(
        "/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */\n\
         /* Generated from bpf/src/abi.rs and bpf/src/map.rs. Do not edit; write it anew with\n\
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
    let numbers: &[(&str, u64)] = &[
        ("POLICY_ABI", abi::POLICY_ABI.into()),
        ("FLOW_ABI", abi::FLOW_ABI.into()),
        ("MANIFEST_MAGIC", abi::MANIFEST_MAGIC),
        ("TREE_KEYS", abi::TREE_KEYS as u64),
        ("NARROW_KEYS", abi::NARROW_KEYS as u64),
        ("NARROW_DEPTH", abi::NARROW_DEPTH.into()),
        ("HITS_A_LINE", abi::HITS_A_LINE as u64),
        ("HIT_LINES", abi::HIT_LINES.into()),
        ("HIT_PROBES", abi::HIT_PROBES.into()),
        ("PORT_KEYS", abi::PORT_KEYS as u64),
        ("SPANS_A_LINE", abi::SPANS_A_LINE as u64),
        ("NODES_A_LINE", abi::NODES_A_LINE as u64),
        ("DECISIONS_A_LINE", abi::DECISIONS_A_LINE as u64),
        ("SOURCES_A_LINE", abi::SOURCES_A_LINE as u64),
        ("TREE_DEPTH", abi::TREE_DEPTH.into()),
        ("PORT_DEPTH", abi::PORT_DEPTH.into()),
        ("UP_MAX", abi::UP_MAX.into()),
        ("TOKENS", abi::TOKENS as u64),
        ("TOKEN_FIRST", abi::TOKEN_FIRST.into()),
        ("PEER_GROUPS", abi::PEER_GROUPS as u64),
        ("PEERS_A_GROUP", abi::PEERS_A_GROUP as u64),
        ("PEERS", abi::PEERS as u64),
        ("PEER_AGE", abi::PEER_AGE.into()),
        ("SPOKEN", abi::SPOKEN as u64),
        ("CGROUP_DEPTH", abi::CGROUP_DEPTH.into()),
        ("CGROUP_PATH", abi::CGROUP_PATH as u64),
        ("LISTENER_SLOTS", abi::LISTENER_SLOTS.into()),
        ("PORT_SLOTS", abi::PORT_SLOTS.into()),
        ("ROOM_LISTENERS", abi::ROOM_LISTENERS.into()),
        ("ROOM_PLACES", abi::ROOM_PLACES.into()),
        ("ROOM_UNBOUNDED", abi::ROOM_UNBOUNDED.into()),
        ("ROOM_CONNECTIONS", abi::ROOM_CONNECTIONS.into()),
        ("ROOM_CONNECTIONS_ANY", abi::ROOM_CONNECTIONS_ANY.into()),
        ("ROOM_CONNECTIONS_USER", abi::ROOM_CONNECTIONS_USER.into()),
        ("ROOM_OF_LISTENERS", abi::ROOM_OF_LISTENERS.into()),
        ("ROOM_OF_PLACES", abi::ROOM_OF_PLACES.into()),
        ("ROOM_OF_HANDOVER", abi::ROOM_OF_HANDOVER.into()),
        ("ROOM_OF_EXEMPT", abi::ROOM_OF_EXEMPT.into()),
        ("ROOM_BY_USER", abi::ROOM_BY_USER.into()),
        ("LISTENING_COUNTED", abi::LISTENING_COUNTED.into()),
        ("LISTENING_MISSED", abi::LISTENING_MISSED.into()),
        ("LISTENING_PLACED", abi::LISTENING_PLACED.into()),
        ("SPAN_SUBTREE", abi::SPAN_SUBTREE.into()),
        ("NO_PROFILE", abi::NO_PROFILE.into()),
        ("NO_PARENT", abi::NO_PARENT.into()),
        ("VERDICT_EXCLUDED", abi::VERDICT_EXCLUDED.into()),
        ("VERDICT_REDIRECTED", abi::VERDICT_REDIRECTED.into()),
        ("VERDICT_DENIED", abi::VERDICT_DENIED.into()),
        ("VERDICT_ACCELERATED", abi::VERDICT_ACCELERATED.into()),
        ("VERDICT_TRANSPARENT", abi::VERDICT_TRANSPARENT.into()),
        ("VERDICT_BY_PORT", abi::VERDICT_BY_PORT.into()),
        ("OWN_MULTIPLIER", abi::OWN_MULTIPLIER.into()),
        ("PROFILE_MISSING_SIDECAR_REFUSE", abi::PROFILE_MISSING_SIDECAR_REFUSE.into()),
        ("PROFILE_FAILED_ATTACH_REFUSE", abi::PROFILE_FAILED_ATTACH_REFUSE.into()),
        ("PROFILE_EXEMPT_CGROUPS", abi::PROFILE_EXEMPT_CGROUPS.into()),
        ("PROFILE_INBOUND", abi::PROFILE_INBOUND.into()),
        ("PROFILE_INBOUND_RULES", abi::PROFILE_INBOUND_RULES.into()),
        ("PROFILE_ANSWERS", abi::PROFILE_ANSWERS.into()),
        ("PROFILE_SOME_ANSWER", abi::PROFILE_SOME_ANSWER.into()),
        ("FAMILY_ANY", abi::FAMILY_ANY.into()),
        ("FAMILY_V4", abi::FAMILY_V4.into()),
        ("FAMILY_V6", abi::FAMILY_V6.into()),
        ("FLOW_TRANSPARENT", abi::FLOW_TRANSPARENT.into()),
        ("FLOW_MAPPED", abi::FLOW_MAPPED.into()),
        ("FLOW_EXEMPT", abi::FLOW_EXEMPT.into()),
        ("FLOW_DENIED", abi::FLOW_DENIED.into()),
        ("FLOW_BOUND", abi::FLOW_BOUND.into()),
        ("FLOW_BY_USER", abi::FLOW_BY_USER.into()),
        ("MEMBER_SPREADS", abi::MEMBER_SPREADS.into()),
        ("SPREAD_FIRST", abi::SPREAD_FIRST.into()),
        ("SPREAD_COUNT", abi::SPREAD_COUNT.into()),
        ("REFUSING_PORT", abi::REFUSING_PORT.into()),
        ("WATCHES", abi::WATCHES as u64),
        ("WATCH_EXEMPT", abi::WATCH_EXEMPT.into()),
        ("WATCH_UID", abi::WATCH_UID.into()),
        ("WATCH_NAME", abi::WATCH_NAME.into()),
        ("ENTRIES", abi::ENTRIES as u64),
        ("FORM_LOCAL", abi::FORM_LOCAL.into()),
        ("FORM_PEERS", abi::FORM_PEERS.into()),
        ("SPLICES_NOT", abi::SPLICES_NOT.into()),
        ("SPLICES_ELSEWHERE", abi::SPLICES_ELSEWHERE.into()),
        ("SPLICES", abi::SPLICES.into()),
        ("SPLICES_REFUSED", abi::SPLICES_REFUSED.into()),
        ("SPLICES_ALONE", abi::SPLICES_ALONE.into()),
        ("READS_ALL", abi::READS_ALL.into()),
        ("READS_BELOW_MARK", abi::READS_BELOW_MARK.into()),
        ("READS_POLLING", abi::READS_POLLING.into()),
        ("VAIN_MANY", abi::VAIN_MANY.into()),
        ("VAIN_FEW", abi::VAIN_FEW.into()),
        ("MESSAGE_SIZE", abi::MESSAGE_SIZE.into()),
        ("WAITS_SPLICES", abi::WAITS_SPLICES.into()),
        ("WAITS_COUNTS", abi::WAITS_COUNTS.into()),
        ("WAYS", abi::WAYS as u64),
        ("TABLES", TABLES as u64),
        ("HASH_K1", crate::item::K1),
        ("HASH_K2", crate::item::K2),
    ];
    for (name, value) in numbers {
        let suffix = if *value > u64::from(u32::MAX) { "ULL" } else { "U" };
        let _ = writeln!(out, "#define MESH_{name} {value:#x}{suffix}");
    }
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
        "\n/* The maps. A program file that defines MESH_MAPS before it includes this gets them. */\n\
         #ifdef MESH_MAPS\n",
    );
    for map in MAPS {
        let _ = writeln!(out, "\n/* {} */", map.doc);
        definition(out, map);
    }
    out.push_str("\n#endif\n");
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
