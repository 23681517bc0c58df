//! Help, man pages, version and completion: what a person at a shell meets first.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Command, Output};

fn meshc(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_meshc")).env("COLUMNS", "80").args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Commands that help lists.
fn commands() -> Vec<String> {
    let help = text(&meshc(&["--help"]).stdout);
    let listed =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let begins = listed.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = begins.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help");
    names.map(str::to_owned).collect()
}

/// Command lines of the examples of a help, without what they are for.
fn examples(help: &str) -> Vec<String> {
    let lines =
        help.lines().skip_while(|line| *line != "Examples:").skip(1).take_while(|line| !line.is_empty());
    let lines = lines.filter(|line| line.starts_with("  ") && !line.trim().starts_with('#'));
    lines.map(|line| line.split("  # ").next().unwrap_or_default().trim().to_owned()).collect()
}

#[test]
fn every_help_has_an_example_and_ends_with_the_instance() {
    for command in commands() {
        let help = text(&meshc(&[&command, "--help"]).stdout);
        assert!(!examples(&help).is_empty(), "{help}");
        let titles: Vec<&str> =
            help.lines().filter(|line| line.ends_with(':') && !line.starts_with(' ')).collect();
        let last = if titles.contains(&"Instance:") {
            &["Output:", "Instance:", "Examples:"][..]
        } else {
            &["Output:", "Examples:"]
        };
        assert!(titles.ends_with(last), "{command}: {titles:?}");
        let wide: Vec<&str> = help.lines().filter(|line| line.chars().count() > 80).collect();
        let examples = examples(&help);
        assert!(wide.iter().all(|line| examples.contains(&line.trim().to_owned())), "{command}: {wide:#?}");
    }
}

#[test]
fn every_example_is_a_command_line() {
    for command in commands() {
        for line in examples(&text(&meshc(&[&command, "--help"]).stdout)) {
            // With `--help` at its end a line is read as far as that, and nothing is done.
            let (_, line) = line.split_once("meshc ").unwrap_or_else(|| panic!("{command}: `{line}`"));
            let line = line
                .split([')', '|', '<'])
                .next()
                .unwrap()
                .split(" > ")
                .next()
                .unwrap()
                .split(" -- ")
                .next()
                .unwrap();
            let asked = format!("'{}' {line} --help", env!("CARGO_BIN_EXE_meshc"));
            let asked = Command::new("sh").args(["-c", &asked]).output().unwrap();
            assert!(asked.status.success(), "{line}: {}", text(&asked.stderr));
            let options = line.split_whitespace().filter(|word| word.starts_with("--"));
            let help = text(&asked.stdout);
            for option in options {
                assert!(help.contains(option), "{line}: no {option} in\n{help}");
            }
        }
    }
}

#[test]
fn man_pages_say_more_than_the_options() {
    let dir = tempfile::tempdir().unwrap();
    assert!(meshc(&["man", "-q", "-o", dir.path().to_str().unwrap()]).status.success());
    let names = commands();
    for name in names.iter().map(|name| format!("meshc-{name}")).chain(["meshc".to_owned()]) {
        let page = std::fs::read_to_string(dir.path().join(format!("{name}.1"))).unwrap();
        for section in
            ["NAME", "SYNOPSIS", "\"EXIT STATUS\"", "ENVIRONMENT", "EXAMPLES", "\"SEE ALSO\"", "VERSION"]
        {
            assert!(page.contains(&format!("\n.SH {section}\n")), "{name}: no {section}");
        }
        // What it points at is there.
        let (_, after) = page.split_once(".SH \"SEE ALSO\"\n").unwrap();
        for other in after.lines().next().unwrap().split(", ").filter_map(|other| other.strip_suffix("(1)")) {
            let other = other.replace("\\-", "-");
            let other = other.rsplit(' ').next().unwrap().to_owned();
            assert!(dir.path().join(format!("{other}.1")).exists(), "{name} points at {other}");
        }
    }
    let apply = std::fs::read_to_string(dir.path().join("meshc-apply.1")).unwrap();
    for word in [".SH FILES", "/var/lib/meshc", "MESHC_STATE", "apply \\-\\-confirm\\-within 2m shop.mesh"] {
        assert!(apply.contains(word), "{word}");
    }
}

#[test]
fn version_says_the_same_in_every_form() {
    let line = text(&meshc(&["--version"]).stdout);
    assert!(line.starts_with(concat!("meshc ", env!("CARGO_PKG_VERSION"))), "{line}");
    assert!(text(&meshc(&["version"]).stdout).starts_with(&line));
    let answer: serde_json::Value =
        serde_json::from_slice(&meshc(&["version", "--format", "json"]).stdout).unwrap();
    assert_eq!(answer["version"], env!("CARGO_PKG_VERSION"));
    let commit = answer["commit"].as_str();
    assert_eq!(commit.is_some(), line.contains('('), "{answer} {line}");
    assert!(commit.is_none_or(|commit| line.contains(commit.get(..12).unwrap_or(commit))), "{answer} {line}");
}

/// What the build script tells the compiler, in a directory with it, for a profile and variables.
fn built(dir: &Path, script: &Path, variables: &[(&str, &str)]) -> String {
    let mut command = Command::new(script);
    command
        .current_dir(dir)
        .env_remove("MESHC_COMMIT")
        .env("PROFILE", "release")
        .envs(variables.iter().copied());
    let said = text(&command.output().unwrap().stdout);
    let from = said.lines().find_map(|line| line.strip_prefix("cargo:rustc-env=MESHC_BUILT_FROM="));
    from.unwrap().trim().to_owned()
}

#[test]
fn the_commit_is_that_of_the_sources_and_says_where_they_were_changed() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("cli");
    std::fs::create_dir(&dir).unwrap();
    let script = root.path().join("script");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("build.rs");
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let compiled =
        Command::new(rustc).args(["--edition", "2024", "-o"]).arg(&script).arg(&source).status().unwrap();
    assert!(compiled.success());
    std::fs::copy(&source, dir.join("build.rs")).unwrap();
    let release = || built(&dir, &script, &[]);
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        let done = command
            .current_dir(&dir)
            .args(["-c", "user.name=n", "-c", "user.email=e"])
            .args(arguments)
            .output()
            .unwrap();
        assert!(done.status.success(), "{arguments:?}: {}", text(&done.stderr));
        text(&done.stdout).trim().to_owned()
    };
    assert_eq!(release(), "", "no repository");
    assert_eq!(built(&dir, &script, &[("MESHC_COMMIT", "0123456789abcdef")]), "(0123456789ab)");
    assert_eq!(built(&dir, &script, &[("MESHC_COMMIT", "0123456789abcdef-dirty")]), "(0123456789ab-dirty)");
    std::fs::write(dir.join(".cargo_vcs_info.json"), "{\"git\": {\"sha1\": \"fedcba9876543210\"}}").unwrap();
    assert_eq!(release(), "(fedcba987654)");
    std::fs::remove_file(dir.join(".cargo_vcs_info.json")).unwrap();

    git(&["init", "-q", ".."]);
    git(&["commit", "-q", "--allow-empty", "-m", "somebody else's"]);
    assert_eq!(release(), "", "a repository that the sources are not of");
    git(&["add", "build.rs"]);
    git(&["commit", "-q", "-m", "ours"]);
    let commit = git(&["rev-parse", "HEAD"]);
    let short = commit.get(..12).unwrap();
    assert_eq!(release(), format!("({short})"));
    assert_eq!(built(&dir, &script, &[("PROFILE", "debug")]), format!("({short}, debug build)"));
    std::fs::write(dir.join("build.rs"), "// changed").unwrap();
    assert_eq!(release(), format!("({short}-dirty)"));
    assert_eq!(built(&dir, &script, &[("MESHC_COMMIT", "abc")]), "(abc)", "who packages it knows");
}

