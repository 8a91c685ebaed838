//! `cargo xtask mpi-test`: training and evaluation that processes share over MPI, by two implementations and on two
//! hosts, compared byte by byte with one process; and what becomes of a job of which a part dies, hangs or is cut off.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::workshop::{Result, apt_install, command, rowscan, run, set_up, target};

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

/// Longest time for a job, after which it counts as hanging.
const LIMIT: Duration = Duration::from_secs(100);

/// An MPI launcher, with the arguments that it needs.
struct Launcher {
    name: &'static str,
    command: Vec<String>,
    environment: &'static [(&'static str, &'static str)],
}

impl Launcher {
    fn open_mpi() -> Self {
        let command = ["mpirun.openmpi", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none"];
        Self { name: "Open MPI", command: command.map(String::from).to_vec(), environment: &[] }
    }

    fn mpich() -> Self {
        Self { name: "MPICH", command: vec!["mpirun.mpich".into()], environment: &[] }
    }

    /// A command that starts `ranks` processes of the program with these arguments.
    fn start(&self, ranks: usize, args: &[&str]) -> Command {
        let mut job = command(&self.command[0], &[]);
        job.args(&self.command[1..]).args(["-n", &ranks.to_string()]).arg(rowscan()).args(args);
        job.envs(self.environment.iter().copied());
        job
    }
}

/// Folders of the runs, emptied at the start.
struct Folders(PathBuf);

impl Folders {
    fn new() -> Result<Self> {
        let path = target().join("mpi-test");
        if path.exists() {
            std::fs::remove_dir_all(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        }
        std::fs::create_dir_all(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Self(path))
    }

    fn of(&self, name: &str) -> String {
        self.0.join(name).to_string_lossy().into_owned()
    }
}

/// Runs a job to its end and returns whether it succeeded, with all that it printed. A job that hangs is ended.
fn finished(job: Command) -> Result<(bool, String)> {
    finish(started(job)?)
}

/// A job that has begun, and the file of what it prints.
struct Job {
    child: Child,
    log: PathBuf,
    since: Instant,
}

fn started(mut job: Command) -> Result<Job> {
    static NUMBER: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let log = target().join("mpi-test").join(format!("output-{number}.txt"));
    let failed = |e: std::io::Error| format!("{job:?}: {e}");
    let out = std::fs::File::create(&log).map_err(failed)?;
    let errors = out.try_clone().map_err(failed)?;
    let spawned = job.stdin(Stdio::null()).stdout(out).stderr(errors).spawn();
    let child = spawned.map_err(|e| format!("{job:?} did not start: {e}"))?;
    Ok(Job { child, log, since: Instant::now() })
}

impl Job {
    fn text(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }
}

fn finish(mut job: Job) -> Result<(bool, String)> {
    loop {
        if let Some(status) = job.child.try_wait().map_err(|e| format!("waiting for a job: {e}"))? {
            return Ok((status.success(), job.text()));
        }
        if job.since.elapsed() > LIMIT {
            let _ = job.child.kill();
            let _ = job.child.wait();
            return Err(format!("a job hangs:\n{}", job.text()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn expect_success(what: &str, job: Command) -> Result<String> {
    match finished(job)? {
        (true, text) => Ok(text),
        (false, text) => Err(format!("{what} failed:\n{text}")),
    }
}

fn expect_failure(what: &str, (success, text): (bool, String), hints: &[&str]) -> Result {
    if let Some(missing) = hints.iter().find(|hint| !text.contains(**hint)) {
        return Err(format!("{what}: expected `{missing}` in\n{text}"));
    }
    if success { Err(format!("{what}: expected a failure\n{text}")) } else { Ok(()) }
}

/// Compares every file of weights in two checkpoints byte by byte.
fn expect_same(what: &str, one: &str, other: &str, checkpoint: &str) -> Result {
    let read = |path: &Path| std::fs::read(path).map_err(|e| format!("{what}: {}: {e}", path.display()));
    let folder = Path::new(one).join(checkpoint);
    let entries = std::fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut compared = 0;
    for entry in entries {
        let path = entry.map_err(|e| format!("{}: {e}", folder.display()))?.path();
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            let name = path.file_name().unwrap_or_default();
            if read(&path)? != read(&Path::new(other).join(checkpoint).join(name))? {
                return Err(format!("{what}: {} differs from one process's", name.to_string_lossy()));
            }
            compared += 1;
        }
    }
    if compared < 2 { Err(format!("{what}: {compared} files in {}", folder.display())) } else { Ok(()) }
}

fn pretrain<'a>(dir: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["pretrain", "--output-dir", dir][..], MODEL, PRETRAIN, more].concat()
}

fn finetune(dir: &str) -> Vec<&str> {
    [&["finetune", "--output-dir", dir][..], MODEL, FINETUNE].concat()
}

/// Processes of this program that a job started, by their command line. One that is ending has none any more.
#[cfg(target_os = "linux")]
fn processes(dir: &str) -> Vec<String> {
    let program = rowscan();
    let of_the_job = |entry: std::fs::DirEntry| {
        let path = entry.path();
        let line = std::fs::read(path.join("cmdline")).ok()?;
        let is_one =
            std::fs::read_link(path.join("exe")).ok()? == program && String::from_utf8_lossy(&line).contains(dir);
        is_one.then(|| entry.file_name().to_string_lossy().into_owned())
    };
    let entries = std::fs::read_dir("/proc").into_iter().flatten();
    entries.filter_map(|entry| of_the_job(entry.ok()?)).collect()
}

#[cfg(not(target_os = "linux"))]
fn processes(_: &str) -> Vec<String> {
    Vec::new()
}

/// Waits until a run has taken some steps.
fn under_way(job: &mut Job, dir: &str) -> Result {
    let log = Path::new(dir).join("log.jsonl");
    loop {
        if std::fs::read_to_string(&log).is_ok_and(|text| text.lines().count() >= 3) {
            return Ok(());
        }
        if job.since.elapsed() > LIMIT || job.child.try_wait().is_ok_and(|ended| ended.is_some()) {
            let _ = job.child.kill();
            return Err(format!("a run does not begin:\n{}", job.text()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn signal(name: &str, process: &str) -> Result {
    run(command("kill", &[name, process]))
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

/// Whether a killed process still holds its files: one of its threads waits for the disk, beside others' traffic for
/// many seconds. What is left of it when all have ended is a zombie, until somebody asks how it ended.
fn is_ending(process: &str) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let states = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("stat")).ok());
    // the state follows the name in parentheses
    states.filter_map(|stat| stat.rsplit_once(") ")?.1.chars().next()).any(|state| !matches!(state, 'Z' | 'X'))
}

/// Waits until no process of a job is left.
fn without_processes(dir: &str, limit: Duration) -> Result {
    let since = Instant::now();
    while !processes(dir).is_empty() {
        if since.elapsed() > limit {
            return Err(format!("{} processes stay behind", processes(dir).len()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
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
    let ended = struck(launcher, &dir("stopped"), "-STOP", &["--exchange-timeout=2"])?;
    expect_failure(
        "a stopped process",
        ended,
        &["no answer for 2 s from the other processes in the exchange of step"],
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

/// Network namespaces that stand for a launching host and two computing ones, and are gone afterwards.
struct Hosts;

impl Hosts {
    /// `None` where namespaces are not allowed.
    fn new(agent: &Path) -> Result<Option<Self>> {
        let ip = |line: &str| command("ip", &line.split(' ').collect::<Vec<_>>());
        if !ip("netns add rs0").output().is_ok_and(|added| added.status.success()) {
            return Ok(None);
        }
        let hosts = Self;
        let mut lines = vec![
            "-n rs0 link add br0 type bridge".to_owned(),
            "-n rs0 addr add 10.99.0.254/24 dev br0".into(),
            "-n rs0 link set br0 up".into(),
            "-n rs0 link set lo up".into(),
        ];
        for i in [1, 2] {
            lines.extend([
                format!("netns add rs{i}"),
                format!("-n rs{i} link add e0 type veth peer name v{i} netns rs0"),
                format!("-n rs{i} addr add 10.99.0.{i}/24 dev e0"),
                format!("-n rs{i} link set e0 up"),
                format!("-n rs{i} link set lo up"),
                format!("-n rs0 link set v{i} master br0 up"),
            ]);
        }
        lines.iter().try_for_each(|line| run(ip(line)))?;
        // what stands for ssh: the last number of the address is that of the namespace
        let script = "#!/bin/sh\nwhile [ \"${1#-}\" != \"$1\" ]; do shift; done\nn=${1##*.}; shift\n\
                      exec ip netns exec rs$n unshare --uts sh -c \"hostname node$n; $*\"\n";
        let written = std::fs::write(agent, script);
        written.map_err(|e| format!("{}: {e}", agent.display()))?;
        run(command("chmod", &["+x", &agent.to_string_lossy()]))?;
        Ok(Some(hosts))
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for name in ["rs0", "rs1", "rs2"] {
            let _ = command("ip", &["netns", "del", name]).output();
        }
    }
}

fn two_hosts(folders: &Folders, one: &str) -> Result {
    let (agent, began) = (folders.0.join("agent.sh"), Instant::now());
    let Some(_hosts) = Hosts::new(&agent)? else {
        println!("two hosts: left out, as this machine allows no network namespaces (root can make them)");
        return Ok(());
    };
    let agent = agent.to_string_lossy().into_owned();
    let inside = |line: &str| format!("ip netns exec rs0 {line}").split(' ').map(String::from).collect::<Vec<_>>();
    let open = "mpirun.openmpi --allow-run-as-root --bind-to none --mca plm_rsh_agent AGENT \
                --host 10.99.0.1:2,10.99.0.2:2";
    let mpich = "mpirun.mpich -localhost 10.99.0.254 -launcher ssh -launcher-exec AGENT -hosts 10.99.0.1,10.99.0.2 \
                 -genv UCX_TLS tcp,self -genv UCX_NET_DEVICES e0";
    let launcher = |name, line: &str| Launcher {
        name,
        command: inside(&line.split_whitespace().collect::<Vec<_>>().join(" ").replace("AGENT", &agent)),
        environment: &[],
    };
    for (launcher, ranks) in [(launcher("Open MPI", open), 4), (launcher("MPICH", mpich), 2)] {
        let what = format!("{}, {ranks} processes on two hosts", launcher.name);
        let many = folders.of(&what.replace([' ', ','], "-"));
        expect_success(&what, launcher.start(ranks, &pretrain(&many, &["--epochs=2"])))?;
        expect_same(&what, one, &many, "checkpoint-2")?;
        if launcher.name == "Open MPI" {
            continue; // its own daemons notice the cut by the clocks of TCP
        }
        let cut = folders.of(&format!("{what} cut").replace([' ', ','], "-"));
        let endless = ["--epochs=100000", "--save-every-steps=3", "--keep=2", "--exchange-timeout=2"];
        let mut job = started(launcher.start(ranks, &pretrain(&cut, &endless)))?;
        under_way(&mut job, &cut)?;
        run(command("ip", &["-n", "rs0", "link", "set", "v2", "down"]))?;
        let ended = without_processes(&cut, Duration::from_secs(20));
        run(command("ip", &["-n", "rs0", "link", "set", "v2", "up"]))?;
        // the launcher itself waits for the lost host for as long as TCP does
        let _ = job.child.kill();
        let _ = job.child.wait();
        ended.map_err(|e| format!("{what}, a cut network: {e}\n{}", job.text()))?;
        expect_failure("a cut network", (false, job.text()), &["no answer for 2 s from the other processes"])?;
    }
    println!("two hosts: the bits of one, and an end when the network is cut ({:.0} s)", began.elapsed().as_secs_f64());
    Ok(())
}
