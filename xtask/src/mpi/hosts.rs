//! Two hosts in network namespaces of this machine, over which a job runs and between which the network is cut.

use std::path::Path;
use std::time::{Duration, Instant};

use super::jobs::{
    Folders, Launcher, expect_failure, expect_same, expect_success, started, under_way, without_processes,
};
use super::pretrain;
use crate::workshop::{Result, command, run};

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

pub fn two_hosts(folders: &Folders, one: &str) -> Result {
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
        let endless = ["--epochs=100000", "--save-every-steps=3", "--keep=2", "--exchange-timeout=8"];
        let mut job = started(launcher.start(ranks, &pretrain(&cut, &endless)))?;
        under_way(&mut job, &cut)?;
        run(command("ip", &["-n", "rs0", "link", "set", "v2", "down"]))?;
        let ended = without_processes(&cut, Duration::from_secs(30));
        run(command("ip", &["-n", "rs0", "link", "set", "v2", "up"]))?;
        // the launcher itself waits for the lost host for as long as TCP does
        let _ = job.child.kill();
        let _ = job.child.wait();
        ended.map_err(|e| format!("{what}, a cut network: {e}\n{}", job.text()))?;
        expect_failure("a cut network", (false, job.text()), &["no answer for 8 s from the other processes"])?;
    }
    println!("two hosts: the bits of one, and an end when the network is cut ({:.0} s)", began.elapsed().as_secs_f64());
    Ok(())
}
