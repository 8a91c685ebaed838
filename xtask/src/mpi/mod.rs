//! `cargo xtask mpi-test`: training and evaluation that processes share over MPI, by two implementations and on two
//! hosts, compared byte by byte with one process; and what becomes of a job of which a part dies, hangs or is cut off.

mod hosts;
mod jobs;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use hosts::two_hosts;
use jobs::{
    Folders, Launcher, expect_failure, expect_same, expect_success, finish, finished, is_ending, processes, signal,
    started, under_way, without_processes,
};

use crate::workshop::{Result, apt_install, command, rowscan, run, set_up};

/// A model with every kind of layer, small enough for seconds on a CPU.
const MODEL: &[&str] =
    &["--model=micro", "--image-size=16", "--patch-size=4", "--width=16", "--pattern=MMT", "--heads=2", "--states=4"];
/// Of pretraining: steps of four micro-batches, two of them in an epoch.
const PRETRAIN: &[&str] = &[
    "--decoder-width=16",
    "--decoder-depth=1",
    "--decoder-heads=2",
    "--data=synthetic:16",
    "--batch-size=2",
    "--accum-iter=4",
    "--warmup-epochs=0",
    "--drop-path=0.2",
    "--clip-grad=0.5",
    "--precision=mixed",
    "--grid-every=0",
    "--log-every=1",
    "--threads=1",
];
/// Of fine-tuning: mixed images, a moving average, layer decay, tests.
const FINETUNE: &[&str] = &[
    "--recipe=vim_small",
    "--data=synthetic:16",
    "--batch-size=2",
    "--accum-iter=4",
    "--warmup-epochs=0",
    "--layer-decay=0.8",
    "--model-ema-decay=0.9",
    "--epochs=2",
    "--threads=1",
];

fn pretrain<'a>(dir: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["pretrain", "--output-dir", dir][..], MODEL, PRETRAIN, more].concat()
}

fn finetune(dir: &str) -> Vec<&str> {
    [&["finetune", "--output-dir", dir][..], MODEL, FINETUNE].concat()
}

/// Some steps of a run without end, then a signal to one process; returns how the job ended.
fn struck(launcher: &Launcher, dir: &str, name: &str, more: &[&str]) -> Result<(bool, String)> {
    let endless = ["--epochs=100000", "--save-every-steps=3", "--keep=2"];
    let mut job = started(launcher.start(2, &pretrain(dir, &[&endless[..], more].concat())))?;
    under_way(&mut job, dir)?;
    let all = processes(dir);
    let last = all.last().ok_or("a run without processes")?;
    signal(name, last)?;
    let ended = finish(job);
    if name == "-STOP" {
        let _ = signal("-KILL", last);
    }
    let ended = ended?;
    without_processes(dir, Duration::from_secs(10)).map_err(|e| format!("after {name}, {e}:\n{}", ended.1))?;
    let since = Instant::now();
    while all.iter().any(|process| is_ending(process)) && since.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(ended)
}

pub fn test() -> Result {
    set_up()?;
    let missing: Vec<&str> = [("mpirun.openmpi", "openmpi-bin"), ("mpirun.mpich", "mpich"), ("ip", "iproute2")]
        .into_iter()
        .filter(|(program, _)| Command::new(program).arg("--version").output().is_err())
        .map(|(_, package)| package)
        .collect();
    if !missing.is_empty() {
        apt_install(&missing)?;
    }
    let folders = Folders::new()?;
    let (one, tuned) = (folders.of("one"), folders.of("tuned"));
    expect_success("one process", command(rowscan(), &pretrain(&one, &["--epochs=2"])))?;
    expect_success("one process", command(rowscan(), &finetune(&tuned)))?;
    let scores = scores(&folders, &tuned, None)?;
    let each = |launcher: Launcher| {
        same_bits(&launcher, &folders, (&one, &tuned), &scores)?;
        faults(&launcher, &folders, &one)
    };
    // most of a job's time is its start, in which it waits
    std::thread::scope(|scope| {
        let open_mpi = scope.spawn(|| each(Launcher::open_mpi()));
        let mpich = each(Launcher::mpich());
        open_mpi.join().unwrap_or_else(|_| Err("the test panicked".into())).and(mpich)
    })?;
    asked_to_stop(&Launcher::open_mpi(), &folders)?;
    full_disk(&folders)?;
    two_hosts(&folders, &one)
}

/// What `rowscan eval` writes about a classifier, by one process or by two.
fn scores(folders: &Folders, tuned: &str, launcher: Option<&Launcher>) -> Result<String> {
    let name = launcher.map_or("one", |launcher| launcher.name);
    let (checkpoint, json) = (format!("{tuned}/checkpoint-2"), folders.of(&format!("{name} scores.json")));
    let args = ["eval", "--checkpoint", &checkpoint, "--data=synthetic:80", "--batch-size=3", "--json", &json];
    let job = launcher.map_or_else(|| command(rowscan(), &args), |launcher| launcher.start(2, &args));
    expect_success("an evaluation", job)?;
    std::fs::read_to_string(&json).map_err(|e| format!("{json}: {e}"))
}

fn same_bits(launcher: &Launcher, folders: &Folders, (one, tuned): (&str, &str), scores: &str) -> Result {
    let began = Instant::now();
    let ranks = if launcher.name == "MPICH" { 4 } else { 2 };
    let what = format!("{}, {ranks} processes", launcher.name);
    let many = folders.of(&what.replace(' ', "-"));
    expect_success(&what, launcher.start(ranks, &pretrain(&many, &["--epochs=2"])))?;
    expect_same(&what, one, &many, "checkpoint-2")?;
    let (what, many) = (format!("{}: fine-tuning", launcher.name), folders.of(&format!("{} tuned", launcher.name)));
    expect_success(&what, launcher.start(2, &finetune(&many)))?;
    expect_same(&what, tuned, &many, "checkpoint-2")?;
    if self::scores(folders, tuned, Some(launcher))? != *scores {
        return Err(format!("{}: the scores of two processes differ from those of one", launcher.name));
    }
    println!("{}: the bits of one process on {ranks} ({:.0} s)", launcher.name, began.elapsed().as_secs_f64());
    Ok(())
}

