//! Links inside an archive, resolved as a file system would: which file each path leads to.
use super::decode::is_image_name;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What lies at a path of an archive.
#[derive(Serialize, Deserialize)]
pub(crate) enum Node {
    /// A file, as its number.
    File(usize),
    /// Another name of the file at a path from the root of the archive.
    Hard(String),
    /// A symbolic link, with what it says.
    Symbolic(String),
}

/// Everything in an archive, by [`normal`] paths.
pub(crate) type Nodes = BTreeMap<String, Node>;

/// Links followed from one path at most; a file system gives up at as many.
const MOST_HOPS: usize = 40;

/// `path` from the root of the archive, without `.`, `..` and double slashes. What leads above the root stays in it:
/// `tar` removes a leading `../` likewise.
pub(crate) fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Where a path leads.
enum Target {
    File(usize),
    Folder(String),
    Nothing,
}

/// Every image of an archive with the number of its file: a link to an image is an image of its own, as in a folder.
///
/// A link to a folder of the archive is passed over, because the images in it are there already. So are images in a
/// hidden folder; folders that hold all images do not count, for they are only where the archive was made.
///
/// # Errors
/// The name of an image that leads to nothing, and why.
pub(crate) fn images(archive: &str, nodes: &Nodes) -> Result<Vec<(String, usize)>, String> {
    let above = common_folder(nodes);
    let hidden = |path: &str| path.get(above..).is_some_and(is_hidden);
    let (mut found, mut passed) = (Vec::new(), 0);
    for (path, node) in nodes {
        let image = is_image_name(path);
        match locate(nodes, path) {
            _ if hidden(path) => passed += usize::from(image),
            Target::File(file) if image => found.push((path.clone(), file)),
            Target::File(_) => {}
            Target::Folder(folder) if hidden(&folder) => {
                let below = nodes.range(format!("{folder}/")..).take_while(|(other, _)| within(other, &folder));
                for (other, _) in below.filter(|(other, _)| is_image_name(other)) {
                    if let Target::File(file) = locate(nodes, other) {
                        found.push((format!("{path}{}", &other[folder.len()..]), file));
                    }
                }
            }
            Target::Folder(folder) => {
                tracing::warn!("{archive}: {path} is a link to {folder}/, whose images are there already: passed over");
            }
            Target::Nothing => match node {
                Node::Symbolic(target) if !image => {
                    tracing::warn!("{archive}: {path} is a link to {target}, which is not in the archive: passed over");
                }
                Node::Hard(target) | Node::Symbolic(target) if image => {
                    let advice = "make the archive again with that file, or with `tar -h` or `zip -r`";
                    return Err(format!("{path} is a link to {target}, which is not in the archive: {advice}"));
                }
                _ => {}
            },
        }
    }
    if passed > 0 {
        tracing::warn!("{archive}: {passed} images in hidden folders are passed over");
    }
    Ok(found)
}

/// Every path of an archive that leads to a file, with its number.
pub(crate) fn files(nodes: &Nodes) -> Vec<(String, usize)> {
    let file = |path: &String| match locate(nodes, path) {
        Target::File(file) => Some((path.clone(), file)),
        Target::Folder(_) | Target::Nothing => None,
    };
    nodes.keys().filter_map(file).collect()
}

/// Whether a part of the path is hidden, or made by an archiver of macOS.
pub(crate) fn is_hidden(path: &str) -> bool {
    path.split('/').any(|part| part.starts_with('.') || part == "__MACOSX")
}

fn within(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

/// Length of the path, with its slash, of the folder that holds all images; 0 if that is the root.
fn common_folder(nodes: &Nodes) -> usize {
    let mut paths = nodes.keys().filter(|path| is_image_name(path) && !path.starts_with("__MACOSX/"));
    let Some(first) = paths.next() else { return 0 };
    // Paths are sorted, so that the first and the last share what all share.
    let last = paths.next_back().unwrap_or(first);
    let same = first.bytes().zip(last.bytes()).take_while(|(a, b)| a == b).count();
    first[..first.floor_char_boundary(same)].rfind('/').map_or(0, |slash| slash + 1)
}

fn locate(nodes: &Nodes, path: &str) -> Target {
    let mut path = path.to_owned();
    'hop: for _ in 0..MOST_HOPS {
        match nodes.get(&path) {
            Some(Node::File(file)) => return Target::File(*file),
            Some(Node::Hard(target)) => {
                path = normal(target);
                continue;
            }
            Some(Node::Symbolic(target)) => {
                path = beside(&path, target);
                continue;
            }
            None => {}
        }
        for (slash, _) in path.match_indices('/') {
            if let Some(Node::Symbolic(target)) = nodes.get(&path[..slash]) {
                path = beside(&path[..slash], target) + &path[slash..];
                continue 'hop;
            }
        }
        let folder = nodes.range(format!("{path}/")..).next().is_some_and(|(other, _)| within(other, &path));
        return if folder || path.is_empty() { Target::Folder(path) } else { Target::Nothing };
    }
    Target::Nothing
}

