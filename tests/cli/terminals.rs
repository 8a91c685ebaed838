//! What a run does with the terminal, the signals and the pipes that it is started with. Each of these was reported by
//! people who train with other programs.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use super::runs::{start, wait_for};
use super::{NANO, RANDOM, log, names, pretrain, program, run, skip};

/// The command line of a short run, for a shell: two epochs of six steps.
fn line(dir: &std::path::Path) -> String {
    let dir = dir.to_string_lossy();
    let words = [&["pretrain", "--epochs=2", "--output-dir", &dir][..], NANO, RANDOM].concat();
    shlex::try_join([&[env!("CARGO_BIN_EXE_rowscan")][..], &words].concat()).unwrap()
}

/// The output of a command on a terminal (a pseudo terminal of `script`), with these variables. None where there is no
/// `script` of util-linux.
fn on_a_terminal(command: &str, variables: &[(&str, &str)]) -> Option<String> {
    let mut script = Command::new("script");
    script.args(["-q", "-e", "-c", command, "/dev/null"]).env_remove("TERM").env_remove("NO_COLOR");
    script.envs(variables.iter().copied()).stdin(Stdio::null());
    match script.output() {
        Ok(output) if output.status.success() => Some(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(output) => panic!("{}", String::from_utf8_lossy(&output.stdout)),
        Err(e) => {
            eprintln!("SKIPPED: no `script` here to make a terminal ({e})");
            None
        }
    }
}

/// `nohup rowscan … &`: a signal that was ignored when the program started stays ignored. One that was not ends the run
/// after a checkpoint.
#[cfg(unix)]
#[test]
fn a_signal_that_was_ignored_stays_ignored() {
    if skip() {
        return;
    }
    let signal = |pid: u32, name: &str| {
        assert!(Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap().success());
    };
    for name in ["HUP", "INT", "TERM"] {
        let dir = tempfile::tempdir().unwrap();
        let shell = format!("trap '' {name}; exec {}", line(dir.path()));
        let mut child =
            Command::new("sh").args(["-c", &shell]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait_for(|| !log(dir.path()).is_empty() || child.try_wait().unwrap().is_some());
        signal(child.id(), name);
        assert!(child.wait().unwrap().success(), "SIG{name}");
        assert_eq!(log(dir.path()).len(), 12, "SIG{name}: all steps of the run");
        let dir = tempfile::tempdir().unwrap();
        let mut child = start(dir.path(), &[]);
        wait_for(|| !log(dir.path()).is_empty());
        signal(child.id(), name);
        assert!(child.wait().unwrap().success(), "SIG{name}");
        assert!(log(dir.path()).len() < 90, "SIG{name} ends a run that does not ignore it");
        assert!(names(dir.path()).iter().any(|n| n.starts_with("checkpoint-")), "SIG{name}");
    }
}

/// `2>&1 | head -1`, and a full disk behind a redirection: a run goes on without its messages.
#[cfg(unix)]
#[test]
fn a_run_goes_on_when_nobody_reads_its_messages() {
    if skip() {
        return;
    }
    let done = |dir: &std::path::Path| {
        assert_eq!(log(dir).len(), 12);
        assert!(dir.join("checkpoint-2").exists());
    };
    let dir = tempfile::tempdir().unwrap();
    let mut child = pretrain(dir.path(), &[RANDOM, &["--epochs=2", "-vv"]].concat())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut first).unwrap(); // and the pipe is closed
    assert!(!first.is_empty());
    assert!(child.wait().unwrap().success());
    done(dir.path());
    if std::path::Path::new("/dev/full").exists() {
        let dir = tempfile::tempdir().unwrap();
        let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let status = pretrain(dir.path(), &[RANDOM, &["--epochs=2", "-vv"]].concat())
            .stderr(full())
            .stdout(full())
            .status()
            .unwrap();
        done(dir.path());
        assert!(status.success(), "{status}");
    }
}

/// A terminal that cannot draw gets the lines of a pipe, and none gets colors under NO_COLOR.
#[cfg(unix)]
#[test]
fn a_terminal_that_cannot_draw_gets_lines() {
    if skip() {
        return;
    }
    for (variables, lines) in [
        (&[("TERM", "dumb")][..], true),
        (&[], true),
        (&[("TERM", "xterm-256color"), ("NO_COLOR", "1")], true),
        (&[("TERM", "xterm-256color")], false),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let Some(shown) = on_a_terminal(&line(dir.path()), variables) else { return };
        let has = |word: &str| shown.lines().any(|line| line.contains(word));
        assert!(
            has("24 images") && has("epoch   1") && has("epoch   2") && has("done: loss"),
            "{variables:?}: {shown}"
        );
        assert_eq!(!shown.contains('\x1b'), lines, "{variables:?}: escape sequences: {shown:?}");
        assert!(!lines || has("step 1/12"), "{variables:?}: progress: {shown}");
    }
}

#[test]
fn a_repeated_flag_counts_as_given_last() {
    let dir = tempfile::tempdir().unwrap();
    let ran = run(pretrain(dir.path(), &[RANDOM, &["--batch-size=4", "--dry-run", "--batch-size=6"]].concat())).ok();
    assert!(ran.out.contains("step of 6 images"), "{}", ran.out);
}

#[cfg(unix)]
#[test]
fn a_printed_command_can_be_pasted() {
    if skip() {
        return;
    }
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("my run (it's $HOME)");
    let child = start(&dir, &[]);
    wait_for(|| !log(&dir).is_empty());
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    let command = out.lines().find_map(|line| line.strip_prefix("go on with: ")).unwrap_or_else(|| panic!("{out}"));
    let words = shlex::split(command).unwrap();
    assert_eq!(words[..3], ["rowscan", "pretrain", "--output-dir"]);
    let mut again = program();
    again.args(&words[1..]).arg("--epochs=1");
    run(again).ok();
    assert!(dir.join("pretrain.toml").exists());
}

#[test]
fn the_help_of_a_run_is_in_groups_with_defaults() {
    for (command, whose) in [("pretrain", "default"), ("finetune", "mae_base")] {
        let mut asked = program();
        asked.args([command, "--help"]);
        let help = run(asked).ok().out;
        let at = |heading: &str| help.find(&format!("\n{heading}:\n")).unwrap_or_else(|| panic!("{heading}: {help}"));
        let order = ["Run", "Output", "Model", "Data", "Method"].map(at);
        assert!(order.iter().all(|at| *at > 0));
        let between = |flag: &str, heading: &str| {
            let from = help.find(&format!("--{flag} ")).unwrap_or_else(|| panic!("{flag}: {help}"));
            let last = order.iter().filter(|at| **at < from).max().unwrap();
            assert_eq!(*last, at(heading), "--{flag} belongs to {heading}");
        };
        between("keep", "Output");
        between("width", "Model");
        between("max-images", "Data");
        between("hflip", "Data");
        between("batch-size", "Run");
        assert!(help.contains(&format!("[{whose}: ")), "{help}");
    }
}

/// Numbers in an options file may be written as numbers.
#[test]
fn an_options_file_takes_numbers_as_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("options.toml");
    for text in [
        "mask-ratio = 0.75\ncrop-scale = [0.5, 1]",
        "mask-ratio = \"0.75\"\ncrop-scale = \"0.5,1\"",
        "mask-ratio = \"truncnorm\"",
    ] {
        std::fs::write(&file, text).unwrap();
        run(pretrain(
            &dir.path().join("out"),
            &["--data=synthetic:24", "--dry-run", "--config", &file.to_string_lossy()],
        ))
        .ok();
    }
    std::fs::write(&file, "crop-scale = [0.5]").unwrap();
    let ran = run(pretrain(
        &dir.path().join("out"),
        &["--data=synthetic:24", "--dry-run", "--config", &file.to_string_lossy()],
    ));
    ran.fails(2, &["`crop-scale`", "0.5", "0.2,1"]);
}
