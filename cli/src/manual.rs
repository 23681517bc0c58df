//! What help and man pages say of each command beside its options: examples, files, variables, what else to read.

/// How commands end, for all of them.
pub const EXIT: [(u8, &str); 6] = [
    (0, "Done, or equal"),
    (1, "Refused input: errors in the policy, a failed test, an unknown workload"),
    (2, "Wrong usage"),
    (3, "There are differences or drift"),
    (4, "This node cannot: no BPF filesystem, no cgroup v2, missing rights, a kernel that is too old"),
    (
        5,
        "Busy or stale: another command holds the lock, or something else is live than was planned against; try again",
    ),
];

/// A word and what it means.
pub type Row = (&'static str, &'static str);

/// What is said of a command.
pub struct Page {
    /// Command lines, and what each is for.
    pub examples: &'static [Row],
    /// Files that it reads or writes on its own.
    pub files: &'static [Row],
    /// Commands that do something near to it.
    pub see_also: &'static [&'static str],
}

/// Variables that every command reads; those of options are with the options.
pub const ENVIRONMENT: [Row; 2] = [
    ("NO_COLOR", "Where it is set and not empty, nothing is coloured unless `--color always` says so."),
    (
        "COLUMNS",
        "How wide diagnostics are in a pipe, and lines on a terminal that does not say how wide it is.",
    ),
];

const POLICIES: Row = ("*.mesh", "Policies; those of the current directory where no PATH is given.");
const PINS: Row = (
    "/sys/fs/bpf/meshc",
    "Maps, programs and links that are pinned. With --instance NAME: /sys/fs/bpf/meshc-NAME.",
);
const STATE: Row =
    ("/var/lib/meshc", "Kept generations and records. With --instance NAME: /var/lib/meshc-NAME.");
const NODE: &[Row] = &[PINS, STATE];
const SOURCES: &[Row] = &[POLICIES];
const BOTH: &[Row] = &[POLICIES, PINS, STATE];

