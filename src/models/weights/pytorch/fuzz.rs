//! Pickles that are made to harm, and random ones: no panic, no hang, no memory beyond what the file is worth.
//!
//! The seed of a run is printed; ROWSCAN_FUZZ_SEED repeats it, ROWSCAN_FUZZ_CASES says how many files to try.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::tests::{Pickle, legacy, zipped};
use super::*;

/// A runner with a seed that is printed.
pub(crate) fn runner() -> TestRunner {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let clock = || std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos() as u64);
    let (seed, cases) =
        (number("ROWSCAN_FUZZ_SEED").unwrap_or_else(clock), number("ROWSCAN_FUZZ_CASES").unwrap_or(2000));
    eprintln!("ROWSCAN_FUZZ_SEED={seed}");
    let bytes: Vec<u8> = (0..4).flat_map(|i| seed.wrapping_add(i).to_le_bytes()).collect();
    let config = Config { cases: cases as u32, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

fn in_time<T>(what: &str, read: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = read();
    assert!(start.elapsed() < Duration::from_secs(10), "{what}: {:?}", start.elapsed());
    result
}

fn file() -> (Pickle, Vec<u8>) {
    let values: Vec<u8> = (0..24).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let tensor = |offset, shape: &[usize], strides: &[usize]| {
        Pickle::default().tensor("FloatStorage", "0", 24, offset, shape, strides)
    };
    let weights = [("a", tensor(0, &[4, 6], &[6, 1])), ("b", tensor(3, &[2, 2], &[1, 7]))];
    let epoch = ("epoch", Pickle::default().op(b"K\x07"));
    (Pickle::default().dictionary(&[("model", Pickle::default().dictionary(&weights)), epoch]), values)
}

#[test]
fn made_to_harm() {
    let refused = |what: &str, object: Pickle| {
        let bytes = zipped(&object, &[("0", vec![0; 4], 4)]);
        in_time(what, || read_pytorch(&bytes, None)).expect_err(what)
    };
    let times = |n: usize, bytes: &[u8]| bytes.repeat(n);
    refused("a million tuples inside each other", Pickle::default().op(b"N").op(&times(1_000_000, b"\x85")));
    refused(
        "a million lists inside each other",
        Pickle::default().op(&times(1_000_000, b"]")).op(&times(999_999, b"a")),
    );
    refused("a million marks", Pickle::default().op(&times(1_000_000, b"(")).op(b"N"));
    // 2000 dictionaries that each hold all of them
    let mut object = Pickle::default();
    for i in 0..2000u32 {
        object = object.op(b"}r").op(&i.to_le_bytes());
    }
    for i in 0..2000u32 {
        object = object.op(b"j").op(&i.to_le_bytes()).op(b"(");
        for k in 0..200u32 {
            object = object.text("k").op(b"j").op(&(i * 7 + k * 10).rem_euclid(2000).to_le_bytes());
        }
        object = object.op(b"u");
    }
    refused("dictionaries in circles", object);
    // one name of a million letters for 100,000 tensors
    let tensor = Pickle::default().tensor("FloatStorage", "0", 1, 0, &[1], &[1]);
    let mut object = Pickle::default().text(&"n".repeat(1_000_000)).op(b"q\x01").op(&tensor.0).op(b"q\x02}(");
    object = object.op(&times(100_000, b"h\x01h\x02")).op(b"u");
    assert!(refused("a long name", object).contains("repeats the names"));
    // tensors that unfold: shape (2^40) over one number
    let object =
        Pickle::default().dictionary(&[("w", Pickle::default().tensor("FloatStorage", "0", 1, 0, &[1 << 40], &[0]))]);
    assert!(refused("a tensor of stride 0", object).contains("values for each of its"));
    // a thousand texts that claim 2 GB, and a memo with far places
    refused("long lengths", Pickle::default().op(&times(1000, b"X\xff\xff\xff\x7f")));
    refused(
        "far places",
        Pickle::default().op(b"N").op(&times(1000, b"r\xff\xff\xff\xff")).op(&times(1000, b"p999999999999\n")),
    );
}

/// Instructions with random operands, so that most are accepted and go on.
fn instruction() -> impl Strategy<Value = Vec<u8>> {
    let alone = prop::sample::select(b"(012N})].tdlaeus\x85\x86\x87\x88\x89\x8f\x90\x91\x93\x94Rb\x81Q".to_vec());
    let names = [
        "collections\nOrderedDict",
        "torch._utils\n_rebuild_tensor_v2",
        "torch\nFloatStorage",
        "argparse\nNamespace",
        "torch._utils\n_rebuild_parameter",
        "torch._tensor\n_rebuild_from_type_v2",
        "os\nsystem",
    ];
    prop_oneof![
        6 => alone.prop_map(|code| vec![code]),
        2 => any::<u8>().prop_map(|n| vec![b'K', n]),
        2 => (prop::sample::select(vec![b'q', b'h']), 0u8..4).prop_map(|(code, at)| vec![code, at]),
        1 => prop::sample::select(vec!["storage", "0", "w", "model"]).prop_map(|text| Pickle::default().text(text).0),
        1 => prop::sample::select(names.to_vec()).prop_map(|name| format!("c{name}\n").into_bytes()),
        1 => Just(Pickle::default().tensor("FloatStorage", "0", 24, 0, &[4], &[1]).0),
        1 => prop::collection::vec(any::<u8>(), 1..6),
    ]
}

#[test]
fn random_instructions() {
    let values = vec![0u8; 96];
    let programs = prop::collection::vec(instruction(), 0..60);
    let run = runner().run(&programs, |program| {
        let object = Pickle(program.concat());
        let storages = [("0", values.clone(), 4)];
        let pickle = pickle::read(&object.0);
        prop_assert!(pickle.is_err() || pickle.is_ok_and(|read| read.all.len() <= object.0.len() + 1));
        for file in [zipped(&object, &storages), legacy(&object, &storages)] {
            if let Ok(read) = in_time("random instructions", || read_pytorch(&file, None)) {
                let count: usize = read.weights.values().map(|(_, values)| values.len()).sum();
                prop_assert!(count <= 2 * file.len());
            }
        }
        Ok(())
    });
    run.unwrap();
}

#[test]
fn random_damage() {
    let (object, values) = file();
    let storages = [("0", values, 4)];
    let files = [zipped(&object, &storages), legacy(&object, &storages)];
    let damage = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0usize..3), 1..4);
    let run = runner().run(&(0usize..2, damage), |(which, damage)| {
        let mut bytes = files[which].clone();
        for (at, value, how) in damage {
            let at = at.index(bytes.len().max(1));
            match how {
                0 if at < bytes.len() => bytes[at] = value,
                1 => bytes.truncate(at.max(1)),
                _ => drop(bytes.splice(at..at, [value; 3])),
            }
        }
        for key in [None, Some("model"), Some("model.a")] {
            let read = in_time("random damage", || read_pytorch(&bytes, key));
            let count = read.map_or(0, |read| read.weights.values().map(|(_, values)| values.len()).sum());
            prop_assert!(count <= 2 * bytes.len());
        }
        Ok(())
    });
    run.unwrap();
}
