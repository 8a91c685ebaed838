//! The manifest of kernels, `src/ops/kernels.md`: each kernel with its oracle test, gradient test, bench, static row
//! and browser test. It is made from what tests and benches launch, never from names in their text:
//!
//! - tests: what each test in `tests/ops` launched when it ran ([`launched`]); `cargo xtask test` writes that down;
//! - benches: what the cases in `src/bench/ops` launch, recorded on devices that only plan;
//! - static rows: the tables in `benches/static/tables`;
//! - browser: the same tests, unless their source says that they are not for wasm32.
//!
//! The first test below needs no adapter and finds a kernel that lacks something. The second compares the manifest with
//! what the tests launched, and makes it anew: `cargo xtask manifest --accept`.

pub mod launched;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rowscan::Error;
use rowscan::bench::{Scope, ops};
use rowscan::gpu::{Caps, Gpu, Kernel, Precision, Tiers};

use launched::Launched;

/// Where the manifest is.
const MANIFEST: &str = "src/ops/kernels.md";

/// What every kernel has.
const PARTS: [&str; 5] = ["oracle test", "gradient test", "bench", "static rows", "browser test"];
const ORACLE: usize = 0;
const GRADIENT: usize = 1;
const BENCH: usize = 2;
const STATIC: usize = 3;
const BROWSER: usize = 4;

/// Parts that kernels do without, and why. The names are beginnings of kernels' names.
const WITHOUT: &[(&str, usize, &str)] = &[
    ("add.forward", GRADIENT, "the gradient of both operands is that of the sum: no kernel computes it"),
    ("adamw.", GRADIENT, "the optimizer: nothing is differentiated through it"),
    ("ema.", GRADIENT, "a moving average of weights: nothing is differentiated through it"),
    ("loss_scale.", GRADIENT, "starts and judges a backward pass, and has none of its own"),
    ("rng.", GRADIENT, "random numbers are constants"),
    ("patchify.", GRADIENT, "images are constants"),
    ("neighbors.", GRADIENT, "indices: nothing is differentiated through them"),
    ("box_refine.", GRADIENT, "boxes of the next stage are constants, as in detectron2"),
    ("attention.weights", GRADIENT, "for pictures: nothing is differentiated through it"),
    ("diffusion.denoise", GRADIENT, "a step of sampling: nothing is differentiated through it"),
    ("info_nce.enqueue", GRADIENT, "keys in the queue are constants"),
    ("diffusion.add_noise", GRADIENT, "noised targets are constants"),
    ("diffusion.embed_time", GRADIENT, "embeddings of noise levels are constants"),
    ("mse_norm.target_forward", GRADIENT, "the target is a constant"),
    ("selective_scan_whole.", STATIC, "for CPUs: no GPU launches it"),
    ("conv2d.direct", BROWSER, "for CPUs, and a browser does not say that its adapter is one"),
    ("matmul.direct_sums", BROWSER, "for CPUs, and a browser does not say that its adapter is one"),
    ("norm.forward_rows", BROWSER, "for CPUs, and a browser does not say that its adapter is one"),
    ("norm.backward_rows", BROWSER, "for CPUs, and a browser does not say that its adapter is one"),
    ("norm.backward_columns", BROWSER, "for CPUs, and a browser does not say that its adapter is one"),
    ("matmul_coop.", BROWSER, "no browser has cooperative matrices"),
    ("attention_coop.", BROWSER, "no browser has cooperative matrices"),
    ("conv2d_coop.", BROWSER, "no browser has cooperative matrices"),
];

