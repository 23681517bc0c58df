//! Which floor every module stands on. What is not here, or in the wrong place, fails the test.

/// A crate: the file of its root, its floors from the top down, and the circles in it that are not opened yet.
pub struct House {
    /// From the top of the repository.
    pub root: &'static str,
    pub floors: &'static [Floor],
    /// Where modules import each other today, by the paths that they begin with. What is opened must be taken out of here.
    pub circles: &'static [&'static str],
}

/// Modules that stand beside each other. One stands where the longest path that it begins with stands; `crate` is what
/// the root defines itself.
pub struct Floor {
    pub name: &'static str,
    /// With spaces between.
    pub modules: &'static str,
    /// Whether none of them may import another of them.
    pub apart: bool,
}

const fn floor(name: &'static str, modules: &'static str) -> Floor {
    Floor { name, modules, apart: false }
}

const fn apart(name: &'static str, modules: &'static str) -> Floor {
    Floor { name, modules, apart: true }
}

pub const HOUSES: &[House] = &[
    House {
        root: "runtime/src/lib.rs",
        floors: &[
            floor("commands", "commands"),
            floor("generation", "generation"),
            floor("members", "members"),
            floor("attach", "attach"),
            floor("maps", "maps"),
            floor("state", "state"),
            floor("what all floors speak of", "runtime drift error instance member owner"),
            floor("system", "system"),
        ],
        circles: &[],
    },
    House {
        root: "cli/src/main.rs",
        floors: &[
            apart("commands", "cmd"),
            floor("what commands share", "agent_client candidate cautions confirmation live plugin"),
            floor("node and policy", "node plan policy program"),
            floor("answers", "places render sidecars"),
            floor("files and the terminal", "args exit failure files heap inventory output text_diff"),
        ],
        circles: &[],
    },
    House {
        root: "node/src/lib.rs",
        floors: &[
            floor("agent", "agent"),
            floor("plugin", "install cni"),
            floor("parts", "wire watch splice admit"),
        ],
        circles: &[],
    },
    House {
        root: "compiler/src/lib.rs",
        floors: &[
            floor("whole programs", "compile diff"),
            floor("passes that people see", "testing explain format print"),
            floor("lowering", "lower"),
            floor("decisions", "analysis decide emit ir"),
            floor("checks", "check"),
            floor("meaning", "resolve question"),
            floor("text", "parse ast"),
            floor("sources", "diag source"),
        ],
        circles: &["decide", "format", "parse::habit parse::message", "resolve"],
    },
    House {
        root: "compiler/hir/src/lib.rs",
        floors: &[floor("regions", "region"), floor("meaning", "item crate"), floor("places", "span")],
        circles: &[],
    },
    House {
        root: "compiler/proof/src/lib.rs",
        floors: &[floor("proof", "prove"), floor("evaluation", "eval"), floor("bounds", "bounds")],
        circles: &["prove"],
    },
    House {
        root: "bpf/src/lib.rs",
        floors: &[
            floor("what programs do, and their header", "header sim"),
            floor("artifacts and images", "artifact membership unpack"),
            floor("tables", "pack tables tree canonical sink"),
            floor("programs and maps", "program map intern item"),
            floor("the interface", "abi"),
            floor("policies", "image selector flow ports prefix table text"),
        ],
        circles: &[],
    },
    House {
        root: "grammar/src/lib.rs",
        floors: &[
            floor("the scanner", "scan"),
            floor("statements", "statement symbol"),
            floor("trees", "tree"),
        ],
        circles: &[],
    },
    House {
        root: "fuzz/src/lib.rs",
        floors: &[floor("laws", "law"), floor("programs", "outline program choice random crate")],
        circles: &[],
    },
    House {
        root: "testbed/src/lib.rs",
        floors: &[floor(
            "all",
            "crate lonely name sweep bpffs cgroup ground netns pair tool town place process task arrival dial server udp wait zero_copy other census fault proxy refuse storage vm raw",
        )],
        circles: &["arrival dial", "cgroup ground name netns sweep", "fault"],
    },
    House {
        root: "testbed/macros/src/lib.rs",
        floors: &[floor("attributes", "crate"), floor("promises", "promise")],
        circles: &[],
    },
];
