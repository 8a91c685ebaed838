//! Source text: widths of lines, and references in comments that must lead somewhere.

use std::path::{Path, PathBuf};

/// The `max_width` of `.rustfmt.toml`. rustfmt does not wrap comments, so this test checks them.
const WIDTH: usize = 120;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Path from the root and text of every file under `folders` whose name ends as in `endings`.
fn files(folders: &[&str], endings: &[&str]) -> Vec<(String, String)> {
    fn walk(at: &Path, found: &mut Vec<PathBuf>) {
        let Ok(entries) = std::fs::read_dir(at) else { return };
        for path in entries.map(|entry| entry.expect("entry").path()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() && !["target", "node_modules", "runs", "out"].contains(&name.as_str()) {
                walk(&path, found);
            } else if path.is_file() {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    folders.iter().for_each(|folder| walk(&root().join(folder), &mut found));
    let read = |path: PathBuf| {
        let name = path.strip_prefix(root()).expect("inside").to_string_lossy().replace('\\', "/");
        endings.iter().any(|end| name.ends_with(end)).then(|| (name, std::fs::read_to_string(&path).expect("text")))
    };
    found.into_iter().filter_map(read).collect()
}

#[test]
fn lines_are_no_wider_than_the_format_says() {
    let all =
        files(&["src", "shaders", "tests", "examples", "benches", "web/src", "web/suite", "xtask"], &[".rs", ".wgsl"]);
    assert!(all.len() > 300);
    let mut wide = Vec::new();
    for (name, text) in &all {
        for (at, line) in text.lines().enumerate().filter(|(_, line)| line.chars().count() > WIDTH) {
            wide.push(format!("{name}:{}: {} columns", at + 1, line.chars().count()));
        }
    }
    assert!(wide.is_empty(), "{} lines of more than {WIDTH} columns:\n{}", wide.len(), wide.join("\n"));
}

/// Every public type has a name of its own, so that a reader need not look up which module it comes from. Two folders
/// are exempt: the oracles in src/cpu are modules of functions that share the names `Dims`, `Grads` and `Out`, and the
/// modules of src/cli are private.
#[test]
fn no_two_public_types_share_a_name() {
    let mut places = std::collections::BTreeMap::<String, Vec<String>>::new();
    for (name, text) in files(&["src"], &[".rs"]) {
        if name.starts_with("src/cpu/") || name.starts_with("src/cli/") {
            continue;
        }
        for (at, line) in text.lines().enumerate() {
            let mut words = line.trim_start().split(|c: char| !(c.is_alphanumeric() || c == '_'));
            if words.next() == Some("pub")
                && words.next().is_some_and(|w| ["struct", "enum", "trait", "type"].contains(&w))
            {
                places.entry(words.next().unwrap_or_default().into()).or_default().push(format!("{name}:{}", at + 1));
            }
        }
    }
    assert!(places.len() > 150, "{} types", places.len());
    places.retain(|name, places| !name.is_empty() && places.len() > 1); // no name: a variable in a macro
    assert!(places.is_empty(), "{places:#?}");
}

/// Folders with which a path from the root of the repository begins.
const FOLDERS: &[&str] = &["src/", "shaders/", "tests/", "examples/", "benches/", "web/", "xtask/"];

/// The paths in a text: words that begin with one of [`FOLDERS`] and end as a source file or page does.
fn paths(text: &str) -> Vec<String> {
    let word = |c: char| c.is_alphanumeric() || "_-./".contains(c);
    let words = text.split(|c| !word(c)).map(|word| word.trim_end_matches(['.', '-']));
    let ours = |word: &&str| FOLDERS.iter().any(|folder| word.starts_with(folder));
    let file =
        |word: &&str| [".rs", ".wgsl", ".md", ".toml", ".py", ".mjs", ".sh"].iter().any(|end| word.ends_with(end));
    words.filter(ours).filter(file).map(String::from).collect()
}

#[test]
fn paths_in_comments_and_pages_exist() {
    let all = files(
        &["src", "shaders", "tests", "examples", "benches", "web/src", "xtask", "README.md"],
        &[".rs", ".wgsl", ".md", ".py"],
    );
    let mut missing = Vec::new();
    for (name, text) in all {
        let code = name.ends_with(".rs") || name.ends_with(".wgsl");
        for (at, line) in text.lines().enumerate() {
            let said = if code { line.split("//").nth(1).unwrap_or_default() } else { line };
            let gone = |path: &String| !root().join(path).exists();
            missing.extend(paths(said).into_iter().filter(gone).map(|path| format!("{name}:{}: {path}", at + 1)));
        }
    }
    assert!(missing.is_empty(), "paths that are not there:\n{}", missing.join("\n"));
}

#[test]
fn decisions_and_sections_that_are_cited_are_in_the_book() {
    let book = std::fs::read_to_string(root().join("src/models/README.md")).expect("the book of models");
    let headings: Vec<&str> = book.lines().filter(|line| line.starts_with('#')).collect();
    let mut wrong = Vec::new();
    for (name, text) in files(
        &["src", "shaders", "tests", "examples", "benches", "web/src", "xtask", "README.md"],
        &[".rs", ".wgsl", ".md", ".py", ".toml"],
    ) {
        for (at, line) in text.lines().enumerate() {
            let mut say = |what: &str| wrong.push(format!("{name}:{}: {what}", at + 1));
            for word in line.split(|c: char| !c.is_alphanumeric() && c != '-') {
                let number = word.strip_prefix("D-").filter(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
                if let Some(number) = number
                    && !headings.iter().any(|heading| heading.contains(&format!("D-{number}:")))
                {
                    say(&format!("D-{number} is no heading of src/models/README.md"));
                }
            }
            let lower = line.to_lowercase();
            let cites = |start: &str| {
                let digit = |rest: &str| rest.trim_start().starts_with(|c: char| c.is_ascii_digit());
                lower.match_indices(start).any(|(i, _)| digit(&lower[i + start.len()..]) && !name.ends_with("text.rs"))
            };
            if ["(spec ", "design section", "spec §"].iter().any(|start| cites(start)) {
                say("cites a text that is not in the repository");
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whoever takes weights that ship with the page finds beside them what they were made of, and what they are not for.
#[test]
fn shipped_weights_have_cards() {
    let assets = root().join("web/assets");
    let folders = std::fs::read_dir(&assets).expect("web/assets").map(|entry| entry.expect("entry").path());
    let mut cards = 0;
    for folder in folders.filter(|folder| folder.join("model.safetensors").exists()) {
        let card = folder.join("README.md");
        let text = std::fs::read_to_string(&card).unwrap_or_else(|e| panic!("{}: {e}", card.display()));
        for part in
            ["| data |", "license", "rowscan pretrain", "**Losses.**", "**What it is for.**", "**What it is not for.**"]
        {
            assert!(text.contains(part), "{} says nothing of `{part}`", card.display());
        }
        cards += 1;
    }
    assert!(cards > 1, "{cards} cards");
}