/// Kernels that are no operators and stand outside of the manifest, and why.
fn others() -> [(&'static [&'static Kernel], &'static str); 3] {
    [
        (rowscan::tensor::KERNELS, "fill, copy, add and convert: exact, tested in tests/runtime.rs, no family"),
        (rowscan::gpu::SELFTEST_KERNELS, "the self-tests of tiers: their results are known, they run at each start"),
        (rowscan::bench::runner::roof::KERNELS, "they measure peak rates, and compute nothing"),
    ]
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The stem of a family: some have a second shader, for the backward pass, cooperative matrices or a special case.
fn stem(shader: &str) -> &str {
    ["_backward", "_coop", "_depthwise", "_whole"].iter().find_map(|end| shader.strip_suffix(end)).unwrap_or(shader)
}

/// Adapters that choose different kernels: a CPU, a GPU without tiers, and GPUs with all tiers, whose cooperative
/// matrices are 16 or 8 wide.
fn adapters() -> Vec<Caps> {
    let portable = Caps { max_binding: 2 << 30, max_buffer: 2 << 30, ..Caps::portable() };
    let tiers = Tiers { subgroup: true, coop: true };
    let all = |fragment| Caps {
        tiers,
        fragment,
        coop_lanes: 32,
        subgroup_sizes: (32, 32),
        workgroup_memory: 48 << 10,
        ..portable.clone()
    };
    vec![Caps { software: true, ..portable.clone() }, portable.clone(), all(16), all(8)]
}

/// What the benches say of a kernel.
#[derive(Debug, Default)]
struct Benched {
    /// Families whose timed cases launch it: its own, or one without kernels of its own.
    families: BTreeSet<&'static str>,
    /// Whether it is launched where kernels are chosen as for a GPU, which is also the choice in browsers.
    on_gpus: bool,
}

/// Every kernel that a timed case launches, by name.
fn benched() -> BTreeMap<&'static str, Benched> {
    let stems: BTreeSet<&str> = rowscan::ops::all().iter().map(|kernel| stem(kernel.family())).collect();
    let mut found = BTreeMap::<&str, Benched>::new();
    for caps in adapters() {
        let g = Gpu::dry(caps);
        for precision in [Precision::F32, Precision::Mixed, Precision::High] {
            let scope = Scope { precision, ..Scope::default() };
            for case in ops::ALL.iter().flat_map(|&family| ops::of(&scope, family)) {
                let recordings = match case.record(&g) {
                    Ok(recordings) => recordings,
                    Err(Error::Limit { .. }) => continue, // a shape that is too large for the adapter
                    Err(e) => panic!("{case:?}: {e}"),
                };
                for launch in recordings.iter().flat_map(|recording| recording.launches()) {
                    let own = stem(launch.kernel().family()) == case.family || !stems.contains(case.family);
                    let of = found.entry(launch.name()).or_default();
                    of.on_gpus |= !g.caps().software;
                    if own && !case.floors.is_empty() {
                        of.families.insert(case.family);
                    }
                }
            }
        }
    }
    found
}

/// Names of the devices in whose tables a kernel is, by kernel.
fn static_rows() -> (BTreeSet<String>, BTreeMap<String, BTreeSet<String>>) {
    let (mut devices, mut rows) = (BTreeSet::new(), BTreeMap::<String, BTreeSet<String>>::new());
    for entry in std::fs::read_dir(root().join("benches/static/tables")).expect("the tables of benches/static") {
        let path = entry.expect("entry").path();
        let device = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).expect("a table");
        for line in text.lines().skip(2) {
            let kernel = line.split_whitespace().next().unwrap_or_default();
            rows.entry(kernel.into()).or_default().insert(device.clone());
        }
        devices.insert(device);
    }
    (devices, rows)
}

/// A test in `tests/ops`, as its source says.
struct Source {
    /// Whether it is compiled for browsers.
    browser: bool,
}

