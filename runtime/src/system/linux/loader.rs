//! Programs as the compiler left them, made ready for this kernel and loaded into it.
//!
//! aya-obj reads the object and patches its instructions; maps are those of the pins, and links are ours.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use aya_obj::Map;
use aya_obj::btf::BtfFeatures;
use aya_obj::generated::{BPF_F_RDONLY_PROG, bpf_prog_type};
use mesh_bpf::map::{MAPS, MapKind};
use mesh_bpf::program::Hook;

use super::btf_subset::{self, Traced, Types};
use super::step::{at, on};
use super::syscall;
use crate::system::{SysError, SysResult};

/// Opens the maps of an instance, by name.
pub(super) type Maps<'a> = &'a dyn Fn(&str) -> SysResult<OwnedFd>;

/// What every kernel from 6.1 on knows of type information: all.
const FEATURES: BtfFeatures = BtfFeatures::new(true, true, true, true, true, true, true, true);
/// Bytes for what the verifier says of a program that it refuses.
const LOG: usize = 16 << 20;

/// An object whose programs can be loaded.
pub(super) struct Object {
    object: aya_obj::Object,
    types: OwnedFd,
    /// Of what programs of tracing are for.
    ids: BTreeMap<Traced, u32>,
    /// As long as its programs refer to them.
    _maps: Vec<OwnedFd>,
}

fn parse(programs: &[u8]) -> SysResult<aya_obj::Object> {
    aya_obj::Object::parse(programs).map_err(|error| damaged("the BPF object", &error))
}

fn damaged(what: &str, error: &dyn std::error::Error) -> SysError {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text = format!("{text}: {error}");
        next = error.source();
    }
    SysError { log: text.clone(), ..SysError::new("loading", what, io::Error::other(text)) }
}

impl Object {
    /// Makes it ready. `targets` are what its programs of tracing are for.
    pub(super) fn open(programs: &[u8], maps: Maps<'_>, targets: &[Traced]) -> SysResult<Self> {
        let mut object = parse(programs)?;
        let error = |error: &dyn std::error::Error| damaged("the BPF object", error);
        let own = object.fixup_and_sanitize_btf(&FEATURES).map_err(|cause| error(&cause))?;
        let own = own.map(|own| own.to_bytes()).unwrap_or_default();
        let mut ids = BTreeMap::new();
        if object.has_btf_relocations() || !targets.is_empty() {
            let structures = on("loading", "the types of the BPF object", btf_subset::structures(&own))?;
            let raw = at("reading", Path::new(btf_subset::PLACE), fs::read(btf_subset::PLACE))?;
            let picked =
                at("reading", Path::new(btf_subset::PLACE), Types::pick(&raw, &structures, targets))?;
            object.relocate_btf(&picked.btf).map_err(|cause| error(&cause))?;
            ids = picked.ids;
        }
        let own = on("loading", "the types of the BPF object", syscall::load_btf(&own))?;
        let named: Vec<(String, Map)> = object.maps.drain().collect();
        let mut opened = Vec::new();
        for (name, map) in &named {
            opened.push(open_map(maps, name, map)?);
        }
        let functions: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
        let found = named.iter().zip(&opened).map(|((name, map), fd)| (name.as_str(), fd.as_raw_fd(), map));
        object.relocate_maps(found, &functions).map_err(|cause| error(&cause))?;
        object.relocate_calls(&functions).map_err(|cause| error(&cause))?;
        Ok(Self { object, types: own, ids, _maps: opened })
    }

