//! The structure of `src`, read from its imports: files and folders form no circle, a room uses only rooms below it,
//! and only `gpu` names wgpu.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The top-level modules of `src`, called rooms, from the lowest up. A room may use itself and the rooms before it.
const ROOMS: &[&str] = &[
    "error",
    "zip",
    "files",
    "gpu",
    "doctest",
    "tensor",
    "tape",
    "cpu",
    "ops",
    "nn",
    "models",
    "data",
    "train",
    "infer",
    "session",
    "run",
    "study",
    "conformance",
    "bench",
    "cli",
];
/// The root files of the library and the program. They may name every room.
const ROOTS: &[&str] = &["lib", "main"];

/// A module, as its path from the crate root.
type Module = Vec<String>;

struct Source {
    path: String,
    text: String,
}

/// Every file of `src`, by its module.
fn sources() -> BTreeMap<Module, Source> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).expect("src is readable") {
            let path = entry.expect("entry").path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    walk(&src, &mut files);
    let module = |file: PathBuf| {
        let path = file.strip_prefix(&src).expect("inside src").to_string_lossy().replace('\\', "/");
        let mut module: Module = path.trim_end_matches(".rs").split('/').map(String::from).collect();
        module.pop_if(|last| last == "mod");
        (module, Source { text: std::fs::read_to_string(&file).expect("source is readable"), path })
    };
    files.into_iter().map(module).collect()
}

/// Rust code without comments, strings and unit tests. Unit tests come last in a file and may import anything.
fn code(text: &str) -> String {
    let mut code = String::new();
    for line in text.lines() {
        if line.starts_with("#[cfg(test)]") || line.starts_with("#[cfg(all(test") {
            break;
        }
        // a path that begins with `$crate` belongs to the code that uses the macro
        let line = line.split("//").next().unwrap_or_default().replace("$crate", "");
        code.push_str(&line.split('"').step_by(2).collect::<Vec<_>>().join("\"\""));
        code.push('\n');
    }
    code
}

/// The full paths of a use tree: for `a::{b, c::{d, e}}` they are a::b, a::c::d and a::c::e.
fn leaves(tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else {
        return vec![tree.split(" as ").next().unwrap_or_default().trim().to_string()];
    };
    let inner = &tree[open + 1..tree.rfind('}').unwrap_or(tree.len())];
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (at, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&inner[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&inner[start..]);
    let whole = |part: &str| leaves(part).into_iter().map(|leaf| format!("{}{leaf}", tree[..open].trim()));
    parts.into_iter().filter(|part| !part.trim().is_empty()).flat_map(whole).collect()
}

/// Every path that a file names: in `use` statements, and elsewhere if it begins with `crate` or `super`.
fn paths(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for statement in code.split(';') {
        let at = statement.rfind("use ").filter(|at| {
            let before = statement[..*at].lines().last().unwrap_or_default().trim();
            before.is_empty() || before.starts_with("pub")
        });
        if let Some(at) = at {
            found.extend(leaves(&statement[at + 4..]));
        }
    }
    let word = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    found.extend(
        code.split(|c| !word(c)).filter(|p| p.starts_with("crate::") || p.starts_with("super::")).map(String::from),
    );
    found
}

/// The module that `path`, written in the module `from`, leads to. `None` outside of the crate, and for `from` itself.
fn target<'a>(all: &'a BTreeMap<Module, Source>, from: &Module, path: &str) -> Option<&'a Module> {
    let mut parts = path.split("::").map(str::trim).peekable();
    let mut at = match *parts.peek()? {
        "crate" => Module::new(),
        "self" | "super" => from.clone(),
        child if all.contains_key(&[from.as_slice(), &[child.to_string()]].concat()) => from.clone(),
        _ => return None,
    };
    for part in parts {
        match part {
            "crate" | "self" => {}
            "super" => drop(at.pop()),
            part => at.push(part.to_string()),
        }
    }
    while !at.is_empty() && !all.contains_key(&at) {
        at.pop();
    }
    all.get_key_value(&at).map(|(module, _)| module).filter(|module| *module != from)
}

/// Pairs of modules: (importer, imported).
fn arrows(all: &BTreeMap<Module, Source>) -> BTreeSet<(&Module, &Module)> {
    let mut arrows = BTreeSet::new();
    for (from, source) in all.iter().filter(|(module, _)| !ROOTS.contains(&module[0].as_str())) {
        for path in paths(&code(&source.text)) {
            arrows.extend(target(all, from, &path).map(|to| (from, to)));
        }
    }
    arrows
}

/// The nodes of a circle, if there is one.
fn circle<T: Ord + Clone>(arrows: &BTreeSet<(T, T)>) -> Option<Vec<T>> {
    fn visit<T: Ord + Clone>(
        node: &T, arrows: &BTreeSet<(T, T)>, way: &mut Vec<T>, done: &mut BTreeSet<T>,
    ) -> Option<Vec<T>> {
        if let Some(at) = way.iter().position(|n| n == node) {
            return Some(way.split_off(at));
        }
        if done.contains(node) {
            return None;
        }
        way.push(node.clone());
        let from_here = arrows.iter().filter(|(from, _)| from == node);
        let found = from_here.map(|(_, to)| to).find_map(|to| visit(to, arrows, way, done));
        if found.is_none() {
            done.extend(way.pop());
        }
        found
    }
    let mut done = BTreeSet::new();
    arrows.iter().find_map(|(from, _)| visit(from, arrows, &mut Vec::new(), &mut done))
}