fn faults(launcher: &Launcher, folders: &Folders, one: &str) -> Result {
    let began = Instant::now();
    let dir = |what: &str| folders.of(&format!("{} {what}", launcher.name).replace(' ', "-"));
    // killed: the job ends, and the same command started again goes on
    let killed = dir("killed");
    let ended = struck(launcher, &killed, "-KILL", &[])?;
    expect_failure("a killed process", ended, &[])?;
    let newest = newest_epoch(&killed)?;
    let on = format!("--epochs={}", newest + 1);
    expect_success("going on", launcher.start(2, &pretrain(&killed, &["--resume=auto", &on])))?;
    // stopped: the others give up in time
    let ended = struck(launcher, &dir("stopped"), "-STOP", &["--exchange-timeout=5"])?;
    expect_failure(
        "a stopped process",
        ended,
        &["no answer for 5 s from the other processes in the exchange of step"],
    )?;
    // the launcher of one implementation with the library of the other
    let (other, alone) =
        if launcher.name == "MPICH" { ("libmpi.so.40", dir("a")) } else { ("libmpich.so.12", dir("b")) };
    let mut wrong = launcher.start(2, &pretrain(&alone, &["--epochs=2"]));
    wrong.env("ROWSCAN_MPI", other);
    expect_failure("the wrong mpirun", finished(wrong)?, &["knows of 1: start with the mpirun that belongs to it"])?;
    expect_nothing(&alone)?;
    // no adapter on one process
    let mut lost = launcher.start(1, &pretrain(&alone, &["--epochs=2"]));
    let args = pretrain(&alone, &["--epochs=2", "--adapter=nosuch"]);
    lost.args([":", "-n", "1"]).arg(rowscan()).args(args);
    expect_failure("no adapter on one process", finished(lost)?, &["rank 1", "`nosuch` is none of"])?;
    expect_nothing(&alone)?;
    // resumed by another number of processes; once is enough
    if launcher.name == "Open MPI" {
        println!("{}: faults end the job with a message ({:.0} s)", launcher.name, began.elapsed().as_secs_f64());
        return Ok(());
    }
    let half = dir("half");
    let resume = format!("--resume={one}/checkpoint-1");
    expect_success("going on", launcher.start(4, &["pretrain", "--output-dir", &half, &resume]))?;
    expect_same("going on with four", one, &half, "checkpoint-2")?;
    println!("{}: faults end the job with a message ({:.0} s)", launcher.name, began.elapsed().as_secs_f64());
    Ok(())
}

/// A wish to stop in one process: all finish the step, and another number of processes goes on.
fn asked_to_stop(launcher: &Launcher, folders: &Folders) -> Result {
    let asked = folders.of("asked");
    let mut job = started(launcher.start(2, &pretrain(&asked, &["--epochs=2000", "--lr=1e-3", "--min-lr=1e-3"])))?;
    under_way(&mut job, &asked)?;
    signal("-USR1", &processes(&asked).pop().ok_or("a run without processes")?)?;
    let (success, text) = finish(job)?;
    if !success || !text.contains("stopped; saved") || !text.contains("go on with") {
        return Err(format!("SIGUSR1 to one process:\n{text}"));
    }
    expect_success("going on", launcher.start(1, &["pretrain", "--output-dir", &asked, "--resume", "--epochs=4"]))?;
    Ok(())
}

fn expect_nothing(dir: &str) -> Result {
    if Path::new(dir).exists() { Err(format!("{dir}: a run that cannot start leaves something")) } else { Ok(()) }
}

/// The last whole epoch in the checkpoints of a run.
fn newest_epoch(dir: &str) -> Result<u64> {
    let entries = std::fs::read_dir(dir).map_err(|e| format!("{dir}: {e}"))?;
    let epoch = |entry: std::fs::DirEntry| entry.file_name().to_str()?.strip_prefix("checkpoint-")?.parse().ok();
    entries.filter_map(|entry| epoch(entry.ok()?)).max().ok_or_else(|| format!("{dir}: no checkpoint of an epoch"))
}

/// The disk behind the first process fills up: the job ends with its error, and leaves whole checkpoints only.
fn full_disk(folders: &Folders) -> Result {
    let dir = folders.of("full");
    std::fs::create_dir_all(&dir).map_err(|e| format!("{dir}: {e}"))?;
    let mount = command("mount", &["-t", "tmpfs", "-o", "size=500k", "rowscan-test", &dir]).output();
    if !mount.is_ok_and(|mounted| mounted.status.success()) {
        println!("a full disk: left out, as this machine allows no mounts (root can make them)");
        return Ok(());
    }
    let out = format!("{dir}/out");
    let ended = finished(Launcher::mpich().start(2, &pretrain(&out, &["--epochs=100"])));
    let whole = |entry: std::fs::DirEntry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        !name.starts_with('.') && (!name.starts_with("checkpoint") || entry.path().join("state.json").exists())
    };
    let left = std::fs::read_dir(&out).is_ok_and(|mut entries| entries.all(|entry| entry.is_ok_and(whole)));
    run(command("umount", &[&dir]))?;
    expect_failure("a full disk", ended?, &["rank 0", "cannot be", "No space left on device"])?;
    if left { Ok(()) } else { Err(format!("a full disk: {out} holds something half written")) }
}
