//! `rowscan study`, which trains the cells of a table of the paper and writes the table.

use std::path::Path;

use super::{Ran, names, program, run, skip};
use crate::common::one_in;

fn study(table: &str, dir: &Path, args: &[&str]) -> Ran {
    let mut command = program();
    command.args(["study", table, "--data", "synthetic:64", "--output-dir"]).arg(dir).args(args);
    run(command)
}

/// Two cells of Table 6 on generated images. A second run finds them done.
#[test]
fn a_table_is_run_once_and_written() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let go = || study("6", dir.path(), &["--budget", "smoke", "--cells", "MAP,AR"]).ok();
    go();
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    let table = read("table-6.md");
    for expected in ["| AR | 83.7 | ", "| MAP | 84.9 | ", "of 1 pairs", "synthetic:64"] {
        assert!(table.contains(expected), "`{expected}` is missing: {table}");
    }
    assert!(!table.contains("not run") && !read("table-6.svg").contains("local MAE"));
    let runs: Vec<_> = names(dir.path()).into_iter().filter(|n| n.contains("train-") || n.contains("tune-")).collect();
    assert_eq!(runs.len(), 4, "{runs:?}");
    let logs = || runs.iter().map(|run| dir.path().join(run).join("log.jsonl").metadata().unwrap().modified().unwrap());
    let before: Vec<_> = logs().collect();
    go();
    assert_eq!(read("table-6.md"), table);
    assert_eq!(logs().collect::<Vec<_>>(), before);

    // of a finished cell its scores are enough; such that cannot be read are named
    for run in &runs {
        let scores = std::fs::read(dir.path().join(run).join("scores.json"));
        std::fs::remove_dir_all(dir.path().join(run)).unwrap();
        if let Ok(scores) = scores {
            std::fs::create_dir(dir.path().join(run)).unwrap();
            std::fs::write(dir.path().join(run).join("scores.json"), scores).unwrap();
        }
    }
    go();
    assert_eq!(read("table-6.md"), table);
    let kept = dir.path().join(runs.iter().find(|run| run.starts_with("finetune-")).unwrap()).join("scores.json");
    assert_eq!(names(kept.parent().unwrap()), ["scores.json"]);
    std::fs::write(kept, "[9").unwrap();
    study("6", dir.path(), &["--budget", "smoke", "--cells", "MAP,AR"]).fails(1, &["scores.json", "EOF"]);
}

/// Table 8 has networks of other families with methods of their own, and images of other sizes.
#[test]
fn networks_of_table_8_are_pretrained_and_fine_tuned() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let rows = [("MambaVision + MAP", "84.9"), ("ARM + its AR", "83.2"), ("Mamba-R + AR", "83.7")];
    for (cell, paper) in one_in(3, rows) {
        study("8", dir.path(), &["--budget", "smoke", "--cells", cell]).ok();
        let table = std::fs::read_to_string(dir.path().join("table-8.md")).unwrap();
        assert!(table.contains(&format!("| {cell} | {paper} | ")) && !table.contains("not run"), "{table}");
    }
}

/// Table 11 is of point clouds, which vote, and its networks are counted.
#[test]
fn networks_of_table_11_are_pretrained_fine_tuned_and_vote() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut command = program();
    command.args(["study", "11", "--data", "synthetic-clouds:24", "--budget", "smoke"]);
    command.args(["--cells", "Mamba3D + MAP,Transformer", "--output-dir"]).arg(dir.path());
    run(command).ok();
    let table = std::fs::read_to_string(dir.path().join("table-11.md")).unwrap();
    let row = |label: &str| table.lines().find(|line| line.starts_with(&format!("| {label} | 9"))).unwrap().to_owned();
    let [pretrained, transformer] = ["Mamba3D + MAP", "Transformer"].map(row);
    assert!(pretrained.contains(" | 95.6 | ") && pretrained.ends_with(" | 1 | 0.335 | 22.7 |"), "{pretrained}");
    assert!(transformer.ends_with(" | 1 | 0.336 | 21.4 |") && !transformer.contains("not run"), "{transformer}");
    study("11", dir.path(), &[]).fails(2, &["synthetic:64", "expected point clouds"]);
}

/// Tables 9 and 10 are of dense tasks: `synthetic` is scenes for one and objects for the other.
#[test]
fn networks_of_tables_9_and_10_find_pixels_and_objects() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let cells = [
        ("9", "HybridNet-S + MAP", &["46.9"][..], "synthetic-scenes:64"),
        ("9", "ResNet-101 + DeepLab v3+", &["44.1"], "synthetic-scenes:64"),
        ("10", "HybridNet-Ti + MAP", &["46.4", "39.8"], "synthetic-objects:64"),
    ];
    for (table, cell, paper, data) in one_in(3, cells) {
        study(table, dir.path(), &["--budget", "smoke", "--cells", cell]).ok();
        let text = std::fs::read_to_string(dir.path().join(format!("table-{table}.md"))).unwrap();
        let row = text.lines().find(|line| line.starts_with(&format!("| {cell} | "))).unwrap();
        let columns: Vec<_> = row.split(" | ").collect();
        assert_eq!(columns.iter().skip(1).step_by(2).take(paper.len()).copied().collect::<Vec<_>>(), paper, "{text}");
        assert!(!row.contains("not run") && text.contains(&format!("On {data}, ")), "{text}");
    }
    let mut command = program();
    command.args(["study", "10", "--data", "synthetic-clouds:24", "--output-dir"]).arg(dir.path());
    run(command).fails(1, &["is a point cloud, expected an image with boxes"]);
}

#[test]
fn what_does_not_exist_is_named() {
    let dir = tempfile::tempdir().unwrap();
    study("12", dir.path(), &[]).fails(2, &["`12`", "one of 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11"]);
    study("6", dir.path(), &["--cells", "MAPP"]).fails(2, &["`MAPP`", "local MAE"]);
    study("6", dir.path(), &["--budget", "tpu"]).fails(2, &["`tpu`", "smoke, cpu, long, gpu"]);
    study("6", dir.path(), &["--seeds", "0"]).fails(2, &["--seeds", "1 to 100"]);
}