    /// Loads many of its programs, on all processors: most of the time is the verifier's.
    pub(super) fn load_all<D: Sync>(
        &self,
        defs: &'static [D],
        load: impl Fn(&Self, &D) -> SysResult<OwnedFd> + Sync,
    ) -> Vec<(&'static D, SysResult<OwnedFd>)> {
        let next = AtomicUsize::new(0);
        let work = || {
            let mut loaded = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(def) = defs.get(index) else { return loaded };
                loaded.push((index, def, load(self, def)));
            }
        };
        let workers = std::thread::available_parallelism().map_or(1, usize::from).min(defs.len());
        let mut loaded = std::thread::scope(|scope| {
            // Where no more threads can be had, this one does it all.
            let start = |_| std::thread::Builder::new().spawn_scoped(scope, work).ok();
            let others: Vec<_> = (1..workers).map_while(start).collect();
            let mut loaded = work();
            loaded.extend(others.into_iter().filter_map(|other| other.join().ok()).flatten());
            loaded
        });
        loaded.sort_by_key(|(index, ..)| *index);
        loaded.into_iter().map(|(_, def, program)| (def, program)).collect()
    }

    /// Loads one of its programs; `target` is what one of tracing is for.
    pub(super) fn load(&self, name: &str, hook: Hook, target: Option<Traced>) -> SysResult<OwnedFd> {
        let missing_type = |target: Traced| {
            SysError::new(
                "loading",
                name,
                io::Error::other(format!("this kernel has no `{}`", target.named().0)),
            )
        };
        let id = |target| self.ids.get(&target).copied().ok_or_else(|| missing_type(target));
        let target = target.map_or(Ok(0), id)?;
        let function = self.object.programs.get(name).map(aya_obj::Program::function_key);
        let function = function.and_then(|key| self.object.functions.get(&key));
        let missing = || SysError::new("loading", name, io::Error::other("it is not in the BPF object"));
        let function = function.ok_or_else(missing)?;
        let (functions, lines) = (function.func_info.func_info_bytes(), function.line_info.line_info_bytes());
        let (kind, hook) = kind(hook);
        let program = syscall::NewProgram {
            name,
            kind,
            hook,
            code: &function.instructions,
            types: Some(syscall::ProgramTypes {
                types: self.types.as_fd(),
                functions: &functions,
                lines: &lines,
                target,
            }),
        };
        let first = match syscall::load_program(&program, &mut []) {
            Ok(loaded) => return Ok(loaded),
            Err(error) => error,
        };
        // Once more for what the verifier says.
        let mut log = vec![0; LOG];
        match syscall::load_program(&program, &mut log) {
            Ok(loaded) => Ok(loaded),
            Err(_) => {
                let said = log.split(|&byte| byte == 0).next().unwrap_or_default();
                let log = format!("{first}: {}", String::from_utf8_lossy(said));
                Err(SysError { log, ..SysError::new("loading", name, first) })
            }
        }
    }
}

/// A map of the instance, or one that the object has of its own: constants.
fn open_map(maps: Maps<'_>, name: &str, map: &Map) -> SysResult<OwnedFd> {
    if MAPS.iter().any(|def| def.name == name) {
        return maps(name);
    }
    let constants = map.data();
    let made = syscall::create_map(syscall::NewMap {
        name: name.trim_start_matches('.').split('.').next().unwrap_or_default(),
        kind: map.map_type(),
        key: map.key_size(),
        value: map.value_size(),
        capacity: map.max_entries(),
        flags: map.map_flags(),
        inner: None,
        types: None,
    });
    let made = on("creating the map", name, made)?;
    if map.map_type() == MapKind::Array as u32
        && map.map_flags() & BPF_F_RDONLY_PROG != 0
        && !constants.is_empty()
    {
        on("writing the map", name, syscall::update(made.as_fd(), &0u32.to_ne_bytes(), constants))?;
        on("freezing the map", name, syscall::freeze(made.as_fd()))?;
    }
    Ok(made)
}

