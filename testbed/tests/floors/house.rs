//! Which floor every module stands on. What is not here, or in the wrong place, fails the test.

/// A crate: the file of its root, and its floors from the top down.
pub struct House {
    /// From the top of the repository.
    pub root: &'static str,
    pub floors: &'static [Floor],
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
            floor("generation", "generation rulesets"),
            floor("members", "members"),
            floor("attach", "attach acceleration"),
            floor("maps", "maps"),
            floor("state", "state"),
            floor(
                "what all floors speak of",
                "runtime drift error instance member node owner stuck_reader warning",
            ),
            floor("system", "system"),
        ],
    },
    House {
        root: "cli/src/main.rs",
        floors: &[
            apart("commands", "cmd"),
            floor(
                "what commands share",
                "agent_client candidate completion confirmation consent given live page plugin web",
            ),
            floor("node and policy", "node plan policy program"),
            floor("answers", "cautions places render sidecars"),
            floor(
                "files and the terminal",
                "args exit failure files github heap inventory manual output roots text_diff tint version wrap",
            ),
        ],
    },
    House {
        root: "node/src/lib.rs",
        floors: &[
            floor("agent", "agent"),
            floor("plugin", "install cni"),
            floor("parts", "cluster wire watch splice admit"),
        ],
    },
    House {
        root: "lsp/src/lib.rs",
        floors: &[
            floor("the loop", "server"),
            floor("answers", "answer"),
            floor("programs", "program documents"),
            floor("the protocol and the machine", "host text uri"),
        ],
    },
    House {
        root: "view/src/lib.rs",
        floors: &[
            floor("the page", "page"),
            floor("its data", "columns model"),
            floor("rules", "rules"),
            floor("numbers", "numbers"),
            floor("what it is made of", "crate"),
        ],
    },
    House {
        root: "import/src/lib.rs",
        floors: &[
            floor("policies", "policy"),
            floor("meshes", "origin"),
            floor("settings", "settings"),
            floor("what a mesh does", "chain kube"),
            floor("text", "value yaml"),
        ],
    },
    House {
        root: "compiler/src/lib.rs",
        floors: &[
            floor("whole programs", "compile diff"),
            floor("passes that people see", "testing explain format print"),
            floor("lowering", "lower"),
            floor("decisions", "analysis decide emit ir"),
            floor("checks", "check"),
            floor("questions", "asked question"),
            floor("meaning", "resolve same"),
            floor("text", "parse ast"),
            floor("sources", "diag source"),
        ],
    },
    House {
        root: "compiler/hir/src/lib.rs",
        floors: &[floor("regions", "region"), floor("meaning", "item crate"), floor("places", "span")],
    },
    House {
        root: "compiler/proof/src/lib.rs",
        floors: &[floor("proof", "prove"), floor("evaluation", "eval"), floor("bounds", "bounds")],
    },
    House {
        root: "bpf/src/lib.rs",
        floors: &[
            floor("what programs do, and their header", "header sim"),
            floor("artifacts and images", "artifact binding membership unpack"),
            floor("tables", "pack classes tables tree canonical sink"),
            floor("programs and maps", "program accelerator map intern item"),
            floor("the interface", "abi"),
            floor("policies", "image selector flow ports prefix table text"),
        ],
    },
    House {
        root: "nft/src/lib.rs",
        floors: &[
            floor("rulesets, made and proved", "lower prove"),
            floor("forms of a ruleset, and what it decides", "batch text judge"),
            floor("what is other than with programs", "difference unsupported"),
            floor("messages", "decode request encode"),
            floor("what is written, for whom", "ruleset held marker scene"),
        ],
    },
    House {
        root: "grammar/src/lib.rs",
        floors: &[
            floor("the scanner", "scan"),
            floor("statements", "statement symbol"),
            floor("trees", "tree"),
        ],
    },
    House {
        root: "fuzz/src/lib.rs",
        floors: &[
            floor("laws", "law"),
            floor("programs", "outline program cluster ruleset choice random crate"),
        ],
    },
    House { root: "editors/src/lib.rs", floors: &[floor("words", "words crate"), floor("files", "files")] },
    House { root: "editors/tree-sitter-mesh/src/lib.rs", floors: &[floor("the grammar", "crate")] },
    House {
        root: "testbed/src/lib.rs",
        floors: &[floor(
            "all",
            "crate lonely name sweep bpffs cgroup ground netns pair terminal tool town place process task arrival dial errno mounts server udp wait zero_copy other census fault netfilter proxy refuse storage vm raw",
        )],
    },
    House {
        root: "testbed/macros/src/lib.rs",
        floors: &[floor("attributes", "crate"), floor("promises", "promise")],
    },
];
