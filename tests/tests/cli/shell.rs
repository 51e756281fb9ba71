//! Completion scripts and the manual page.

use crate::{cli_ok, shown};
use std::path::Path;
use std::process::{Command, Output};

/// The commands and options that both must have.
const WANTED: [&str; 6] = [
    "predict",
    "quickstart",
    "completions",
    "--weights",
    "--tta",
    "--recursive",
];

/// A program with arguments; `None` if it is not installed.
fn run(program: &str, args: &[&str], folder: &Path) -> Option<Output> {
    let output = Command::new(program)
        .args(args)
        .current_dir(folder)
        .output();
    if output.is_err() {
        mrcnn_test_support::skip(&format!("shells: {program} is not on the PATH"));
    }
    output.ok()
}

#[test]
fn bash_completes_commands_and_options() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let script = cli_ok(at, &["completions", "bash"]);
    std::fs::write(at.join("mrcnn-cli.bash"), script).expect("a script");
    // As the shell does at the tab key: the words of the line, and the number of the last one.
    let complete = "set -eu -o pipefail; complete() { COMPLETES=\"$*\"; }; . ./mrcnn-cli.bash
        COMP_WORDS=(mrcnn-cli \"$@\"); COMP_CWORD=$#; COMPREPLY=()
        function=$(sed 's/.*-F \\([^ ]*\\).*/\\1/' <<< \"$COMPLETES\")
        set +eu; \"$function\" mrcnn-cli \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD-1]}\"
        echo \"${COMPREPLY[@]}\"";
    let completed = |words: &[&str]| {
        let args = [&["-c", complete, "bash"], words].concat();
        let output = run("bash", &args, at)?;
        assert!(output.status.success(), "{}", shown(&output));
        Some(String::from_utf8_lossy(&output.stdout).trim().to_string())
    };
    let Some(found) = completed(&["pre"]) else {
        return;
    };
    assert_eq!(found, "predict");
    assert_eq!(
        completed(&["predict", "--recu"]).expect("bash"),
        "--recursive"
    );
    assert_eq!(completed(&["dataset", "prev"]).expect("bash"), "preview");
    let values = completed(&["predict", "--color", ""]).expect("bash");
    assert!(
        values.contains("class") && values.contains("instance"),
        "{values}"
    );
}

#[test]
fn every_shell_has_a_script() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    for (shell, start, check) in [
        ("bash", "_mrcnn__cli() {", &["bash", "-n"][..]),
        ("zsh", "#compdef mrcnn-cli", &["zsh", "-n"][..]),
        ("fish", "# Print an optspec", &["fish", "--no-execute"][..]),
        (
            "powershell",
            "using namespace System.Management.Automation",
            &[][..],
        ),
    ] {
        let script = cli_ok(at, &["completions", shell]);
        assert!(
            script.trim_start().starts_with(start),
            "{shell}: {}",
            &script[..200]
        );
        for word in WANTED {
            let word = if shell == "fish" {
                word.trim_start_matches('-')
            } else {
                word
            };
            assert!(script.contains(word), "{shell}: {word}");
        }
        std::fs::write(at.join(shell), script).expect("a script");
        if let [program, option] = check
            && let Some(output) = run(program, &[*option, shell], at)
        {
            assert!(output.status.success(), "{shell}: {}", shown(&output));
        }
    }
}

#[test]
fn the_manual_page_has_every_command() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let page = cli_ok(at, &["man"]);
    assert!(page.contains(".TH mrcnn-cli 1"), "{}", &page[..200]);
    let help = cli_ok(at, &["--help"]);
    let section = help.split("\nCommands:\n").nth(1).expect("commands");
    let lines = section.lines().take_while(|line| !line.is_empty());
    let names = lines.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let mut count = 0;
    for name in names.filter(|name| !name.is_empty() && *name != "help") {
        let title = format!("MRCNN-CLI {}", name.to_uppercase());
        assert!(page.contains(&title), "{title}");
        count += 1;
    }
    assert!(count > 9, "{count}");
    // Dashes are escaped, so that they can be copied.
    for option in ["\\-\\-recursive", "\\-\\-tta", "\\-\\-min_size"] {
        assert_eq!(
            page.contains(option),
            option != "\\-\\-min_size",
            "{option}"
        );
    }
    let macros = page.lines().filter(|line| line.starts_with('.'));
    for line in macros {
        let name = line.split(' ').next().unwrap_or_default();
        let known = [
            ".TH", ".SH", ".SS", ".IP", ".TP", ".RS", ".RE", ".br", ".PP", ".ie", ".el",
        ];
        assert!(known.contains(&name), "{line}");
    }
    std::fs::write(at.join("mrcnn-cli.1"), &page).expect("a page");
    if let Some(output) = run("man", &["--warnings", "-l", "mrcnn-cli.1"], at) {
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{}",
            shown(&output)
        );
        assert!(
            text.contains("MRCNN-CLI PREDICT") && text.contains("--recursive"),
            "{text}"
        );
    }
}