/// The tests in `tests/ops` by their paths, such as `ops::norm::rms_norm_matches_cpu`.
fn tests() -> BTreeMap<String, Source> {
    fn walk(at: &Path, found: &mut Vec<PathBuf>) {
        for path in std::fs::read_dir(at).expect("tests/ops").map(|entry| entry.expect("entry").path()) {
            if path.is_dir() { walk(&path, found) } else { found.push(path) }
        }
    }
    let mut files = Vec::new();
    walk(&root().join("tests/ops"), &mut files);
    let mut all = BTreeMap::new();
    for file in files {
        let at = file.strip_prefix(root().join("tests")).expect("inside").to_string_lossy().replace(['\\', '/'], "::");
        let module = at.trim_end_matches(".rs").trim_end_matches("::mod");
        let mut attributes = Vec::new();
        for line in std::fs::read_to_string(&file).expect("text").lines() {
            if line.starts_with("#[") {
                attributes.push(line.to_owned());
                continue;
            }
            let name = line.strip_prefix("fn ").and_then(|rest| rest.split('(').next());
            if let Some(name) = name.filter(|_| attributes.iter().any(|a| a == "#[test]")) {
                let browser = !attributes.iter().any(|a| a.contains("not(target_arch = \"wasm32\")"));
                all.insert(format!("{module}::{name}"), Source { browser });
            }
            attributes.clear();
        }
    }
    all
}

/// A kernel and its parts; an empty one is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    kernel: String,
    parts: [String; 5],
}

/// The rows of the manifest in the repository.
fn known() -> Vec<Row> {
    let text = std::fs::read_to_string(root().join(MANIFEST)).unwrap_or_default();
    let row = |line: &str| {
        let cells: Vec<&str> = line.strip_prefix("| `")?.strip_suffix(" |")?.split(" | ").collect();
        let [kernel, parts @ ..] = &cells[..] else { return None };
        let parts: Vec<String> = parts.iter().map(|part| part.trim_matches('`').trim().to_owned()).collect();
        Some(Row { kernel: kernel.trim_end_matches('`').to_owned(), parts: parts.try_into().ok()? })
    };
    text.lines().filter_map(row).collect()
}

/// The manifest as text.
fn text(rows: &[Row]) -> String {
    let mut text = String::from(
        "# Kernels and their parts\n\nMade by `cargo xtask manifest --accept` and checked by \
         [tests/manifest](../../tests/manifest/mod.rs), which says from what. A test\nstands for all that launch the \
         kernel: it is the first by name.\n\n",
    );
    text += &format!("| kernel | {} |\n|---|---|---|---|---|---|\n", PARTS.join(" | "));
    for row in rows {
        let cell = |(at, part): (usize, &String)| match at {
            _ if part.starts_with('–') => part.clone(),
            BENCH | STATIC => part.clone(),
            _ => format!("`{part}`"),
        };
        let cells: Vec<String> = row.parts.iter().enumerate().map(cell).collect();
        text += &format!("| `{}` | {} |\n", row.kernel, cells.join(" | "));
    }
    text += "\nNot in the table, because they are no operators:\n\n";
    for (kernels, why) in others() {
        let names: Vec<String> = kernels.iter().map(|kernel| format!("`{}`", kernel.name)).collect();
        text += &format!("- {}: {why}.\n", names.join(", "));
    }
    text
}

/// The reason why a kernel does without a part, if it does.
fn without(kernel: &str, part: usize) -> Option<String> {
    let found = WITHOUT.iter().find(|(start, of, _)| *of == part && kernel.starts_with(start));
    found.map(|(.., why)| format!("– {why}"))
}

/// The row of a kernel, but for what its tests launch: that is taken from `before`.
fn row(
    kernel: &Kernel, benched: &BTreeMap<&str, Benched>,
    (devices, rows): &(BTreeSet<String>, BTreeMap<String, BTreeSet<String>>), before: Option<&Row>,
) -> Row {
    let mut parts = before.map(|row| row.parts.clone()).unwrap_or_default();
    let families = benched.get(kernel.name).map(|of| of.families.iter().copied().collect::<Vec<_>>());
    parts[BENCH] = families.unwrap_or_default().join(", ");
    // a device without cooperative matrices has no row of a kernel that needs them
    let of = rows.get(kernel.name).cloned().unwrap_or_default();
    let enough = if kernel.needs.coop { !of.is_empty() } else { of == *devices };
    let all = if of == *devices { "all".into() } else { of.into_iter().collect::<Vec<_>>().join(", ") };
    parts[STATIC] = if enough { all } else { String::new() };
    for (at, part) in parts.iter_mut().enumerate() {
        if let Some(why) = without(kernel.name, at) {
            *part = why;
        }
    }
    Row { kernel: kernel.name.into(), parts }
}