#[test]
fn no_file_needs_what_needs_it() {
    let all = sources();
    assert!(all.len() > 100);
    let circle = circle(&arrows(&all)).map(|way| way.iter().map(|m| all[*m].path.clone()).collect::<Vec<_>>());
    assert_eq!(circle, None, "files that import each other in a circle");
}

#[test]
fn no_folder_needs_what_needs_it() {
    let all = sources();
    // a graph for each folder; its nodes are the files and folders in it, without its own mod.rs
    let mut folders: BTreeMap<&[String], BTreeSet<(String, String)>> = BTreeMap::new();
    for (from, to) in arrows(&all) {
        let shared = from.iter().zip(to).take_while(|(a, b)| a == b).count();
        if let (Some(a), Some(b)) = (from.get(shared), to.get(shared)) {
            folders.entry(&from[..shared]).or_default().insert((a.clone(), b.clone()));
        }
    }
    for (folder, arrows) in folders {
        assert_eq!(circle(&arrows), None, "a circle of folders and files in src/{}", folder.join("/"));
    }
}

#[test]
fn arrows_point_down() {
    let all = sources();
    let rank = |module: &Module| ROOMS.iter().position(|room| *room == module[0]);
    for (module, source) in all.iter().filter(|(module, _)| !ROOTS.contains(&module[0].as_str())) {
        let (path, room) = (&source.path, &module[0]);
        assert!(rank(module).is_some(), "{path}: which room is `{room}`? Add it to ROOMS, above what it uses");
        assert!(room == "gpu" || !code(&source.text).contains("wgpu::"), "{path} names wgpu");
        let outside = ["use rand", "use rayon", "use crate"];
        assert!(
            room != "cpu"
                || !outside.iter().any(|name| code(&source.text).contains(name))
                || source.text.contains("crate::cpu"),
            "{path}: the oracle imports std only"
        );
    }
    for (from, to) in arrows(&all).into_iter().filter(|(_, to)| !to.is_empty()) {
        let (a, b) = (&all[from].path, &all[to].path);
        assert!(rank(to) <= rank(from), "{a} may not use {b}: {} is above {}", to[0], from[0]);
        assert!(
            to[0] != "cpu" || ["cpu", "bench"].contains(&from[0].as_str()),
            "{a} may not use {b}: tests compare with the oracle"
        );
        assert!(from[0] != "cpu" || to[0] == "cpu", "{a} may not use {b}: the oracle imports std only");
    }
}

/// Only the command line has flags. Errors of the library name fields of settings, and src/cli turns them into flags.
#[test]
fn the_library_names_fields_and_the_command_line_flags() {
    const PROGRAM: &[&str] = &["cli", "bench", "conformance"];
    for (module, source) in sources().iter().filter(|(module, _)| !PROGRAM.contains(&module[0].as_str())) {
        let library = source.text.lines().take_while(|line| !line.starts_with("#[cfg(test)]"));
        for line in library.filter(|line| !line.trim_start().starts_with("//")) {
            let strings = line.split('"').skip(1).step_by(2);
            let flag =
                strings.flat_map(|text| text.split("--").skip(1)).find(|rest| rest.starts_with(char::is_alphabetic));
            assert_eq!(flag, None, "{}: a flag in `{}`", source.path, module.join("::"));
        }
    }
}

#[test]
fn what_the_graph_is_read_from() {
    let all: BTreeMap<Module, Source> = [("a", ""), ("a/b", ""), ("a/c", ""), ("d", "")]
        .map(|(path, text)| {
            (path.split('/').map(String::from).collect(), Source { path: path.into(), text: text.into() })
        })
        .into();
    let text =
        "pub use b::X;\nuse crate::{a::{b::Y, c}, d};\nfn f() { super::d::g() } // crate::none\n#[cfg(test)]\nuse e;";
    let found = paths(&code(text));
    assert_eq!(found, ["b::X", "crate::a::b::Y", "crate::a::c", "crate::d", "crate::", "super::d::g"]);
    let to = |path: &str| target(&all, &vec!["a".to_string()], path).map(|m| m.join("/"));
    assert_eq!(
        ["b::X", "crate::a::c", "super::d::g", "std::fmt", "self::b"].map(to),
        [Some("a/b"), Some("a/c"), Some("d"), None, Some("a/b")].map(|m| m.map(String::from))
    );
    let arrows = |list: &[(u8, u8)]| list.iter().copied().collect();
    assert_eq!(circle(&arrows(&[(1, 2), (2, 3), (1, 3)])), None);
    assert_eq!(circle(&arrows(&[(1, 2), (2, 3), (3, 2)])), Some(vec![2, 3]));
}