/// The page of a command; of all of them together by the name `meshc`.
pub fn page(command: &str) -> Page {
    let (examples, files, see_also): (&'static [Row], &'static [Row], &'static [&'static str]) = match command
    {
        "init" => (
            &[
                ("meshc init", "in this directory"),
                ("meshc init policies", "below, with the workflow in the repository's root"),
            ],
            &[
                ("platform.mesh, app.mesh", "First policies."),
                ("compiled.toml", "What they compile to."),
                (
                    ".github/workflows/meshc.yml",
                    "A workflow that checks them, in the root of the git repository.",
                ),
            ],
            &["check", "test", "compile"],
        ),
        "check" => (
            &[
                ("meshc check", "the policies of this directory"),
                ("meshc check --deny warnings --format github", "in a workflow"),
                ("meshc check - < shop.mesh", "from standard input"),
            ],
            SOURCES,
            &["explain-code", "test", "fmt"],
        ),
        "compile" => (
            &[
                ("meshc compile -o compiled.toml", "text for review"),
                ("meshc compile --check -o compiled.toml", "is it up to date?"),
                ("meshc compile --artifact -o shop.meshc", "for `meshc apply`, without sources"),
            ],
            SOURCES,
            &["check", "diff", "show"],
        ),
        "test" => (
            &[
                ("meshc test", "of this directory"),
                ("meshc test --min-coverage 80 shop.mesh", "and most rules are reached"),
            ],
            SOURCES,
            &["check", "explain"],
        ),
        "explain" => (
            &[
                ("meshc explain 'cart -> 10.0.3.9 tcp 3306'", "by the policies here"),
                ("meshc explain shop.mesh 'cart -> 10.0.3.9 tcp 3306'", "by this policy"),
                ("meshc explain --live 'cart -> 10.0.3.9 tcp 3306'", "by what is live"),
            ],
            BOTH,
            &["observe", "test", "diff"],
        ),
        "diff" => (
            &[
                ("meshc diff old.mesh new.mesh", "flows whose verdict changes"),
                ("meshc diff live shop.mesh", "against what is in the kernel"),
                ("meshc diff 11 12", "two kept generations"),
            ],
            NODE,
            &["plan", "explain", "history"],
        ),
        "view" => (
            &[
                ("meshc view -o policy.html", "this directory, as a page"),
                ("meshc view old.mesh new.mesh -o changes.html", "and the flows that change"),
                ("meshc view live -o live.html", "what is in the kernel"),
            ],
            BOTH,
            &["explain", "diff", "show"],
        ),
        "fmt" => (
            &[
                ("meshc fmt", "the policies of this directory"),
                ("meshc fmt --check", "in a workflow"),
                ("meshc fmt - < shop.mesh", "to standard output"),
            ],
            SOURCES,
            &["check"],
        ),
        "import" => (
            &[
                (
                    "kubectl get -A -o yaml deploy,sts,ds,ns,cm | meshc import istio > istio.mesh",
                    "all of a cluster",
                ),
                ("meshc import istio cart.yaml", "one file"),
                ("meshc import istio --report cluster.yaml > istio.mesh", "and its report"),
                ("nft -j list ruleset | meshc import iptables > rules.mesh", "rules that are there"),
            ],
            &[],
            &["check", "test", "fmt"],
        ),
        "lsp" => (&[("meshc lsp", "as an editor starts it")], SOURCES, &["check", "fmt", "explain"]),
        "plan" => (
            &[
                ("meshc plan shop.mesh", "what apply would do"),
                ("meshc plan -o shop.plan shop.mesh", "to apply just this later"),
            ],
            BOTH,
            &["apply", "diff"],
        ),
        "explain-code" => (
            &[("meshc explain-code conflict", "its page"), ("meshc explain-code", "all of them")],
            &[],
            &["check"],
        ),
        "apply" => (
            &[
                ("meshc apply shop.mesh", "on a terminal it asks first"),
                ("meshc apply --confirm-within 2m shop.mesh", "taken back unless confirmed"),
                ("meshc apply --repair shop.mesh", "what drifted is put right"),
            ],
            BOTH,
            &["plan", "confirm", "rollback", "status"],
        ),
        "status" => (
            &[
                ("meshc status", "what is live, and what is wrong"),
                ("meshc status --check -q", "for monitoring: 3 where there is drift"),
            ],
            NODE,
            &["history", "observe", "doctor"],
        ),
        "observe" => (
            &[
                ("meshc observe cart", "what cart opens and gets"),
                ("meshc observe 'any -> cart' --verdict denied", "what is refused there"),
                ("meshc observe --since 5m --top", "who talked to whom"),
            ],
            NODE,
            &["status", "explain"],
        ),
        "pause" => {
            (&[("meshc pause", "connections go straight until `meshc resume`")], NODE, &["resume", "detach"])
        }
        "resume" => (&[("meshc resume", "what was paused decides again")], NODE, &["pause", "status"]),
        "confirm" => (&[("meshc confirm", "the policy that waits stays")], NODE, &["apply", "history"]),
        "history" => (&[("meshc history", "newest first")], NODE, &["rollback", "show", "diff"]),
        "rollback" => (
            &[("meshc rollback", "the policy before"), ("meshc rollback 11", "that of a generation")],
            NODE,
            &["history", "apply"],
        ),
        "restore" => (&[("meshc restore", "as meshc-restore.service does")], NODE, &["rollback", "agent"]),
        "show" => (
            &[("meshc show", "what is live"), ("meshc show 11", "a kept generation")],
            NODE,
            &["history", "compile"],
        ),
        "attach" => (
            &[(
                "meshc attach --netns /run/netns/cart --name cart-7f9 --label app=cart",
                "a member from now on",
            )],
            NODE,
            &["detach", "install-cni", "agent"],
        ),
        "namespace" => (
            &[
                ("meshc namespace shop --label team=shop", "all the labels of its pods"),
                ("meshc namespace", "what the node knows of all"),
            ],
            NODE,
            &["attach", "agent"],
        ),
        "detach" => (
            &[
                ("meshc detach --name cart-7f9 --namespace shop", "one pod"),
                ("meshc detach --all", "nothing is left in the kernel"),
            ],
            NODE,
            &["attach", "pause"],
        ),
        "run" => (
            &[("meshc run --as cart -- curl -sS http://example.com/", "as a member of cart")],
            NODE,
            &["explain", "observe"],
        ),
        "doctor" => (
            &[("meshc doctor", "4 where this node cannot enforce policies by its backend")],
            NODE,
            &["status"],
        ),
        "agent" => (
            &[(
                "meshc agent --policy /etc/meshc/policies --listen 127.0.0.1:9464",
                "as meshc-agent.service does",
            )],
            &[PINS, STATE, ("/etc/meshc/policies", "Where meshc-agent.service looks for policies.")],
            &["apply", "install-cni", "status"],
        ),
        "cni" => (
            &[("CNI_COMMAND=VERSION meshc cni", "as a container runtime calls it")],
            &[PINS, STATE, ("/opt/cni/bin/meshc-cni", "The plugin, which is meshc itself.")],
            &["install-cni", "attach"],
        ),
        "install-cni" => (
            &[
                ("meshc install-cni", "pods that start now are members"),
                ("meshc install-cni --remove", "take it away again"),
            ],
            &[
                ("/etc/cni/net.d", "Configurations of networks; the plugin's entry is added to one."),
                ("/opt/cni/bin/meshc-cni", "The plugin, which is meshc itself."),
            ],
            &["cni", "agent"],
        ),
        "completions" => (
            &[
                ("source <(meshc completions bash)", "in ~/.bashrc"),
                ("source <(meshc completions zsh)", "in ~/.zshrc, after compinit"),
                ("meshc completions fish | source", "in ~/.config/fish/config.fish"),
            ],
            &[],
            &["man"],
        ),
        "man" => (
            &[
                ("meshc man | man -l -", "read it"),
                ("meshc man -o /usr/local/share/man/man1", "install all pages"),
            ],
            &[],
            &["completions"],
        ),
        "version" => (&[("meshc version --format json", "for a bug report")], &[], &["doctor"]),
        "meshc" => (
            &[
                ("meshc init", "a first policy"),
                ("meshc check && meshc test", "is it right?"),
                ("meshc explain 'app -> 10.0.3.9 tcp 5432'", "what happens to a flow?"),
                ("sudo meshc apply", "make it live"),
                ("sudo meshc status", "what is live?"),
            ],
            BOTH,
            &[],
        ),
        _ => (&[], &[], &[]),
    };
    Page { examples, files, see_also }
}