/// The path that a link at `path` means by `target`.
fn beside(path: &str, target: &str) -> String {
    match target.starts_with('/') {
        true => normal(target),
        false => normal(&format!("{path}/../{target}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(all: &[(&str, Node)]) -> Nodes {
        let copy = |node: &Node| match node {
            Node::File(i) => Node::File(*i),
            Node::Hard(t) => Node::Hard(t.clone()),
            Node::Symbolic(t) => Node::Symbolic(t.clone()),
        };
        all.iter().map(|(path, node)| (normal(path), copy(node))).collect()
    }

    fn found(all: &[(&str, Node)]) -> Vec<(String, usize)> {
        images("set.tar", &nodes(all)).unwrap()
    }

    fn to(target: &str) -> Node {
        Node::Symbolic(target.into())
    }

    #[test]
    fn paths_have_one_form() {
        for (path, expected) in
            [("./a//b.png", "a/b.png"), ("../../a/b", "a/b"), ("a/../b/./c", "b/c"), ("/x/y/", "x/y"), ("..", "")]
        {
            assert_eq!(normal(path), expected, "{path}");
        }
    }

    #[test]
    fn links_to_images_are_images() {
        let all = [
            ("s/a/0.png", Node::File(0)),
            ("s/a/1.png", Node::File(1)),
            ("s/b/0.png", Node::Hard("./s/a/0.png".into())),
            ("s/b/1.png", to("../a/1.png")),
            ("s/b/2.png", to("0.png")),
            ("s/b/3.png", to("/s/b/1.png")),
            ("s/b/4.png", to("../up/a/0.png")), // through a linked folder
            ("s/up", to("../s")),
            ("s/readme.txt", to("elsewhere")),
        ];
        let paths = ["s/a/0.png", "s/a/1.png", "s/b/0.png", "s/b/1.png", "s/b/2.png", "s/b/3.png", "s/b/4.png"];
        let files = [0, 1, 0, 1, 0, 1, 0];
        let expected: Vec<(String, usize)> = paths.map(str::to_owned).into_iter().zip(files).collect();
        assert_eq!(found(&all), expected);
    }

    #[test]
    fn linked_folders_are_counted_once_unless_they_are_hidden() {
        let all = [
            ("a/0.png", Node::File(0)),
            ("b/0.png", Node::File(1)),
            ("latest", to("b")),
            ("a/up", to("..")),
            ("a/self", to(".")),
            ("loop", to("loop")),
            ("c", to(".store/x")),
            (".store/x/0.png", Node::File(2)),
        ];
        let paths: Vec<String> = found(&all).into_iter().map(|(path, _)| path).collect();
        assert_eq!(paths, ["a/0.png", "b/0.png", "c/0.png"]);
    }

    #[test]
    fn an_image_that_leads_nowhere_is_refused() {
        for (node, target) in
            [(to("../../x.png"), "../../x.png"), (Node::Hard("x".into()), "x"), (to("1.png"), "1.png")]
        {
            let error = images("set.tar", &nodes(&[("a/0.png", Node::File(0)), ("a/1.png", node)])).unwrap_err();
            assert!(error.contains("a/1.png is a link to") && error.contains(target), "{error}");
            assert!(error.contains("make the archive again"), "{error}");
        }
    }

    #[test]
    fn hidden_folders_above_all_images_do_not_hide_them() {
        let below = |folder: &str| {
            let names = ["a/0.png", "a/1.png", "b/0.png", "b/.x.png", "b/.hidden/0.png", "__MACOSX/b/0.png"];
            let paths: Vec<String> = names.iter().map(|name| format!("{folder}{name}")).collect();
            let all: Vec<_> = paths.iter().enumerate().map(|(i, path)| (path.as_str(), Node::File(i))).collect();
            found(&all).len()
        };
        for folder in ["", "s/", ".cache/", "root/.cache/data/", "../data/", "./.x/../.y/", "ä/.ö/"] {
            assert_eq!(below(folder), 3, "{folder}");
        }
    }
}