/// The name of a kernel without the side of its cooperative matrices. An adapter has them 8 or 16 wide, and the same
/// tests launch whichever it has.
fn any_side(kernel: &str) -> &str {
    kernel.trim_end_matches("16").trim_end_matches('8')
}

/// Rows with what the tests launched. Of a kernel that needs what the adapter lacks, the row stays as it was.
fn with_launches(rows: Vec<Row>, launches: &BTreeSet<Launched>, tiers: Tiers) -> Vec<Row> {
    let (benched, tests) = (benched(), tests());
    let all = rowscan::ops::all();
    let stems: BTreeSet<&str> = all.iter().map(|kernel| stem(kernel.family())).collect();
    let filled = |row: Row| {
        let kernel = all.iter().find(|kernel| kernel.name == row.kernel).expect("a kernel");
        if kernel.needs.coop && !tiers.coop || kernel.needs.subgroup && !tiers.subgroup {
            return row;
        }
        // tests of its own family come first, then those of operators that are composed of several families
        let own = stem(kernel.family());
        let family = |launched: &Launched| launched.test.split("::").nth(1).unwrap_or_default().to_owned();
        let same = |name: &str| match kernel.needs.coop {
            true => any_side(name) == any_side(kernel.name),
            false => name == kernel.name,
        };
        let mut of: Vec<&Launched> = launches.iter().filter(|launched| same(&launched.kernel)).collect();
        of.retain(|launched| family(launched) == own || !stems.contains(family(launched).as_str()));
        of.sort_by_key(|launched| family(launched) != own);
        // a browser does not say that its adapter is a CPU, so kernels for CPUs are launched there only by tests that
        // choose them themselves
        let on_gpus = benched.get(kernel.name).is_some_and(|of| of.on_gpus);
        let browser = |of: &&&Launched| tests.get(&of.test).is_some_and(|test| test.browser) && (on_gpus || !of.cpu);
        let first = |found: Option<&&Launched>| {
            found.map(|launched| launched.test.trim_start_matches("ops::").to_owned()).unwrap_or_default()
        };
        let mut parts = row.parts;
        for (at, found) in [
            (ORACLE, first(of.first())),
            (GRADIENT, first(of.iter().find(|launched| launched.gradient))),
            (BROWSER, first(of.iter().find(browser))),
        ] {
            if without(kernel.name, at).is_none() {
                parts[at] = found;
            }
        }
        Row { parts, ..row }
    };
    rows.into_iter().map(filled).collect()
}

/// The rows of all kernels, with the tests that the manifest in the repository names.
fn rows() -> Vec<Row> {
    let (benched, tables, known) = (benched(), static_rows(), known());
    let mut all = rowscan::ops::all();
    all.sort_by_key(|kernel| kernel.name);
    all.iter()
        .map(|kernel| row(kernel, &benched, &tables, known.iter().find(|row| row.kernel == kernel.name)))
        .collect()
}

/// Kernels and parts that are missing, as text.
fn missing(rows: &[Row]) -> Vec<String> {
    let of = |row: &Row| -> Vec<String> {
        let empty = row.parts.iter().zip(PARTS).filter(|(part, _)| part.is_empty());
        empty.map(|(_, what)| format!("{}: no {what}", row.kernel)).collect()
    };
    rows.iter().flat_map(of).collect()
}

const HOW: &str = "`cargo xtask manifest --accept` makes it anew, and says what is missing";