/// What a shell is offered for the last of these words.
fn offered(dir: &Path, words: &[&str]) -> Vec<String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshc"));
    command.current_dir(dir).env("MESHC_COMPLETE", "fish").env("MESHC_STATE", dir.join("nowhere"));
    let answer = command.args(["--", "meshc"]).args(words).output().unwrap();
    assert!(answer.status.success() && answer.stderr.is_empty(), "{words:?}: {}", text(&answer.stderr));
    let lines = text(&answer.stdout);
    lines.lines().map(|line| line.split('\t').next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn names_of_policies_and_codes_are_completed() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("shop.mesh"), "mesh shop { workload cart { any } }\n").unwrap();
    std::fs::write(dir.path().join("notes.txt"), "").unwrap();
    assert_eq!(offered(dir.path(), &["app"]), ["apply"]);
    assert_eq!(offered(dir.path(), &["explain", "c"]), ["cart"]);
    assert_eq!(offered(dir.path(), &["explain", "shop.mesh", "c"]), ["cart"]);
    assert_eq!(offered(dir.path(), &["check", "s"]), ["shop.mesh"]);
    assert!(offered(dir.path(), &["check", "n"]).is_empty());
    assert_eq!(offered(dir.path(), &["explain-code", "unu"]), ["unused"]);
    assert_eq!(offered(dir.path(), &["diff", "li"]), ["live"]);
    assert_eq!(offered(dir.path(), &["check", "--format", "g"]), ["github"]);
    // Nothing is live here, or it may not be read: nothing is offered, and nothing said.
    for words in [&["run", "--as", ""][..], &["detach", "--name", ""], &["observe", "--member", ""]] {
        assert!(offered(dir.path(), words).is_empty(), "{words:?}");
    }
    assert!(offered(dir.path(), &["no-such-command", ""]).len() > 1);
    assert!(offered(dir.path(), &[]).is_empty());
}