/// `enum bpf_prog_type` of the programs of a hook, and the hook that they are loaded for; 0 where the kernel does not
/// ask.
pub(super) const fn kind(hook: Hook) -> (u32, u32) {
    use bpf_prog_type as kind;
    let (kind, asks) = match hook {
        Hook::Ingress | Hook::Egress => (kind::BPF_PROG_TYPE_CGROUP_SKB, true),
        Hook::SockOps => (kind::BPF_PROG_TYPE_SOCK_OPS, false),
        Hook::Message => (kind::BPF_PROG_TYPE_SK_MSG, false),
        Hook::GetSockOpt => (kind::BPF_PROG_TYPE_CGROUP_SOCKOPT, true),
        Hook::Tracepoint | Hook::Iterator => (kind::BPF_PROG_TYPE_TRACING, true),
        Hook::Security => (kind::BPF_PROG_TYPE_LSM, true),
        Hook::SkLookup => (kind::BPF_PROG_TYPE_SK_LOOKUP, true),
        Hook::TcxIngress => (kind::BPF_PROG_TYPE_SCHED_CLS, false),
        _ => (kind::BPF_PROG_TYPE_CGROUP_SOCK_ADDR, true),
    };
    (kind as u32, if asks { hook as u32 } else { 0 })
}

/// What a program of tracing is for; none where it is of another kind.
pub(super) const fn target(hook: Hook, name: &'static str) -> Option<Traced> {
    match hook {
        Hook::Tracepoint => Some(Traced::Tracepoint(name)),
        Hook::Iterator => Some(Traced::Iterator(name)),
        Hook::Security => Some(Traced::Security(name)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use aya_obj::generated::bpf_insn;
    use mesh_bpf::program::{ENTRY, Inbound, OBJECT, PROBES};

    const JUMPS: [u8; 2] = [0x05, 0x06];
    const CALL: u8 = 0x80;
    const EXIT: u8 = 0x90;
    const ALWAYS: u8 = 0x00;

    /// Where an instruction that is no jump falls into a loop that it is a part of. The kernel walks a program in this
    /// order too (`check_cfg` in kernel/bpf/verifier.c): what is on its way already is a loop, and before 6.3 only a jump
    /// may close one. Clang puts the step of a loop with `continue` there.
    fn closed_by_falling(code: &[bpf_insn]) -> Option<usize> {
        let mut seen = vec![false; code.len()];
        let mut on_the_way = vec![false; code.len()];
        // An instruction, and which of those that follow it is next.
        let mut way = vec![(0_usize, 0)];
        on_the_way[0] = true;
        while let Some((at, next)) = way.last_mut() {
            let (here, insn) = (*at, &code[*at]);
            let (is_jump, operation) = (JUMPS.contains(&(insn.code & 7)), insn.code & 0xf0);
            // Of other instructions, the offset is one into memory.
            let target = here.wrapping_add(1).wrapping_add_signed(insn.off.into());
            let follow = match (is_jump, operation) {
                (true, EXIT) => vec![],
                (true, ALWAYS) => vec![(target, true)],
                (false, _) | (true, CALL) => vec![(here + 1, false)],
                (true, _) => vec![(here + 1, true), (target, true)],
            };
            let step = follow.get(*next).copied();
            *next += 1;
            let Some((to, by_jump)) = step else {
                on_the_way[here] = false;
                way.pop();
                continue;
            };
            if on_the_way[to] && !by_jump {
                return Some(here);
            }
            if !seen[to] {
                seen[to] = true;
                on_the_way[to] = true;
                way.push((to, 0));
            }
        }
        None
    }

    #[test]
    fn no_loop_is_closed_in_a_way_that_older_verifiers_refuse() {
        let mut functions = 0;
        for bytes in [OBJECT, Inbound::SkLookup.object(), Inbound::Tc.object(), ENTRY, PROBES] {
            let object = aya_obj::Object::parse(bytes).unwrap();
            for function in object.functions.values() {
                functions += 1;
                assert_eq!(closed_by_falling(&function.instructions), None, "{}", function.name);
            }
        }
        assert!(functions > 40, "{functions}");
    }

    #[test]
    fn programs_that_accelerate_are_only_in_builds_with_acceleration() {
        let object = aya_obj::Object::parse(OBJECT).unwrap();
        for name in
            ["mesh_msg", "mesh_taken", "mesh_received", "mesh_may_read", "mesh_unread", "mesh_release"]
        {
            assert_eq!(object.programs.contains_key(name), cfg!(feature = "acceleration"), "{name}");
        }
        assert!(object.programs.contains_key("mesh_sockops"));
    }
}