#[test]
fn every_kernel_has_its_parts() {
    let rows = rows();
    let missing = missing(&rows);
    assert!(missing.is_empty(), "{}\n{MANIFEST}: {HOW}", missing.join("\n"));
    let tests = tests();
    for row in &rows {
        for (at, part) in
            row.parts.iter().enumerate().filter(|(at, part)| ![BENCH, STATIC].contains(at) && !part.starts_with('–'))
        {
            assert!(tests.contains_key(&format!("ops::{part}")), "{}: no {} `{part}`: {HOW}", row.kernel, PARTS[at]);
        }
    }
    let text = text(&rows);
    let found = std::fs::read_to_string(root().join(MANIFEST)).expect("the manifest");
    assert!(found == text, "{MANIFEST} is not what the kernels, the benches and the tables say: {HOW}");
    // an exception that no kernel needs would excuse one that comes later
    for (start, at, why) in WITHOUT {
        let excused = rows.iter().any(|row| row.kernel.starts_with(start) && row.parts[*at] == format!("– {why}"));
        assert!(excused, "{start}: no kernel does without {}", PARTS[*at]);
    }
}

#[test]
fn what_nothing_launches_is_missing() {
    let all = rowscan::ops::all();
    let kernel = all.iter().find(|kernel| kernel.name == "scale.forward").expect("a kernel");
    let tables = (BTreeSet::from(["made_up".to_owned()]), BTreeMap::new());
    let none = row(kernel, &BTreeMap::new(), &tables, None);
    let lacks = |launches: &[(&str, bool)]| {
        let of = |(test, gradient): &(&str, bool)| Launched {
            test: (*test).into(),
            kernel: kernel.name.into(),
            gradient: *gradient,
            cpu: true,
        };
        let rows = with_launches(vec![none.clone()], &launches.iter().map(of).collect(), Tiers::default());
        let missing = missing(&rows);
        missing.iter().map(|line| line.trim_start_matches("scale.forward: no ").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(lacks(&[]), PARTS);
    assert_eq!(lacks(&[("ops::norm::layer_norm_matches_cpu", true)]), PARTS, "the test of another family");
    assert_eq!(lacks(&[("ops::scale::is_no_test", false)]), ["gradient test", "bench", "static rows", "browser test"]);
    assert_eq!(lacks(&[("ops::scale::scale_matches_cpu", true)]), ["bench", "static rows"]);
}

/// `cargo xtask test` and `cargo xtask manifest` run this after the tests of the operators. The latter takes all cases
/// of sampled tests, and the manifest has to be exactly what they launch. A sample leaves some kernels out, others on
/// other days: then most of them have to be launched, and the test above sees to it that the manifest names tests for
/// all.
#[test]
#[ignore = "reads what the tests of the operators launched: cargo xtask manifest"]
fn tests_launch_what_the_manifest_says() {
    let path = launched::file().expect("ROWSCAN_LAUNCHED names the file that the tests wrote");
    let launches = launched::read(&path);
    let Some(g) = crate::common::gpu() else { panic!("no adapter") };
    if !g.caps().software {
        // a GPU takes other kernels than a CPU, and no device of it chooses as a CPU does
        println!("SKIPPED: the manifest names what tests launch on a software adapter; this is {}", g.caps().name);
        return;
    }
    let rows = with_launches(rows(), &launches, g.caps().tiers);
    let text = text(&rows);
    let manifest = root().join(MANIFEST);
    if std::env::var("ROWSCAN_ACCEPT").is_ok_and(|v| v == "1") {
        std::fs::write(&manifest, &text).unwrap_or_else(|e| panic!("{MANIFEST}: {e}"));
        println!("{MANIFEST}: {} kernels", rows.len());
    }
    let missing = missing(&rows);
    if !std::env::var("ROWSCAN_TEST_SHARE").is_ok_and(|v| v == "1") {
        println!("without a turn by this seed:\n{}", missing.join("\n"));
        assert!(10 * missing.len() <= rows.len(), "{} of {} kernels", missing.len(), rows.len());
        return;
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
    let found = std::fs::read_to_string(&manifest).expect("the manifest");
    assert!(found == text, "{MANIFEST} is not what the tests launched: {HOW}");
}