/// A shell in a directory with a policy, where `meshc` is the program under test; none where it is not installed.
fn shell(name: &str, script: &str) -> Option<Output> {
    let is_here = Command::new(name).args(["-c", "true"]).output().is_ok_and(|done| done.status.success());
    if !is_here {
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("shop.mesh"), "mesh shop { workload cart { any } }\n").unwrap();
    let bin = Path::new(env!("CARGO_BIN_EXE_meshc")).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    // Where a shell waits for what does not come, the test fails.
    let mut command = Command::new("timeout");
    command.args(["60", name, "-c", script]).current_dir(dir.path()).env("PATH", path);
    Some(command.env("HOME", dir.path()).env_remove("XDG_CONFIG_HOME").output().unwrap())
}

/// Fish says what it would offer.
#[test]
fn fish_offers_names() {
    let script = "meshc completions fish | source; complete -C 'meshc explain ca'; complete -C 'meshc app'";
    if let Some(done) = shell("fish", script) {
        let said = text(&done.stdout);
        let offered: Vec<&str> = said.lines().map(|line| line.split('\t').next().unwrap_or(line)).collect();
        assert_eq!(offered, ["cart", "apply"], "{said}{}", text(&done.stderr));
        assert!(said.starts_with("cart\tshop\n"), "{said}");
    }
}

/// Zsh is typed to, on a terminal of its own.
#[test]
fn zsh_completes_what_is_typed() {
    let script = r#"
        zmodload zsh/zpty
        zpty shell 'TERM=dumb zsh -f -i'
        zpty -w shell 'autoload -Uz compinit; compinit -u -D; source <(meshc completions zsh); echo rea""dy'
        zpty -r shell said '*ready*'
        for line in 'explain ca:explain cart ' 'explain-code confl:explain-code conflict ' 'app:apply '; do
            zpty -n -w shell "meshc ${line%%:*}"$'\t'
            zpty -r shell said "*meshc ${line#*:}*" && echo "${line#*:}"
            zpty -n -w shell $'\x15'
        done
        zpty -d shell
    "#;
    if let Some(done) = shell("zsh", script) {
        let said = text(&done.stdout);
        assert_eq!(said, "explain cart \nexplain-code conflict \napply \n", "{}", text(&done.stderr));
    }
}

