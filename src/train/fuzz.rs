//! Headers of safetensors files, and configurations in JSON and TOML, that somebody damaged or made up: no panic, no
//! hang, no memory beyond what the file is worth.
//!
//! The seed of a run is printed; ROWSCAN_FUZZ_SEED repeats it, ROWSCAN_FUZZ_CASES says how many files to try.

use std::path::Path;

use proptest::prelude::*;

use super::about::About;
use super::checkpoint::{State, config_from_bytes, config_to_bytes, state_from_bytes, state_to_bytes};
use super::options::read_table;
use super::pretrain::settings::{PretrainArgs, PretrainSettings};
use super::weights_file::{content, from_bytes, metadata, to_bytes};
use crate::models::{Config, runner};
use crate::nn::Weights;

/// A change of some bytes: another one, a piece of JSON or TOML, a cut.
pub(crate) fn damage() -> impl Strategy<Value = Vec<(prop::sample::Index, Option<Vec<u8>>, usize)>> {
    let pieces = [
        "{",
        "}",
        "[",
        "]",
        "\"",
        ",",
        ":",
        "-1",
        "1e999",
        "18446744073709551616",
        "null",
        "\u{0}",
        "\\u0000",
        "\"F32\"",
        "\"F64\"",
        "\"I64\"",
        "[0,0]",
        "[9223372036854775807]",
        "=",
        "\n",
        "\"__metadata__\"",
    ];
    let piece = prop::sample::select(pieces.to_vec()).prop_map(|piece| piece.as_bytes().to_vec());
    let one = prop_oneof![
        4 => piece.prop_map(Some),
        3 => any::<u8>().prop_map(|byte| Some(vec![byte])),
        1 => Just(None),
    ];
    prop::collection::vec((any::<prop::sample::Index>(), one, 0usize..8), 1..5)
}

pub(crate) fn damaged(bytes: &[u8], damage: Vec<(prop::sample::Index, Option<Vec<u8>>, usize)>) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for (at, piece, gone) in damage {
        let at = at.index(bytes.len().max(1)).min(bytes.len());
        match piece {
            Some(piece) => drop(bytes.splice(at..(at + gone).min(bytes.len()), piece)),
            None => bytes.truncate(at),
        }
    }
    bytes
}

#[test]
fn headers_of_safetensors() {
    let tensor = |n: usize| (vec![n, 2], vec![0.5; 2 * n]);
    let weights = Weights::from([("a".to_string(), tensor(3)), ("b.c".into(), tensor(1)), ("d".into(), tensor(0))]);
    let about = About { classes: Some(vec!["x".into(), "y".into()]), crop_ratio: Some(0.9), ..About::default() };
    let whole = to_bytes(&weights, about.to_metadata().unwrap()).unwrap();
    let path = Path::new("w.safetensors");
    assert_eq!(About::of_metadata(metadata(path, &whole).unwrap()).classes, about.classes);
    let run = runner().run(&(damage(), any::<bool>()), |(damage, fits)| {
        let mut bytes = damaged(&whole, damage);
        if fits && bytes.len() > 8 {
            // a length that fits the damaged header, so that the header itself is read
            let header = bytes.iter().rposition(|byte| *byte == b'}').map_or(0, |end| end.saturating_sub(7)) as u64;
            bytes[..8].copy_from_slice(&header.to_le_bytes());
        }
        let read = content(path, &bytes);
        let values: usize = read.iter().flat_map(|read| read.weights.values()).map(|(_, values)| values.len()).sum();
        prop_assert!(values <= bytes.len());
        prop_assert!(from_bytes(path, &bytes).map_or(true, |_| read.is_ok()));
        let _ = metadata(path, &bytes).map(About::of_metadata);
        Ok(())
    });
    run.unwrap();
}

#[test]
fn configurations_in_json() {
    let path = Path::new("config.json");
    let config = config_to_bytes(&Config::preset("micro").unwrap()).unwrap();
    let state = state_to_bytes(&State::new(7, None, PretrainSettings::default())).unwrap();
    assert!(config_from_bytes(path, &config).is_ok() && state_from_bytes::<PretrainSettings>(path, &state).is_ok());
    let run = runner().run(&damage(), |damage| {
        if let Ok(config) = config_from_bytes(path, &damaged(&config, damage.clone())) {
            prop_assert!(config.validate().is_ok());
        }
        let _ = state_from_bytes::<PretrainSettings>(path, &damaged(&state, damage));
        Ok(())
    });
    run.unwrap();
    let deep = [b"{\"name\":".to_vec(), b"[".repeat(1_000_000)].concat();
    assert!(config_from_bytes(path, &deep).is_err());
}

#[cfg(feature = "files")]
#[test]
fn options_in_toml() {
    let text = "method = \"map\"\nlr = 0.001\nepochs = 3\nmask-ratio = 0.5\n[more]\nx = [1, 2]\n";
    let run = runner().run(&damage(), |damage| {
        let text = String::from_utf8_lossy(&damaged(text.as_bytes(), damage)).into_owned();
        if let Ok(table) = toml::from_str::<toml::Table>(&text) {
            let _ = read_table::<PretrainArgs>("options.toml", &table, &["method", "lr", "epochs", "mask-ratio"]);
        }
        Ok(())
    });
    run.unwrap();
}