/// The script is tried in the shell that is everywhere.
#[test]
fn the_script_asks_the_program() {
    let script = "source <(meshc completions bash); COMP_WORDS=(meshc explain ca); COMP_CWORD=2; \
                  _clap_complete_meshc meshc ca explain; echo \"${COMPREPLY[*]}\"";
    let done = shell("bash", script).unwrap();
    assert_eq!((text(&done.stdout).trim(), text(&done.stderr).as_str()), ("cart", ""));
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        assert!(text(&meshc(&["completions", shell]).stdout).contains("MESHC_COMPLETE"), "{shell}");
    }
}

#[test]
fn more_or_less_is_said_as_it_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let done = Command::new(env!("CARGO_BIN_EXE_meshc"))
            .current_dir(dir.path())
            .args(arguments)
            .output()
            .unwrap();
        assert!(done.status.success(), "{arguments:?}: {}", text(&done.stderr));
        text(&done.stdout) + &text(&done.stderr)
    };
    run(&["init"]);
    for (command, more) in [
        (&["check"][..], "read app.mesh, "),
        (&["test"], "ok     \"what the app may reach, and how\""),
        (&["fmt"], "unchanged app.mesh"),
        (&["compile", "-o", "compiled.toml"], "port tables "),
    ] {
        let (less, usual) = (run(&[command, &["-q"]].concat()), run(command));
        let verbose = run(&[command, &["-v"]].concat());
        assert!(verbose.contains(more) && !usual.contains(more), "{command:?}: {verbose}\n{usual}");
        assert!(
            less.len() <= usual.len() && usual.len() < verbose.len(),
            "{command:?}: {less}\n{usual}\n{verbose}"
        );
    }
    assert_eq!(meshc(&["check", "-q", "-v"]).status.code(), Some(2));
}

/// A policy with long lists, and another one.
#[cfg(target_os = "linux")]
const LONG: [&str; 2] = [
    "set partners = 198.51.100.0/24, 203.0.113.0/25, 192.0.2.0/24, 2001:db8:4711::/48
set databases = tcp 3306, 5432, 6379-6380
exempt uid 1500
redirect outbound -> 15001
mesh a-shop-with-a-long-name {
    exclude outbound databases
    deny outbound tcp 25, 465, 587 to partners
    workload cart-of-the-shop { address 10.42.1.0/24, 10.42.2.0/24, 10.42.9.0/24 }
    workload catalog-of-the-shop { address 10.42.3.0/24 }
    test \"some of them\" {
        cart-of-the-shop -> 203.0.113.9 tcp 25 is denied
    }
}
",
    "exempt uid 1500
redirect outbound -> 15001
mesh a-shop-with-a-long-name {
    exclude outbound tcp 3306
    deny outbound tcp 1-1024 to 192.0.2.0/24
    workload cart-of-the-shop { address 10.42.1.0/24, 10.42.2.0/24, 10.42.9.0/24 }
    workload catalog-of-the-shop { address 10.42.3.0/24 }
    test \"others\" {
        cart-of-the-shop -> 203.0.113.9 tcp 25 is redirected
    }
}
",
];

#[cfg(target_os = "linux")]
#[test]
fn nothing_is_wider_than_the_terminal_and_lines_are_whole_in_a_pipe() {
    let dir = tempfile::tempdir().unwrap();
    let [old, new] = LONG;
    std::fs::write(dir.path().join("old.mesh"), old).unwrap();
    std::fs::write(dir.path().join("new.mesh"), new).unwrap();
    let command = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_meshc"));
        command.current_dir(dir.path()).env_remove("NO_COLOR").args(arguments);
        command
    };
    let conflict = &["explain-code", "conflict"][..];
    for (arguments, is_long) in [
        (&["diff", "old.mesh", "new.mesh"][..], true),
        (&["diff", "old.mesh", "new.mesh", "--entries"], true),
        (&["explain", "old.mesh", "cart-of-the-shop -> 203.0.113.9 tcp 465"], true),
        (&["explain", "old.mesh", "cart-of-the-shop -> 203.0.113.9 tcp 80", "--color", "always"], false),
        (&["test", "new.mesh"], false),
        (&["check", "new.mesh"], false),
        (&["compile", "old.mesh", "-o", "nowhere/at/all/so/that/it/cannot/be/written/compiled.toml"], true),
        (&["diff", "4711", "live", "--state", "nowhere"], false),
        (&["explain-code"], false),
        (conflict, true),
        (&["apply", "--help"], false),
    ] {
        for columns in [80, 120] {
            let (shown, _) = mesh_testbed::on_terminal(&command(arguments), columns).unwrap();
            assert!(!shown.is_empty(), "{arguments:?}");
            for line in without_colours(&shown).lines() {
                let is_one_word = line.trim_start().split(' ').count() == 1;
                // What is shown of sources is as it is there.
                let is_source = line.contains(['│', '╭', '·']);
                assert!(
                    line.chars().count() <= columns.into() || is_one_word || is_source,
                    "{columns}: {line}\n{arguments:?}\n{shown}"
                );
            }
        }
        let piped = command(arguments).env("COLUMNS", "200").output().unwrap();
        let piped = text(&piped.stdout) + &text(&piped.stderr);
        assert!(!is_long || piped.lines().any(|line| line.chars().count() > 80), "{arguments:?}: {piped}");
    }
    // The words are the same, however they are laid out.
    let words = |text: &str| without_colours(text).split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    for arguments in [conflict, &["diff", "old.mesh", "new.mesh"]] {
        let (shown, _) = mesh_testbed::on_terminal(&command(arguments), 80).unwrap();
        assert_eq!(words(&shown), words(&text(&command(arguments).output().unwrap().stdout)));
    }
}

/// Text without what sets colours (ECMA-48, SGR).
#[cfg(target_os = "linux")]
fn without_colours(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |plain, part| plain + part.split_once('m').map_or(part, |(_, rest)| rest))
}

#[test]
fn answers_are_coloured_where_that_is_asked_for_and_in_no_pipe() {
    let dir = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_meshc"));
        text(&command.current_dir(dir.path()).env_remove("NO_COLOR").args(arguments).output().unwrap().stdout)
    };
    run(&["init"]);
    let asked = ["explain", "app -> 169.254.169.254 tcp 80"];
    let coloured = run(&[&asked[..], &["--color", "always"]].concat());
    assert!(coloured.contains("\x1b[31;1mdenied\x1b[0m"), "{coloured:?}");
    for arguments in [&asked[..], &["explain", "app -> 169.254.169.254 tcp 80", "--color", "never"]] {
        let plain = run(arguments);
        assert!(plain.contains("is denied") && !plain.contains('\x1b'), "{plain:?}");
    }
    let json = run(&[&asked[..], &["--color", "always", "--format", "json"]].concat());
    assert!(!json.contains("\x1b") && !json.contains("u001b"), "{json}");
    std::fs::write(dir.path().join("app.mesh"), "mesh demo {   workload app { any }\n}\n").unwrap();
    let changes = run(&["fmt", "--check", "--color", "always"]);
    assert!(changes.contains("\n\x1b[31;1m-mesh demo {   workload app"), "{changes:?}");
    // What is a file for others stays as it is.
    assert!(!run(&["compile", "--color", "always"]).contains('\x1b'));
}

#[test]
fn whether_a_connection_is_accelerated_is_said_only_where_that_can_be_known() {
    let dir = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_meshc"));
        let done = command.current_dir(dir.path()).args(arguments).output().unwrap();
        (done.status.code(), text(&done.stdout) + &text(&done.stderr))
    };
    let write = |line: &str| {
        let policy = format!(
            "exempt uid 1500\nredirect outbound -> 15001\nredirect inbound -> 15003\n\
             mesh shop {{\nworkload cart {{ label app = cart }}\nworkload catalog {{ label app = catalog }}\n\
             accelerate cart <-> catalog tcp not 9092\ntest \"pairs\" {{\n\
             cart -> catalog tcp 80 is accelerated\ncart -> catalog tcp 9092 is not accelerated\n\
             cart -> 10.0.3.9 tcp 9092 is not accelerated\n{line}\n}}\n}}\n"
        );
        std::fs::write(dir.path().join("shop.mesh"), policy).unwrap();
    };
    write("");
    assert_eq!(run(&["test"]).0, Some(0));
    let endpoint = |address: &str| {
        let pods = [("cart", "10.0.3.1"), ("catalog", address)];
        let one = |(app, address): (&str, &str)| {
            format!(
                "[[endpoint]]\nname = \"{app}\"\nlabels = {{ app = \"{app}\" }}\naddresses = [\"{address}\"]\n"
            )
        };
        let file = dir.path().join("pods.toml");
        std::fs::write(&file, pods.map(one).concat()).unwrap();
    };
    for (expected, address) in [("accelerated", "10.0.3.9"), ("not accelerated", "10.0.3.8")] {
        write(&format!("cart -> 10.0.3.9 tcp 80 is {expected}"));
        let (code, said) = run(&["test"]);
        assert!(code == Some(1) && said.contains("10.0.3.9 may be a member of shop/catalog"), "{said}");
        let (code, said) = run(&["check"]);
        let why = format!("test \"pairs\": nobody can know here whether the flow is {expected}");
        assert!(code == Some(1) && said.contains(&why), "{said}");
        endpoint(address);
        let (code, said) = run(&["test", "--inventory", "pods.toml"]);
        assert_eq!(code, Some(0), "{said}");
    }
    write("cart -> catalog tcp 80 is not accelerated");
    assert!(run(&["test"]).1.contains("tcp 80 is accelerated, and should not be"));
    write("");
    let asked = ["explain", "cart -> 10.0.3.9 tcp 80"];
    let (_, said) = run(&asked);
    assert!(said.contains("whether it is accelerated is not known here: 10.0.3.9 may be"), "{said}");
    let json: serde_json::Value =
        serde_json::from_str(&run(&[&asked[..], &["--format", "json"]].concat()).1).unwrap();
    assert_eq!((&json["accelerated"], &json["limits"]), (&serde_json::Value::Null, &serde_json::json!([])));
    let (_, said) = run(&["explain", "cart -> catalog tcp 80"]);
    assert!(said.contains("is redirected 15001, accelerated"), "{said}");
}

#[test]
fn a_range_in_a_help_stands_on_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let policy = dir.path().join("a.mesh");
    let rules =
        "redirect outbound tcp 443 as uid 1000-1999 -> 15443\nredirect outbound tcp as gid 7 -> 15002";
    let program = format!("exempt uid 1500\n{rules}\nmesh m {{ workload a {{ any }} }}\n");
    std::fs::write(&policy, program).unwrap();
    for columns in 70..110 {
        let mut check = Command::new(env!("CARGO_BIN_EXE_meshc"));
        let answer = check.env("COLUMNS", columns.to_string()).arg("check").arg(&policy).output().unwrap();
        let said = text(&answer.stderr);
        assert!(said.contains("help:") && !said.lines().any(|line| line.ends_with('-')), "{said}");
    }
}
